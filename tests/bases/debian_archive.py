"""Small Debian packages and a signed archive of them, made by the tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import zstandard

from lightship.bases.debian import DebianLock, LockedDeb

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def entry(path: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = ""):
    """A tar entry with its content."""
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.linkname, member.size = kind, mode, target, len(content)
    return member, content


def folder(path: str, mode: int = 0o755):
    return entry(path, kind=tarfile.DIRTYPE, mode=mode)


def symlink(path: str, target: str):
    return entry(path, kind=tarfile.SYMTYPE, mode=0o777, target=target)


def tarball(entries: Iterable[tuple[tarfile.TarInfo, bytes]], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def archive(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An ar archive."""
    whole = b"!<arch>\n"
    for name, content in members:
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        whole += b"\n" * (len(content) % 2)
    return whole


@dataclass
class Deb:
    """A package to be made. `fields` are more fields of its control file."""

    name: str
    version: str = "1.0"
    architecture: str = "amd64"
    files: Sequence[tuple[tarfile.TarInfo, bytes]] = ()
    fields: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, bytes] = field(default_factory=dict)
    compression: str = ".xz"
    pool: str = "pool/main"

    @property
    def control(self) -> str:
        fields = {"Package": self.name, "Version": self.version, "Architecture": self.architecture, **self.fields}
        return "".join(f"{name}: {value}\n" for name, value in fields.items())

    @property
    def content(self) -> bytes:
        sums = "".join(
            f"{hashlib.md5(content).hexdigest()}  {member.name.removeprefix('./')}\n"
            for member, content in self.files
            if member.isreg()
        )
        control = [entry("./control", self.control.encode()), entry("./md5sums", sums.encode())]
        control += [entry(f"./{name}", script, mode=0o755) for name, script in self.scripts.items()]
        compress = COMPRESSORS[self.compression]
        return archive(
            [
                ("debian-binary", b"2.0\n"),
                (f"control.tar{self.compression}", compress(tarball(control))),
                (f"data.tar{self.compression}", compress(tarball(self.files))),
            ]
        )

    @property
    def path(self) -> str:
        return f"{self.pool}/{self.name[0]}/{self.name}/{self.name}_{self.version}_{self.architecture}.deb"

    @property
    def locked(self) -> LockedDeb:
        content = self.content
        sha256 = hashlib.sha256(content).hexdigest()
        return LockedDeb(self.name, self.version, self.architecture, sha256, len(content), self.path)

    @property
    def paragraph(self) -> str:
        locked = self.locked
        return f"{self.control}Filename: {locked.path}\nSize: {locked.size}\nSHA256: {locked.sha256}\n"


def write_pool(directory: Path, packages: Iterable[Deb]) -> None:
    for package in packages:
        path = directory / package.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(package.content)


def lock_of(packages: Iterable[Deb]) -> DebianLock:
    return DebianLock("bookworm", "amd64", tuple(sorted(package.locked for package in packages)))


class Signer:
    """A key of its own, made by gpg in a directory of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True)
        self._home = home
        self.keyring = home / "archive.gpg"
        self._gpg("--passphrase", "", "--quick-generate-key", "Test archive <archive@example.org>", "ed25519", "sign")
        self.keyring.write_bytes(self._gpg("--export"))

    def sign(self, text: str) -> bytes:
        return self._gpg("--clearsign", content=text.encode())

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False)

    def _gpg(self, *arguments: str, content: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, input=content, capture_output=True, check=True).stdout


@dataclass
class Suite:
    """A suite to be published."""

    name: str
    packages: Sequence[Deb] = ()
    codename: str | None = None
    valid_for: timedelta | None = timedelta(days=7)
    architecture: str = "amd64"

    def publish(self, mirror: Path, sign: Callable[[str], bytes]) -> None:
        """Write the suite and its packages below `mirror`."""
        write_pool(mirror, self.packages)
        content = "\n".join(package.paragraph for package in self.packages).encode()
        dists = mirror / "dists" / self.name
        binary = dists / "main" / f"binary-{self.architecture}"
        by_hash = binary / "by-hash" / "SHA256"
        by_hash.mkdir(parents=True, exist_ok=True)
        packed = lzma.compress(content)
        (by_hash / hashlib.sha256(packed).hexdigest()).write_bytes(packed)
        now = datetime.now(UTC)
        lines = [
            "Origin: Debian",
            f"Codename: {self.codename or self.name}",
            f"Date: {format_datetime(now)}",
            "Acquire-By-Hash: yes",
            "SHA256:",
        ]
        if self.valid_for is not None:
            lines.insert(3, f"Valid-Until: {format_datetime(now + self.valid_for).replace('+0000', 'UTC')}")
        for name, data in (("Packages", content), ("Packages.xz", packed)):
            digest = hashlib.sha256(data).hexdigest()
            lines.append(f" {digest} {len(data):>8} main/binary-{self.architecture}/{name}")
        (dists / "InRelease").write_bytes(sign("\n".join(lines) + "\n"))


def runtime_packages() -> list[Deb]:
    """The names that a bookworm base asks for, nearly empty, with the interpreter's place taken by a text file."""
    version = "3.11.2-6+deb12u9"
    return [
        Deb(
            "base-files",
            "12.4",
            files=[
                folder("./"),
                folder("./bin/"),
                folder("./lib/"),
                folder("./tmp/", 0o1777),
                folder("./var/run/"),
                folder("./var/local/", 0o2775),
                entry("./usr/lib/os-release", b'ID=debian\nVERSION_ID="12"\n'),
                symlink("./etc/os-release", "../usr/lib/os-release"),
                entry("./usr/share/doc/base-files/copyright", b"free\n"),
                entry("./usr/share/doc/base-files/README", b"long\n"),
                entry("./usr/share/man/man1/x.1.gz", b"manual"),
            ],
            fields={"Pre-Depends": "awk", "Description": "a test\n of several lines"},
        ),
        Deb(
            "ca-certificates",
            "2026",
            "all",
            files=[
                entry("./usr/share/ca-certificates/mozilla/B.crt", b"-- B --\n"),
                entry("./usr/share/ca-certificates/mozilla/A.crt", b"-- A --"),
            ],
            fields={"Depends": "openssl (>= 1.1.1), debconf (>= 0.5) | debconf-2.0"},
        ),
        Deb(
            "libc-bin",
            "2.36-9",
            files=[
                entry("./sbin/ldconfig", b"ldconfig", mode=0o755),
                entry("./etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n"),
                entry("./usr/share/libc-bin/nsswitch.conf", b"hosts: files dns\n"),
            ],
            compression=".zst",
        ),
        Deb("libgomp1", "12.2"),
        Deb("libstdc++6", "12.2", compression=".gz"),
        Deb("netbase", "6.4", "all", files=[entry("./etc/services", b"http 80/tcp\n")]),
        Deb("tzdata", "2026a", "all", files=[entry("./usr/share/zoneinfo/Etc/UTC", b"TZif")]),
        Deb(
            "python3.11-minimal",
            version,
            files=[entry("./usr/bin/python3.11", b"python", mode=0o4755)],
            fields={"Depends": f"libpython3.11-minimal (= {version})"},
        ),
        Deb("libpython3.11-minimal", version),
        Deb(
            "libpython3.11-stdlib",
            version,
            files=[entry("./usr/lib/python3.11/LICENSE.txt", b"PSF\n")],
            fields={"Depends": f"libpython3.11-minimal (= {version}), media-types | mime-support, libnsl2"},
        ),
    ]


def environment(**variables: str) -> dict[str, str]:
    """An environment without the caller's own mirror."""
    return {"PATH": os.environ.get("PATH", os.defpath), **variables}
