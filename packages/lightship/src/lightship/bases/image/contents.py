"""What a published image holds, read from its layers' tar streams without unpacking them: Python, C library, system.

Only what is needed is kept in memory: the entries named like an interpreter, and a few small files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lightship.cache import Cache
from lightship.errors import IntegrityError
from lightship.layers import Layer, plain_tar
from lightship.layers.environment import PREFIX
from lightship.layers.layer_tree import OPAQUE, WHITEOUT
from lightship.layers.tar_stream import Entry, Kind, TarStream

MAX_OS_RELEASE = 64 << 10  # bytes
MAX_NOTED = 10_000  # entries named like an interpreter; real images have some dozens
MAX_LINKS = 40  # symbolic links followed for one name, as Linux does

_INTERPRETER = re.compile(r"python(?:3(?:\.[0-9]+)?)?")
_WITH_MINOR = re.compile(r"python3\.([0-9]{1,2})")
_LIBRARY = re.compile(r"libpython3\.([0-9]{1,2})\.so[0-9.]*")
_MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[^/]+")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._+-]+(?:/[A-Za-z0-9._+-]+)*")
_GLIBC = re.compile(r"libc(?:\.so\.6|-2\.[0-9]+\.so)")
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]{0,80}release version (2\.[0-9]{1,3})")  # its banner
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_LONGEST_VERSION = 128  # bytes of what the patterns of versions match


@dataclass
class Contents:
    """The interesting entries of an image, after all of its layers.

    Attributes:
        files: Path of an interpreter or its library, to the full version that its bytes name ("" where none).
        links: Path to a symbolic link's target.
        os_release: Path to the file's text.
        glibc: Path of the C library to its version, such as 2.36.
        musl: Paths of musl's loader.
    """

    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    os_release: dict[str, str] = field(default_factory=dict)
    glibc: dict[str, str] = field(default_factory=dict)
    musl: set[str] = field(default_factory=set)

    def glibc_version(self) -> str:
        """The version of the C library, or nothing where there is none of GNU's."""
        return max(self.glibc.values(), default="", key=lambda version: int(version.partition(".")[2]))

    def pretty_name(self) -> str:
        """The system's name for people, or nothing."""
        for path in _OS_RELEASE:
            if path in self.os_release:
                return pretty_name(self.os_release[path])
        return ""

    def find_python(self, search_path: str) -> tuple[str, str] | None:
        """Absolute path and full version of the Python that a shell in the image would start, or None."""
        for directory in search_path.split(":"):
            folder = directory.strip("/")
            if not _PLAIN_PATH.fullmatch(folder):
                continue  # it will stand in shebangs
            if folder == f"{PREFIX}/bin":
                continue  # where the base was built by Lightship, the new environment takes this one's place
            if (name := self._python_in(folder)) and (version := self._version_of(f"{folder}/{name}")):
                return f"/{folder}/{name}", version
        return None

    def _python_in(self, folder: str) -> str | None:
        names = {posixpath.basename(path) for path in (*self.files, *self.links) if posixpath.dirname(path) == folder}
        chosen = posixpath.basename(self.links.get(f"{folder}/python3", ""))
        if chosen in names and _WITH_MINOR.fullmatch(chosen):
            return chosen
        numbered = sorted((int(match[1]), name) for name in names if (match := _WITH_MINOR.fullmatch(name)))
        if numbered:
            return numbered[-1][1]
        return None

    def _version_of(self, path: str) -> str | None:
        for _ in range(MAX_LINKS):
            if path not in self.links:
                break
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), self.links[path])).lstrip("/")
        if path not in self.files:
            return None
        if self.files[path]:
            return self.files[path]
        library = f"lib{posixpath.basename(path)}.so"  # where the program is small and all of Python in a library
        shared = (
            version for name, version in sorted(self.files.items()) if posixpath.basename(name).startswith(library)
        )
        return next(filter(None, shared), None)


def read_contents(layers: Sequence[Layer], cache: Cache) -> Contents:
    """Look through layers that are in the cache, base first."""
    contents = Contents()
    for layer in layers:
        before = _paths(contents)
        with plain_tar(layer, cache) as chunks:
            stream = TarStream(chunks, layer.title)
            for entry in stream:
                _note(contents, entry, stream, before)
    return contents


def _note(contents: Contents, entry: Entry, stream: TarStream, before: set[str]) -> None:
    path = posixpath.normpath("/" + entry.path).lstrip("/")
    folder, name = posixpath.split(path)
    if name == OPAQUE:
        inside = f"{folder}/" if folder else ""
        _forget(contents, (known for known in before if known.startswith(inside)))
        return
    if name.startswith(WHITEOUT):
        gone = posixpath.join(folder, name.removeprefix(WHITEOUT))
        _forget(contents, (known for known in before if known == gone or known.startswith(f"{gone}/")))
        return
    numbered = _LIBRARY.fullmatch(name) or _WITH_MINOR.fullmatch(name)
    if path in _OS_RELEASE and entry.kind is Kind.FILE and entry.size <= MAX_OS_RELEASE:
        contents.os_release[path] = b"".join(map(bytes, stream.content())).decode("utf-8", "replace")
    elif _MUSL.fullmatch(path):
        contents.musl.add(path)
    elif _GLIBC.fullmatch(name) and entry.kind is Kind.FILE:
        contents.glibc.pop(path, None)
        if found := _find(_GLIBC_VERSION, stream.content()):
            contents.glibc[path] = found
    elif (numbered or _INTERPRETER.fullmatch(name)) and entry.kind is not Kind.DIRECTORY:
        _forget(contents, (path,))
        if entry.kind is Kind.SYMLINK:
            contents.links[path] = entry.target
        elif entry.kind is Kind.HARDLINK:
            contents.files[path] = contents.files.get(posixpath.normpath("/" + entry.target).lstrip("/"), "")
        elif entry.kind is Kind.FILE:
            contents.files[path] = _version_in(stream.content(), int(numbered[1])) if numbered else ""
        if len(contents.files) + len(contents.links) > MAX_NOTED:
            raise IntegrityError(f"The base holds more than {MAX_NOTED} files that are named like a Python.")


def _version_in(pieces: Iterable[memoryview], minor: int) -> str:
    """The full version of Python that a program or library was compiled with: its PY_VERSION, a C string.

    The string may be the end of a longer one, such as a path, because linkers share equal ends.
    """
    return _find(re.compile(rb"(?<![0-9.])(3\.%d\.[0-9]{1,3})(?:(?:a|b|rc)[0-9]+)?\+?\0" % minor), pieces)


def _find(pattern: re.Pattern[bytes], pieces: Iterable[memoryview]) -> str:
    """The first group of the pattern's first match, or nothing."""
    end = b""
    for piece in pieces:
        window = end + bytes(piece)
        if match := pattern.search(window):
            return match[1].decode()
        end = window[-_LONGEST_VERSION:]
    return ""


def _paths(contents: Contents) -> set[str]:
    return {*contents.files, *contents.links, *contents.os_release, *contents.glibc, *contents.musl}


def _forget(contents: Contents, paths: Iterator[str] | tuple[str, ...]) -> None:
    for path in paths:
        contents.files.pop(path, None)
        contents.links.pop(path, None)
        contents.os_release.pop(path, None)
        contents.glibc.pop(path, None)
        contents.musl.discard(path)


def pretty_name(os_release: str) -> str:
    """PRETTY_NAME of an os-release file, fit to be printed.

    >>> pretty_name('ID=debian\\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"')
    'Debian GNU/Linux 12 (bookworm)'
    """
    match = re.search(r"^PRETTY_NAME=[\"']?([^\"'\n]{1,200})", os_release, re.MULTILINE)
    return "".join(filter(str.isprintable, match[1])) if match else ""
