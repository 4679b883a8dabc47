"""What maintainer scripts would have done, as plain code. Each function names the package whose script it stands for.

No script of a package is run: they need root, a shell and dpkg, and they are code from the network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightship.bases.debian.alternatives import install_alternatives
from lightship.bases.debian.filesystem import RootFileSystem
from lightship.bases.debian.libraries import library_cache
from lightship.bases.debian.lock import DebianLock
from lightship.bases.debian.unpack import ALIASES, Unpacked, merged
from lightship.errors import IntegrityError

NONROOT = 65532  # user and group of the image's process, as in distroless images
_NOBODY = 65534

_PASSWD = f"""\
root:x:0:0:root:/root:/usr/sbin/nologin
nobody:x:{_NOBODY}:{_NOBODY}:nobody:/nonexistent:/usr/sbin/nologin
nonroot:x:{NONROOT}:{NONROOT}:nonroot:/home/nonroot:/usr/sbin/nologin
"""
# tty is what devpts is mounted with; the others are Debian's numbers for groups that devices and files may have.
_GROUP = f"""\
root:x:0:
tty:x:5:
audio:x:29:
staff:x:50:
video:x:44:
users:x:100:
nogroup:x:{_NOBODY}:
nonroot:x:{NONROOT}:
"""
_CA_FOLDER = "usr/share/ca-certificates"
_CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def configure(tree: RootFileSystem, lock: DebianLock, unpacked: Sequence[Unpacked]) -> None:
    """Bring an unpacked tree into the state that dpkg would have left, as far as a runtime needs it."""
    _directories_and_links(tree)
    _accounts(tree)
    _name_services(tree)
    _certificates(tree)
    _time_zone(tree)
    _python_link(tree, lock)
    install_alternatives(tree, (package.control.get("postinst", b"") for package in unpacked))
    for package in unpacked:
        _package_record(tree, package)
    tree.add_file("etc/ld.so.cache", [library_cache(tree, lock.architecture)])  # libc-bin; last, since it sees all


def _directories_and_links(tree: RootFileSystem) -> None:
    """base-files: the directories of a running system, a merged /usr, and /run in its old places."""
    for path in (
        "proc",
        "sys",
        "dev",
        "etc",
        "home",
        "opt",
        "run",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "var/lib",
        "var/log",
    ):
        tree.add_directory(path)
    for path in ("tmp", "var/tmp", "run/lock"):
        tree.change_directory(path, mode=0o1777)
    tree.change_directory("root", mode=0o700)
    for alias, real in ALIASES.items():
        if real in tree:
            folder = alias.rpartition("/")[0]
            tree.add_symlink(alias, f"/{real}" if folder else real)
    if "etc/dpkg/origins/debian" in tree:
        _link(tree, "etc/dpkg/origins/default", "debian")


def _accounts(tree: RootFileSystem) -> None:
    """base-passwd, reduced to the accounts that are used."""
    if "etc/passwd" not in tree:
        tree.add_file("etc/passwd", [_PASSWD.encode()])
    if "etc/group" not in tree:
        tree.add_file("etc/group", [_GROUP.encode()])
    tree.change_directory("home/nonroot", mode=0o700, uid=NONROOT, gid=NONROOT)


def _name_services(tree: RootFileSystem) -> None:
    """libc-bin: its own default, without which host names would be looked up in files alone."""
    default = "usr/share/libc-bin/nsswitch.conf"
    if "etc/nsswitch.conf" not in tree and default in tree:
        tree.add_file("etc/nsswitch.conf", [tree.read(default)])


def _certificates(tree: RootFileSystem) -> None:
    """ca-certificates: all certificates in one file, in the order that update-ca-certificates writes them.

    The links in OpenSSL's own directory, which the package openssl would bring, let every program find the bundle
    without a variable in the environment.
    """
    paths = [path for path in tree.under(_CA_FOLDER) if path.endswith(".crt")]
    if not paths:
        return
    # `sed '$a\'` of the script: each certificate ends with one line break, added only where it is missing
    certificates = (content if content.endswith(b"\n") else content + b"\n" for content in map(tree.read, paths))
    tree.add_file(_CA_BUNDLE, certificates)
    _link(tree, "usr/lib/ssl/cert.pem", f"/{_CA_BUNDLE}")
    _link(tree, "usr/lib/ssl/certs", "/etc/ssl/certs")


def _time_zone(tree: RootFileSystem) -> None:
    """tzdata: UTC."""
    if "usr/share/zoneinfo/Etc/UTC" in tree:
        _link(tree, "etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
        if "etc/timezone" not in tree:
            tree.add_file("etc/timezone", [b"Etc/UTC\n"])


def _python_link(tree: RootFileSystem, lock: DebianLock) -> None:
    """python3-minimal, which would bring dpkg along: the name `python3`."""
    _link(tree, "usr/bin/python3", lock.interpreter_path.rpartition("/")[2])


def _package_record(tree: RootFileSystem, unpacked: Unpacked) -> None:
    """dpkg: what is installed, in the form of distroless images, one file a package, which scanners read."""
    name = unpacked.package.name
    control = unpacked.control.get("control", b"")
    if f"\nPackage: {name}\n".encode() not in b"\n" + control:
        raise IntegrityError(f"The Debian package {unpacked.package} says in itself that it is another one.")
    tree.add_file(f"var/lib/dpkg/status.d/{name}", [control.rstrip(b"\n") + b"\n"])
    sums = [
        line for line in unpacked.control.get("md5sums", b"").splitlines(keepends=True) if _is_there(line, unpacked)
    ]
    tree.add_file(f"var/lib/dpkg/status.d/{name}.md5sums", sums)


_SUM = re.compile(rb"[0-9a-f]{32}  (?P<path>[^\n]+)\n?")


def _is_there(line: bytes, unpacked: Unpacked) -> bool:
    """Whether a line of md5sums is about a file that was not left out."""
    matched = _SUM.fullmatch(line)
    return matched is not None and merged(matched["path"].decode("utf-8", "surrogateescape")) not in unpacked.left_out


def _link(tree: RootFileSystem, path: str, target: str) -> None:
    """A link, unless a package brings something of that name itself."""
    if path not in tree:
        tree.add_symlink(path, target)
