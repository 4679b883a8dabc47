"""Key pairs as cosign keeps them: ECDSA on P-256, the private half encrypted by a password or plain PKCS #8.

An encrypted key is a PEM block around a JSON document: scrypt makes a key of the password, and NaCl's secretbox
seals the PKCS #8 bytes with it. The document is that of securesystemslib's `encrypted` package; the labels are those
of cosign's pkg/cosign/keys.go, of which the older is still read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from lightship.errors import IntegrityError, LightshipError, ProjectError, StorageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

PASSWORD_VARIABLE = "COSIGN_PASSWORD"  # noqa: S105  # cosign's own name for it
SIGSTORE_LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"  # what cosign writes since 2.0
COSIGN_LABEL = "ENCRYPTED COSIGN PRIVATE KEY"  # what it wrote before
_PLAIN_LABELS = ("PRIVATE KEY", "EC PRIVATE KEY")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----\s+([A-Za-z0-9+/=\s]+)-----END \1-----")

MAX_KEY_FILE = 64 << 10  # bytes
SCRYPT_N, SCRYPT_R, SCRYPT_P = 65536, 8, 1  # securesystemslib's standard strength: 64 MiB of memory
MAX_SCRYPT_MEMORY = 256 << 20  # bytes; twice what its strongest parameters take
_KEY_SIZE, _SALT_SIZE, _NONCE_SIZE = 32, 32, 24  # bytes

AskPassword = Callable[[], str]


class _ScryptParameters(msgspec.Struct, frozen=True):
    n: int = msgspec.field(name="N")
    r: int
    p: int


class _Derivation(msgspec.Struct, frozen=True):
    name: str
    params: _ScryptParameters
    salt: bytes


class _Cipher(msgspec.Struct, frozen=True):
    name: str
    nonce: bytes


class _Encrypted(msgspec.Struct, frozen=True):
    """The JSON document inside an encrypted key; byte strings are base64."""

    kdf: _Derivation
    cipher: _Cipher
    ciphertext: bytes


@dataclass(frozen=True)
class PublicKey:
    """What signatures are checked with."""

    key: EllipticCurvePublicKey

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Whether the signature (ASN.1 DER) over the content's SHA-256 is by this key's other half."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            self.key.verify(signature, content, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """The key as cosign.pub has it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key's DER form, to tell keys apart."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        der = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"sha256:{hashlib.sha256(der).hexdigest()}"


@dataclass(frozen=True)
class PrivateKey:
    """What is signed with."""

    key: EllipticCurvePrivateKey

    def sign(self, content: bytes) -> bytes:
        """A signature (ASN.1 DER) over the content's SHA-256; another one each time."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.key.sign(content, ECDSA(SHA256()))

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key.public_key())


def require_libraries() -> None:
    """Raise a `LightshipError` that names the extra where the libraries for keys are not installed."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ec  # noqa: F401
        import nacl.secret  # noqa: F401
    except ImportError as error:
        raise LightshipError(
            f"Keys and signatures need a library that is not installed: {error.name}.",
            hint="Install it with the extra: pip install 'lightship[sign]'.",
        ) from error


def read_private_key(path: Path, password: AskPassword) -> PrivateKey:
    """The private key in a file.

    Args:
        password: Asked only where the key is encrypted.

    Raises: `ProjectError` where the file is not such a key or the password is wrong, `LightshipError` where the
        libraries are missing.
    """
    require_libraries()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    label, pem, der = _block(path)
    try:
        if label in (SIGSTORE_LABEL, COSIGN_LABEL):
            opened = _decrypt(der, password, path)
            return _private(load_der_private_key(opened, None), path)
        if label in _PLAIN_LABELS:
            return _private(load_pem_private_key(pem, None), path)
        if label == "ENCRYPTED PRIVATE KEY":
            return _private(load_pem_private_key(pem, password().encode()), path)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        _refuse(path, "it cannot be read; it is damaged, of an unknown kind, or the password is another")
    _refuse(path, f"it holds a {label.lower()}, not a private key")


def read_public_key(path: Path) -> PublicKey:
    """The public key in a file (PEM, SubjectPublicKeyInfo). Raises as `read_private_key` does."""
    require_libraries()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    label, pem, _ = _block(path)
    if label != "PUBLIC KEY":
        _refuse(path, f"it holds a {label.lower()}, not a public key")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        _refuse(path, "it is damaged or of an unknown kind")
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        _refuse(path, "it is not an ECDSA key on the curve P-256")
    return PublicKey(key)


def generate_key() -> PrivateKey:
    """A new key. Raises `LightshipError` where the libraries are missing."""
    require_libraries()
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    return PrivateKey(generate_private_key(SECP256R1()))


def encrypted_pem(key: PrivateKey, password: str) -> bytes:
    """The key as cosign.key has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from nacl.secret import SecretBox

    plain = key.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    parameters = _ScryptParameters(SCRYPT_N, SCRYPT_R, SCRYPT_P)
    derivation = _Derivation("scrypt", parameters, os.urandom(_SALT_SIZE))
    nonce = os.urandom(_NONCE_SIZE)
    sealed = SecretBox(_derived(derivation, password)).encrypt(plain, nonce).ciphertext
    document = msgspec.json.encode(_Encrypted(derivation, _Cipher("nacl/secretbox", nonce), sealed))
    text = base64.b64encode(document).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {SIGSTORE_LABEL}-----", *lines, f"-----END {SIGSTORE_LABEL}-----", "")).encode()


def write_pair(key: PrivateKey, password: str, prefix: Path) -> tuple[Path, Path]:
    """Write PREFIX.key, for its owner's eyes only, and PREFIX.pub. Raises `StorageError`; overwrites nothing."""
    private, public = prefix.with_name(f"{prefix.name}.key"), prefix.with_name(f"{prefix.name}.pub")
    try:
        if public.exists():
            raise FileExistsError(17, "it is there already", str(public))
        for path, content, mode in (
            (private, encrypted_pem(key, password), 0o600),
            (public, key.public.pem(), 0o644),
        ):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except FileExistsError as error:
        raise StorageError(
            f"{error.filename} is there already, and keys are never overwritten.",
            hint="Name another pair: `lightship keygen PREFIX`.",
        ) from error
    except OSError as error:
        raise StorageError(f"Could not write {error.filename}: {error.strerror}.") from error
    return private, public


def _block(path: Path) -> tuple[str, bytes, bytes]:
    """Label, PEM and bytes of the first block of a file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise ProjectError(
            f"The key {path} cannot be read: {error.strerror}.", hint="`lightship keygen` makes a pair."
        ) from error
    found = _PEM.search(content) if len(content) <= MAX_KEY_FILE else None
    if found is None:
        _refuse(path, "it is not a PEM file")
    try:
        return found[1].decode(), found[0] + b"\n", base64.b64decode(b"".join(found[2].split()), validate=True)
    except binascii.Error:
        _refuse(path, "its base64 is damaged")


def _decrypt(document: bytes, password: AskPassword, path: Path) -> bytes:
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        sealed = msgspec.json.decode(document, type=_Encrypted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        _refuse(path, "what it holds is not cosign's document of an encrypted key")
    if (sealed.kdf.name, sealed.cipher.name) != ("scrypt", "nacl/secretbox"):
        _refuse(path, f"it is encrypted with {sealed.kdf.name[:40]!r} and {sealed.cipher.name[:40]!r}")
    parameters = sealed.kdf.params
    sound = parameters.n > 1 and parameters.n.bit_count() == 1 and 0 < parameters.r <= 64 and 0 < parameters.p <= 16
    if not sound or 128 * parameters.n * parameters.r > MAX_SCRYPT_MEMORY or len(sealed.cipher.nonce) != _NONCE_SIZE:
        _refuse(path, "its scrypt parameters or its nonce are beyond all reason")
    try:
        return SecretBox(_derived(sealed.kdf, password())).decrypt(sealed.ciphertext, sealed.cipher.nonce)
    except CryptoError as error:
        raise IntegrityError(
            f"The key {path} does not open: the password is another one, or the file is damaged.",
            hint=f"Set {PASSWORD_VARIABLE} to the password that it was made with.",
        ) from error


def _derived(derivation: _Derivation, password: str) -> bytes:
    parameters = derivation.params
    return hashlib.scrypt(
        password.encode("utf-8", "surrogateescape"),
        salt=derivation.salt,
        n=parameters.n,
        r=parameters.r,
        p=parameters.p,
        maxmem=MAX_SCRYPT_MEMORY + (64 << 20),  # OpenSSL counts some more than 128 * N * r
        dklen=_KEY_SIZE,
    )


def _private(key: object, path: Path) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey

    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        _refuse(path, "it is not an ECDSA key on the curve P-256")
    return PrivateKey(key)


def _refuse(path: Path, why: str) -> NoReturn:
    raise ProjectError(
        f"The key {path} cannot be used: {why}.",
        hint="It takes a pair of `lightship keygen` or `cosign generate-key-pair`, or PKCS #8 in PEM.",
    )
