"""Locking: nothing is trusted but what a key of the keyring has signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from debian_archive import Deb, Signer, Suite, environment, runtime_packages

from lightship.bases.debian import DebianLock, differences
from lightship.bases.debian.newest import lock_debian
from lightship.bases.debian.signature import verified
from lightship.cache import Cache
from lightship.errors import IntegrityError, LockError, NetworkError, ProjectError
from lightship.session import Session

pytestmark = [pytest.mark.tool("gpg"), pytest.mark.tool("gpgv")]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(tmp_path_factory.mktemp("g") / "home")
    yield made
    made.close()


@pytest.fixture
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(tmp_path_factory.mktemp("g") / "home")
    yield made
    made.close()


class Archive:
    """A mirror on the disk with the three suites of a release."""

    def __init__(self, directory: Path, signer: Signer) -> None:
        self.directory = directory
        self.signer = signer
        self.main = Suite("bookworm", runtime_packages())
        self.updates = Suite("bookworm-updates")
        self.security = Suite("bookworm-security")

    def publish(self, sign: Callable[[str], bytes] | None = None) -> None:
        for suite in (self.main, self.updates, self.security):
            suite.publish(self.directory, sign or self.signer.sign)

    def lock(self, session: Session, *packages: str) -> DebianLock:
        mirror = self.directory.as_uri()
        return lock_debian("bookworm", "amd64", packages, session, mirror=mirror, keyring=self.signer.keyring)


@pytest.fixture
def archive(tmp_path: Path, signer: Signer) -> Archive:
    return Archive(tmp_path / "mirror", signer)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(cache=Cache(tmp_path / "cache"), environ=environment(), jobs=2)


def test_a_lock_holds_every_package_by_version_and_hash_and_no_host(archive: Archive, session: Session) -> None:
    archive.publish()
    lock = archive.lock(session)
    names = [package.name for package in lock.packages]
    assert names == sorted(package.name for package in runtime_packages())
    assert lock.packages[names.index("tzdata")] == runtime_packages()[6].locked
    assert lock.python_version == "3.11.2"
    assert lock.interpreter_path == "/usr/bin/python3.11"
    assert str(archive.directory) not in str(lock.to_dict())
    assert DebianLock.from_dict(lock.to_dict()) == lock


def test_security_updates_are_taken_and_further_packages_come_with_their_needs(
    archive: Archive, session: Session
) -> None:
    archive.publish()
    before = archive.lock(session)
    archive.main.packages = [*archive.main.packages, Deb("dash", "0.5"), Deb("curl", fields={"Depends": "libcurl4"})]
    archive.security.packages = [Deb("tzdata", "2026b", "all", pool="pool/updates/main"), Deb("libcurl4", "8.1")]
    archive.publish()
    after = archive.lock(session, "curl")
    assert differences(before, after) == ["+ curl 1.0", "+ libcurl4 8.1", "  tzdata 2026a → 2026b"]
    assert differences(after, before)[0] == "- curl 1.0"
    assert differences(after, after) == []


def test_a_rebuilt_package_of_the_same_version_is_a_difference() -> None:
    one = DebianLock("bookworm", "amd64", (Deb("aa").locked,))
    other = DebianLock("bookworm", "arm64", (replace(one.packages[0], sha256="0" * 64),))
    assert differences(one, other) == [
        "debian:bookworm (amd64) → debian:bookworm (arm64)",
        "  aa 1.0: the same version with other content",
    ]


def test_the_signature_of_a_stranger_is_refused(archive: Archive, session: Session, stranger: Signer) -> None:
    archive.publish(stranger.sign)
    with pytest.raises(IntegrityError, match="signature of the InRelease of bookworm was refused") as caught:
        archive.lock(session)
    assert "debian-archive-keyring" in (caught.value.hint or "")


def test_what_is_not_signed_is_refused(archive: Archive, session: Session) -> None:
    archive.publish(str.encode)
    with pytest.raises(IntegrityError, match="is not signed"):
        archive.lock(session)


@pytest.mark.parametrize("where", ["inside", "before", "after", "second message"])
def test_text_that_was_added_to_a_signed_document_is_refused(
    where: str, archive: Archive, session: Session, stranger: Signer
) -> None:
    def tampered(text: str) -> bytes:
        signed = archive.signer.sign(text)
        if where == "inside":
            return signed.replace(b"Origin: Debian", b"Origin: Debiam")
        if where == "before":
            return b"Codename: evil\n\n" + signed
        if where == "after":
            return signed + b"\nCodename: evil\n"
        return stranger.sign("Codename: bookworm\nSHA256:\n") + signed

    archive.publish(tampered)
    with pytest.raises(IntegrityError, match="InRelease of bookworm"):
        archive.lock(session)


def test_only_what_was_signed_is_read(archive: Archive, session: Session) -> None:
    """The armour header is outside the signature; a field in it must not be seen."""
    signed = archive.signer.sign("Codename: bookworm\n- dashes\n")
    disguised = signed.replace(b"Hash: SHA512\n", b"Hash: SHA512\nComment: x\n", 1)
    keyring = archive.signer.keyring
    assert verified(signed, keyring, "it", session.cache, session.environ) == "Codename: bookworm\n- dashes\n"
    try:
        text = verified(disguised, keyring, "it", session.cache, session.environ)
    except IntegrityError:
        return
    assert "Comment" not in text


def test_a_document_that_another_key_signed_as_well_is_accepted(
    archive: Archive, session: Session, stranger: Signer, tmp_path: Path
) -> None:
    """As Debian does while it introduces a new key, which older keyrings do not have."""
    both = Signer(tmp_path / "both")
    both._gpg("--import", content=stranger._gpg("--export-secret-keys"))
    both.keyring.write_bytes(both._gpg("--export", "archive@example.org"))
    listed = both._gpg("--list-keys", "--with-colons").decode().splitlines()
    keys = [line.split(":")[4] for line in listed if line.startswith("pub:")]
    users = [f"--local-user={key}" for key in keys]
    signed = both._gpg(*users, "--clearsign", content=b"Codename: bookworm\n")
    both.close()
    one_key = tmp_path / "one.gpg"
    one_key.write_bytes(both._gpg("--export", keys[0]))
    assert verified(signed, one_key, "it", session.cache, session.environ) == "Codename: bookworm\n"


def test_a_suite_under_another_name_is_refused(archive: Archive, session: Session) -> None:
    archive.security.codename = "bullseye-security"
    archive.publish()
    with pytest.raises(IntegrityError, match=r"asked for bookworm-security, but.*signed as bullseye-security"):
        archive.lock(session)


def test_an_expired_list_is_refused_unless_a_dated_copy_is_meant(archive: Archive, session: Session) -> None:
    archive.security.valid_for = timedelta(days=-1)
    archive.main.valid_for = None
    archive.publish()
    with pytest.raises(IntegrityError, match="bookworm-security expired") as caught:
        archive.lock(session)
    assert "LIGHTSHIP_DEBIAN_SNAPSHOT=1" in (caught.value.hint or "")
    dated = replace(session, environ={**session.environ, "LIGHTSHIP_DEBIAN_SNAPSHOT": "1"})
    assert archive.lock(dated).packages
    with pytest.raises(IntegrityError, match="expired"):
        archive.lock(replace(session, environ={**session.environ, "LIGHTSHIP_DEBIAN_SNAPSHOT": "0"}))


def test_an_index_with_other_bytes_than_signed_is_refused(archive: Archive, session: Session) -> None:
    archive.publish()
    for path in archive.directory.rglob("by-hash/SHA256/*"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="package list of bookworm"):
        archive.lock(session)


def test_a_missing_suite_says_how_to_name_both_mirrors(archive: Archive, session: Session) -> None:
    archive.main.publish(archive.directory, archive.signer.sign)
    archive.updates.publish(archive.directory, archive.signer.sign)
    with pytest.raises(NetworkError, match="no suite bookworm-security") as caught:
        archive.lock(session)
    assert "separated by a space" in (caught.value.hint or "")


def test_two_mirrors_may_be_named(archive: Archive, session: Session, tmp_path: Path) -> None:
    elsewhere = tmp_path / "security"
    archive.main.publish(archive.directory, archive.signer.sign)
    archive.updates.publish(archive.directory, archive.signer.sign)
    archive.security.publish(elsewhere, archive.signer.sign)
    both = f"{archive.directory.as_uri()} {elsewhere.as_uri()}"
    assert lock_debian("bookworm", "amd64", (), session, mirror=both, keyring=archive.signer.keyring).packages


def test_an_architecture_that_the_archive_lacks_is_named(archive: Archive, session: Session) -> None:
    archive.publish()
    with pytest.raises(IntegrityError, match="main/binary-arm64/Packages"):
        lock_debian(
            "bookworm", "arm64", (), session, mirror=archive.directory.as_uri(), keyring=archive.signer.keyring
        )


def test_without_gpgv_and_sqv_the_remedy_is_told(archive: Archive, session: Session, tmp_path: Path) -> None:
    archive.publish()
    with pytest.raises(IntegrityError, match="neither gpgv nor sqv") as caught:
        archive.lock(replace(session, environ={"PATH": str(tmp_path)}))
    assert "Install" in (caught.value.hint or "")


def test_a_keyring_that_is_missing_is_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"keyring .*nowhere\.gpg does not exist"):
        lock_debian("bookworm", "amd64", (), session, mirror="file:///x/debian", keyring=tmp_path / "nowhere.gpg")


def test_releases_architectures_and_names_are_checked_before_anything_is_fetched(session: Session) -> None:
    with pytest.raises(ProjectError, match="no assembled base debian:jessie") as caught:
        lock_debian("jessie", "amd64", (), session)
    assert "debian:trixie (Python 3.13)" in (caught.value.hint or "")
    with pytest.raises(ProjectError, match="riscv64"):
        lock_debian("trixie", "riscv64", (), session)
    with pytest.raises(ProjectError, match=r"libgl1=1\.0"):
        lock_debian("trixie", "amd64", ["libgl1=1.0"], session)


def test_a_lock_that_was_tampered_with_is_refused() -> None:
    good = DebianLock("bookworm", "amd64", tuple(package.locked for package in runtime_packages())).to_dict()
    bad = {
        "path": "pool/../../../etc/x.deb",
        "sha256": "zz",
        "size": -1,
        "name": "../x",
        "version": "1 0",
        "architecture": "a/b",
    }
    for field, value in bad.items():
        with pytest.raises(LockError, match="not readable"):
            DebianLock.from_dict({**good, "packages": [{**good["packages"][0], field: value}, *good["packages"][1:]]})
    for damaged in (
        {},
        {**good, "codename": "jessie"},
        {**good, "packages": good["packages"][:1]},
        {**good, "packages": good["packages"] + good["packages"][:1]},
        {**good, "packages": [1]},
    ):
        with pytest.raises(LockError, match="not readable"):
            DebianLock.from_dict(damaged)


def program(directory: Path, name: str, script: str) -> dict[str, str]:
    """An environment in which the only program is this one."""
    directory.mkdir()
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": str(directory)}


def test_sqv_is_used_where_gpgv_is_missing(session: Session, archive: Archive, tmp_path: Path) -> None:
    """With a stand-in, since sqv reads signed documents only since 1.3; what it writes is what is read."""
    signed = archive.signer.sign("Codename: bookworm\n")
    script = 'for a in "$@"; do case "$a" in --output=*) echo "what sqv says" > "${a#--output=}";; esac; done'
    environ = program(tmp_path / "sqv", "sqv", script)
    assert verified(signed, archive.signer.keyring, "it", session.cache, environ) == "what sqv says\n"
    refusing = program(tmp_path / "refusing", "sqv", 'echo "Message has been manipulated." >&2; exit 1')
    with pytest.raises(IntegrityError, match=r"refused .*: Message has been manipulated\.$"):
        verified(signed, archive.signer.keyring, "it", session.cache, refusing)
    old = program(
        tmp_path / "old", "sqv", "echo \"error: Found argument '--output' which was not expected\" >&2; exit 2"
    )
    with pytest.raises(IntegrityError, match=r"older than 1\.3"):
        verified(signed, archive.signer.keyring, "it", session.cache, old)


@pytest.mark.parametrize(
    "status",
    [
        "GOODSIG AB x\n[GNUPG:] VALIDSIG F 2026 1 0 4 0 1 2 01 F",  # SHA-1
        "EXPKEYSIG AB x\n[GNUPG:] VALIDSIG F 2026 1 0 4 0 1 8 01 F",
        "REVKEYSIG AB x\n[GNUPG:] VALIDSIG F 2026 1 0 4 0 1 8 01 F",
        "GOODSIG AB x\n[GNUPG:] VALIDSIG F 2026 1 0 4 0 1 8 01 F\n[GNUPG:] BADSIG CD y",
        "GOODSIG AB x\n[GNUPG:] VALIDSIG F 2026 1 0 4 0 1 2 01 F\n[GNUPG:] EXPKEYSIG CD y\n"
        "[GNUPG:] VALIDSIG F 2026 1 0 4 0 1 8 01 F",
        "GOODSIG AB x",
        "",
    ],
)
def test_weak_expired_revoked_and_bad_signatures_are_refused(
    status: str, session: Session, archive: Archive, tmp_path: Path
) -> None:
    """With a stand-in that says what gpgv would say."""
    lines = "\n".join(f"echo '{line}'" for line in f"[GNUPG:] {status}".splitlines())
    environ = program(tmp_path / "gpgv", "gpgv", f"{lines}\nexit 0")
    with pytest.raises(IntegrityError, match="was refused"):
        verified(archive.signer.sign("x\n"), archive.signer.keyring, "it", session.cache, environ)
