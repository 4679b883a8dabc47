"""Who signed it: a clear-signed document is checked by gpgv or sqv, and only what they give back is read."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lightship.cache import Cache, storing
from lightship.errors import IntegrityError, StorageError

KEYRINGS = (  # where the package debian-archive-keyring puts them: until Debian 12, and since
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_END = b"-----END PGP SIGNATURE-----"
_STRONG_HASHES = frozenset({"8", "9", "10", "11"})  # SHA-256, 384, 512, 224 by RFC 9580, section 9.5
_TIMEOUT = 60  # seconds; a verification takes 0.01


def find_keyring(chosen: Path | None) -> Path:
    """The keyring to trust: the one chosen, else the host's copy of Debian's archive keyring."""
    candidates = (chosen,) if chosen else KEYRINGS
    for path in candidates:
        if path.is_file():
            return path.resolve()
    if chosen:
        raise IntegrityError(f"The keyring {chosen} does not exist.", hint="Mend `keyring` under [base].")
    raise IntegrityError(
        "The keys of the Debian archive are not on this machine, so its packages cannot be verified.",
        hint="Install the package debian-archive-keyring, or name a keyring file with `keyring` under [base].",
    )


def verified(document: bytes, keyring: Path, title: str, cache: Cache, environ: Mapping[str, str]) -> str:
    """The text inside a clear-signed document whose signature is good.

    Raises: `IntegrityError` if it is not signed, not by a key of the keyring, or holds more than what is signed.
    """
    content = document.replace(b"\r\n", b"\n").strip(b"\n")
    if not content.startswith(_BEGIN) or not content.endswith(_END):
        raise IntegrityError(
            f"{title} is not signed.",
            hint="It may be the page of a proxy, or a mirror that publishes no InRelease.",
        )
    if content.count(_BEGIN) != 1 or content.count(_END) != 1:
        raise IntegrityError(f"{title} holds more than one signed message, which no archive publishes.")
    path = environ.get("PATH", os.defpath)
    with cache.temporary_directory() as folder:
        signed, text = folder / "signed", folder / "text"
        with storing(signed):
            signed.write_bytes(document)
        if gpgv := shutil.which("gpgv", path=path):
            _check_gpgv(gpgv, signed, text, keyring, title)
        elif sqv := shutil.which("sqv", path=path):
            _check_sqv(sqv, signed, text, keyring, title)
        else:
            raise IntegrityError(
                f"{title} cannot be verified: neither gpgv nor sqv is on this machine.",
                hint="Install the package gpgv (`apt-get install gpgv`, `dnf install gnupg2`, `brew install gnupg`).",
            )
        try:
            return text.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise IntegrityError(f"{title} is signed, but is not readable text: {error}.") from error


def _check_gpgv(program: str, signed: Path, text: Path, keyring: Path, title: str) -> None:
    """Accept as apt does: at least one good signature with a strong hash, and no bad one.

    The exit status alone would refuse a document that is signed by a further key that the keyring does not have
    yet, which is how Debian introduces its keys.
    """
    options = ["--quiet", "--status-fd", "1", "--keyring", str(keyring), "--output", str(text)]
    ran = _run([program, *options, str(signed)], title)
    if not _accepts(ran.stdout):
        raise _refused(title, keyring, ran.stderr)


def _accepts(status: str) -> bool:
    """Read gpgv's status lines: of each signature GOODSIG or what is wrong with it, then VALIDSIG with its hash."""
    accepted = good = False
    for line in status.splitlines():
        match line.removeprefix("[GNUPG:] ").split():
            case ["BADSIG", *_]:
                return False
            case ["GOODSIG", *_]:
                good = True
            case ["NEWSIG" | "ERRSIG" | "EXPSIG" | "EXPKEYSIG" | "REVKEYSIG", *_]:
                good = False
            case ["VALIDSIG", *fields]:
                accepted = accepted or (good and len(fields) > 7 and fields[7] in _STRONG_HASHES)
                good = False
    return accepted


def _check_sqv(program: str, signed: Path, text: Path, keyring: Path, title: str) -> None:
    """sqv since 1.3 reads clear-signed documents; its policy refuses weak hashes by itself."""
    ran = _run([program, f"--keyring={keyring}", f"--output={text}", "--cleartext", str(signed)], title)
    if ran.returncode != 0 and ("--output" in ran.stderr or "--cleartext" in ran.stderr):
        raise IntegrityError(
            f"{title} cannot be verified: {program} is older than 1.3 and does not read signed documents.",
            hint="Install the package gpgv.",
        )
    if ran.returncode != 0:
        raise _refused(title, keyring, ran.stderr)


def _run(command: list[str], title: str) -> subprocess.CompletedProcess[str]:
    environment = {"LC_ALL": "C", "PATH": os.defpath}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"{title} could not be verified: {command[0]} did not run ({error}).") from error


def _refused(title: str, keyring: Path, detail: str) -> IntegrityError:
    said = "; ".join(line.removeprefix("gpgv: ").strip(" .") for line in detail.splitlines() if line.strip())
    return IntegrityError(
        f"The signature of {title} was refused (keyring {keyring}): {said[:600] or 'no good signature'}.",
        hint="The mirror may serve something else than Debian, or the keyring may be too old for this release: "
        "update the package debian-archive-keyring.",
    )
