"""Key pairs in cosign's form: made, read back, and refused where they are damaged or of another kind."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightship.errors import IntegrityError, LightshipError, ProjectError, StorageError
from lightship.supply.cosign_keys import (
    COSIGN_LABEL,
    SIGSTORE_LABEL,
    PrivateKey,
    encrypted_pem,
    generate_key,
    read_private_key,
    read_public_key,
    write_pair,
)

pytest.importorskip("cryptography")
pytest.importorskip("nacl")
PASSWORD = "a lantern at sea"


def never() -> str:
    raise AssertionError("nobody should be asked")


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


@pytest.fixture(scope="module")
def sealed(key: PrivateKey) -> bytes:
    return encrypted_pem(key, PASSWORD)


def document_of(pem: bytes) -> Any:
    return json.loads(base64.b64decode(b"".join(pem.split(b"\n")[1:-2])))


def pem_of(document: bytes, label: str = SIGSTORE_LABEL) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(document).decode()}-----END {label}-----\n".encode()


def test_a_pair_is_written_for_its_owner_only_and_read_back(key: PrivateKey, tmp_path: Path) -> None:
    private, public = write_pair(key, PASSWORD, tmp_path / "team")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    read = read_private_key(private, lambda: PASSWORD)
    assert read_public_key(public).verifies(read.sign(b"ahoy"), b"ahoy")
    assert not read_public_key(public).verifies(read.sign(b"ahoy"), b"ahoi")
    with pytest.raises(StorageError, match="never overwritten"):
        write_pair(generate_key(), PASSWORD, tmp_path / "team")
    assert read_private_key(private, lambda: PASSWORD).public.fingerprint == key.public.fingerprint


def test_the_document_has_the_fields_that_cosign_reads(sealed: bytes) -> None:
    document = document_of(sealed)
    assert document["kdf"]["name"] == "scrypt"
    assert document["kdf"]["params"] == {"N": 65536, "r": 8, "p": 1}
    assert len(base64.b64decode(document["kdf"]["salt"])) == 32
    assert document["cipher"]["name"] == "nacl/secretbox"
    assert len(base64.b64decode(document["cipher"]["nonce"])) == 24
    assert max(map(len, sealed.split(b"\n"))) <= 64  # as Go's encoder breaks lines


def test_older_labels_and_weaker_parameters_are_read(key: PrivateKey, tmp_path: Path) -> None:
    """Sealed here step by step, as the format is described, and not by the code under test."""
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from nacl.bindings import crypto_secretbox

    der = key.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, nonce = bytes(range(32)), bytes(range(24))
    derived = hashlib.scrypt(b"", salt=salt, n=32768, r=8, p=1, maxmem=1 << 27, dklen=32)
    encoded = [base64.b64encode(part).decode() for part in (salt, nonce, crypto_secretbox(der, nonce, derived))]
    document = {
        "kdf": {"name": "scrypt", "params": {"N": 32768, "r": 8, "p": 1}, "salt": encoded[0]},
        "cipher": {"name": "nacl/secretbox", "nonce": encoded[1]},
        "ciphertext": encoded[2],
    }
    path = tmp_path / "old.key"
    path.write_bytes(pem_of(json.dumps(document).encode(), COSIGN_LABEL))
    assert read_private_key(path, lambda: "").public.fingerprint == key.public.fingerprint


@pytest.mark.tool("openssl")
def test_keys_of_openssl_are_read_and_its_signatures_verify(tmp_path: Path) -> None:
    private, public, signature = tmp_path / "plain.pem", tmp_path / "plain.pub", tmp_path / "signature"
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private]
    subprocess.run(make, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    (tmp_path / "text").write_bytes(b"ahoy")
    sign = ["openssl", "dgst", "-sha256", "-sign", private, "-out", signature, tmp_path / "text"]
    subprocess.run(sign, check=True, capture_output=True)
    assert read_public_key(public).verifies(signature.read_bytes(), b"ahoy")
    signature.write_bytes(read_private_key(private, never).sign(b"ahoy"))
    check = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", signature, tmp_path / "text"]
    assert b"Verified OK" in subprocess.run(check, check=True, capture_output=True).stdout


def test_a_wrong_password_is_told(sealed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(sealed)
    with pytest.raises(IntegrityError, match="password is another one") as caught:
        read_private_key(path, lambda: "guess")
    assert "COSIGN_PASSWORD" in (caught.value.hint or "")
    assert "guess" not in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kdf": {"name": "scrypt", "params": {"N": 1 << 30, "r": 8, "p": 1}, "salt": ""}}, "beyond all reason"),
        ({"kdf": {"name": "scrypt", "params": {"N": 65535, "r": 8, "p": 1}, "salt": ""}}, "beyond all reason"),
        ({"kdf": {"name": "scrypt", "params": {"N": -2, "r": 8, "p": 1}, "salt": ""}}, "beyond all reason"),
        ({"kdf": {"name": "scrypt", "params": {"N": 2, "r": 8, "p": 1 << 20}, "salt": ""}}, "beyond all reason"),
        ({"kdf": {"name": "argon2", "params": {"N": 2, "r": 8, "p": 1}, "salt": ""}}, "argon2"),
        ({"cipher": {"name": "nacl/secretbox", "nonce": "AAAA"}}, "beyond all reason"),
        ({"ciphertext": 7}, "not cosign's document"),
    ],
)
def test_hostile_documents_are_refused_before_any_work(
    sealed: bytes, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "hostile.key"
    path.write_bytes(pem_of(json.dumps(document_of(sealed) | change).encode()))
    with pytest.raises(ProjectError, match=message):
        read_private_key(path, never)


@pytest.mark.parametrize(
    "content",
    [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----", b"a" * 100_000, pem_of(b"{}")],
)
def test_files_that_are_no_keys_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.key"
    path.write_bytes(content)
    for read in (lambda: read_private_key(path, never), lambda: read_public_key(path)):
        with pytest.raises(ProjectError, match="cannot be used"):
            read()
    with pytest.raises(ProjectError, match="cannot be read"):
        read_public_key(tmp_path / "missing.pub")


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    path = tmp_path / "other.key"
    for other in (generate_private_key(SECP384R1()), Ed25519PrivateKey.generate()):
        path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(ProjectError, match="P-256"):
            read_private_key(path, never)
        path.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(ProjectError, match="P-256"):
            read_public_key(path)


@pytest.mark.parametrize("missing", ["cryptography", "nacl"])
def test_missing_libraries_name_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(LightshipError, match=missing) as caught:
        read_public_key(tmp_path / "any.pub")
    assert "lightship[sign]" in (caught.value.hint or "")
