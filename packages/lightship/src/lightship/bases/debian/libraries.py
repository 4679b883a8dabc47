"""/etc/ld.so.cache without ldconfig: which shared library is found under which name.

`ctypes.util.find_library` and the NVIDIA container toolkit read the cache; the dynamic loader is quicker with it.
The format is glibc's own since 2.2, alone (without the older one before it) as ldconfig has written it since 2.32:
`struct cache_file_new` and `struct file_entry_new` in sysdeps/generic/dl-cache.h. Which names a directory gives
follows search_dir() in elf/ldconfig.c. Subdirectories of glibc-hwcaps are not entered; the loader looks there itself.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path

from lightship.bases.debian.filesystem import RootFileSystem

_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI3I")
_ENTRY = struct.Struct("<iIIIQ")
_LITTLE_ENDIAN = 2  # cache_file_new_flags_endian_little
# FLAG_ELF_LIBC6 with the architecture's flag (sysdeps/generic/ldconfig.h), and its e_machine (elf.h).
_FLAGS = {"amd64": 0x0303, "arm64": 0x0A03}
_MACHINES = {"amd64": 62, "arm64": 183}
_SYSTEM_FOLDERS = ("lib", "usr/lib")  # built into Debian's ldconfig; the multiarch ones come from ld.so.conf.d

_LIBRARY_NAME = re.compile(r"(?:lib|ld-).*\.so.*")
_PIECES = re.compile(r"[0-9]+|[^0-9]")
_MOST_DYNAMIC = 1 << 20  # bytes of a dynamic section
_MOST_HEADERS = 512
_LONGEST_NAME = 4096

Reader = Callable[[int, int], bytes]  # offset and size -> bytes of the file


@dataclass(frozen=True)
class Library:
    """A line of the cache: the name that is asked for, and the absolute path that answers."""

    name: str
    path: str


def library_cache(tree: RootFileSystem, architecture: str) -> bytes:
    """The content of /etc/ld.so.cache for the libraries of a tree."""
    libraries = find_libraries(tree, architecture)
    strings = bytearray()
    positions: dict[str, int] = {}
    start = _HEADER.size + _ENTRY.size * len(libraries)
    entries = []
    for library in libraries:
        for text in (library.name, library.path):
            if text not in positions:
                positions[text] = start + len(strings)
                strings += text.encode("utf-8", "surrogateescape") + b"\0"
        entries.append(_ENTRY.pack(_FLAGS[architecture], positions[library.name], positions[library.path], 0, 0))
    header = _HEADER.pack(_MAGIC, len(libraries), len(strings), _LITTLE_ENDIAN, 0, 0, 0, 0)
    return header + b"".join(entries) + bytes(strings)


def find_libraries(tree: RootFileSystem, architecture: str) -> list[Library]:
    """What ldconfig would find, in the order of the cache, which the loader searches by bisection.

    Of one name in several folders each is listed, that of the earliest folder first: it is the one that is taken.
    """
    found: list[Library] = []
    seen: set[str] = set()
    for folder in _folders(tree):
        real = tree.resolved(folder)
        if real is None or real in seen:
            continue
        seen.add(real)
        for name, file in _libraries_in(tree, real, architecture).items():
            found.append(Library(name, f"/{folder}/{file}"))
    return sorted(found, key=lambda library: _ORDER(library.name), reverse=True)


def _folders(tree: RootFileSystem) -> Iterator[str]:
    """The folders of ld.so.conf and what it includes, then ldconfig's own."""
    yield from _configured(tree, "etc/ld.so.conf", set())
    yield from _SYSTEM_FOLDERS


def _configured(tree: RootFileSystem, path: str, seen: set[str]) -> Iterator[str]:
    real = tree.resolved(path)
    if real is None or real in seen or tree.entries[real].kind == "directory":
        return
    seen.add(real)
    for line in tree.read(path).decode("utf-8", "replace").splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                folder, _, glob = pattern.lstrip("/").rpartition("/")
                matching = re.compile(re.escape(glob).replace(r"\*", ".*"))
                for name in tree.children(folder):
                    if matching.fullmatch(name):
                        yield from _configured(tree, f"{folder}/{name}", seen)
        elif len(words) == 1:
            yield words[0].strip("/")


def _libraries_in(tree: RootFileSystem, folder: str, architecture: str) -> dict[str, str]:
    """The names that one folder answers to, each with the file name that the cache points to."""
    found: dict[str, tuple[bool, str]] = {}  # name -> (is a link, file name)
    names = tree.children(folder)
    for name in names:
        if not _LIBRARY_NAME.fullmatch(name) or name.endswith("-gdb.py"):
            continue
        real = tree.resolved(f"{folder}/{name}")
        if real is None or tree.entries[real].kind not in ("file", "hardlink"):
            continue
        library = soname(tree.directory / real, _MACHINES[architecture])
        if library is None:
            continue
        answers = library or name
        is_link = tree.entries[f"{folder}/{name}"].kind == "symlink"
        if is_link and name.endswith(".so") and answers.startswith(name):
            answers = name  # what the linker asks for; every other link answers to the name in its file
        else:
            is_link = False
        there = found.get(answers)
        if there is None or (there[0] and not is_link) or (there[0] == is_link and _ORDER(there[1]) < _ORDER(name)):
            found[answers] = (is_link, name)
    # The cache points to the soname, which a package ships as a link, unless it does not.
    return {name: name if name in names else file for name, (_, file) in found.items()}


def _compare(one: str, other: str) -> int:
    """glibc's _dl_cache_libcmp: digits compare as numbers and come after everything else."""
    pieces, others = _PIECES.findall(one), _PIECES.findall(other)
    for left, right in zip(pieces, others, strict=False):
        if left.isdigit() and right.isdigit():
            if int(left) != int(right):
                return int(left) - int(right)
        elif left.isdigit() or right.isdigit():
            return 1 if left.isdigit() else -1
        elif left != right:
            return ord(left) - ord(right)
    return len(pieces) - len(others)


_ORDER = cmp_to_key(_compare)


def soname(path: Path, machine: int) -> str | None:
    """The DT_SONAME of a 64-bit little-endian shared library; "" where it has none; None if it is no such library."""
    with path.open("rb") as file:

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        try:
            return _soname(read(0, 64), read, machine)
        except (struct.error, ValueError, OverflowError, OSError):
            return None


def _soname(header: bytes, read: Reader, machine: int) -> str | None:
    if header[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", header, 16) != (3, machine):
        return None
    offset, size, count = (*struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54))
    if size < 56 or count > _MOST_HEADERS:
        return None
    segments = [struct.unpack_from("<IIQQQQ", read(offset + size * index, size)) for index in range(count)]
    loaded = [(each[3], each[2], each[5]) for each in segments if each[0] == 1]  # address, offset, size of PT_LOAD
    dynamic = next((each for each in segments if each[0] == 2), None)
    if dynamic is None or dynamic[5] > _MOST_DYNAMIC:
        return None
    table = read(dynamic[2], dynamic[5])
    values: dict[int, int] = {}
    for tag, value in struct.iter_unpack("<qQ", table[: len(table) // 16 * 16]):
        if tag == 0:
            break
        values.setdefault(tag, value)
    if 14 not in values or 5 not in values:  # DT_SONAME, DT_STRTAB
        return ""
    for address, start, length in loaded:
        if address <= values[5] < address + length:
            name, end, _ = read(start + values[5] - address + values[14], _LONGEST_NAME).partition(b"\0")
            return name.decode("ascii") if end and b"/" not in name else None
    return None
