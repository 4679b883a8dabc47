"""Programs and libraries without the symbol table of their linker, and without debug information.

PyTorch's libtorch_cpu.so has 434 MB, 89 of them names that nothing reads at run time: the loader, `dlsym` and C++
exceptions use what lies in the loaded segments (`.dynsym`, `.eh_frame`). Every byte of those stays where it was. That
is what `strip` does not promise: it lays files anew, and breaks those that patchelf has been at. Of what comes behind
the segments, symbols and debug information are left out, and the table of sections says so, so that linkers read the
file as before. A file that is built otherwise is left as it is.

Source: the ELF specification (gABI), chapters "Object Files" and "Sections".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VERSION = 1
WORTH = 1 << 20  # bytes behind the loaded segments, from which on a file is looked at closely: it is read twice then
_TAIL = 2 << 20  # bytes at the end of a file that are held: the names of the sections and their table
_MOST = 4096  # sections of a linked file; real ones have some 40
_ALIGNMENT = 64  # bytes; what follows a cut moves by a multiple of them
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_LITTLE_64 = b"\x7fELF\x02\x01\x01"
_LINKED = (2, 3)  # ET_EXEC, ET_DYN: object files (ET_REL) are made of their symbols
_SYMBOLS, _STRINGS, _NO_BITS, _NULL = 2, 3, 8, 0  # SHT_SYMTAB, SHT_STRTAB, SHT_NOBITS, SHT_NULL
_ALLOCATED = 2  # SHF_ALLOC
_DEBUG = (b".debug_", b".zdebug_", b".gdb_index")
_SHIFTED = 40  # where the header has the position of the section table


@dataclass(frozen=True)
class Stripped:
    """What is left of a file: `size` bytes, after `cuts` (first byte, byte after the last), ascending.

    `table` replaces what begins at `table_at` of the file, to its end; the header then says `table_position`.
    """

    size: int
    cuts: tuple[tuple[int, int], ...]
    table_at: int
    table: bytes

    @property
    def table_position(self) -> int:
        return self.size - len(self.table)

    def apply(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces of the file, without what is cut. All of them are read, so whoever checks them does so."""
        position, head = 0, b""
        for piece in pieces:
            if len(head) < _HEADER.size:
                head += piece
                if len(head) < _HEADER.size:
                    continue
                head = head[:_SHIFTED] + struct.pack("<Q", self.table_position) + head[_SHIFTED + 8 :]
                yield from self._kept(head, 0)
                position = len(head)
                continue
            yield from self._kept(piece, position)
            position += len(piece)
        yield self.table

    def _kept(self, piece: bytes, position: int) -> Iterator[bytes]:
        """What stays of a piece that begins at a position of the file."""
        end = min(position + len(piece), self.table_at)
        at = position
        for first, last in self.cuts:
            if at < min(first, end):
                yield piece[at - position : min(first, end) - position]
            at = max(at, last)
        if at < end:
            yield piece[at - position : end - position]


def stripped(pieces: Iterable[bytes], size: int) -> Stripped | None:
    """How to cut a file of `size` bytes; None where there is not much to gain, or where it is no such file.

    Reads no further than needed. The content may be hostile: whatever does not add up leaves the file whole.
    """
    stream = iter(pieces)
    head = b""
    for piece in stream:
        head += piece
        if len(head) >= 1 << 16:
            break
    loaded = _end_of_segments(head)
    if loaded is None or size - loaded < WORTH:
        return None
    held, position = [head], len(head)
    for piece in stream:
        position += len(piece)
        if position > size - _TAIL:
            held.append(piece)
    if position != size:
        return None  # whoever checks the file will say so
    return _cut(head, b"".join(held)[-_TAIL:], size, loaded)


def _end_of_segments(head: bytes) -> int | None:
    """The byte after the last one that a segment has in the file."""
    if not head.startswith(_LITTLE_64) or len(head) < _HEADER.size:
        return None
    _, kind, _, _, _, at, _, _, _, entry, count, *_ = _HEADER.unpack_from(head)
    table_end = at + entry * count
    if kind not in _LINKED or entry != _SEGMENT.size or not count or table_end > len(head):
        return None
    segments: list[tuple[int, ...]] = [_SEGMENT.unpack_from(head, at + entry * number) for number in range(count)]
    ends = [segment[2] + segment[5] for segment in segments]
    return max(int(table_end), *ends)


def _cut(head: bytes, tail: bytes, size: int, loaded: int) -> Stripped | None:
    _, _, _, _, _, _, table_at, _, _, _, _, entry, count, names_in = _HEADER.unpack_from(head)
    begins = size - len(tail)  # where the part that is at hand begins
    if entry != _SECTION.size or not 0 < names_in < count <= _MOST or table_at + entry * count != size:
        return None
    if table_at < begins:
        return None
    sections = [_SECTION.unpack_from(tail, table_at - begins + entry * number) for number in range(count)]
    names_at, names_size = sections[names_in][4:6]
    if names_at < begins or names_at + names_size > table_at:
        return None
    names = tail[names_at - begins : names_at - begins + names_size]
    dropped = _droppable(sections, names, names_in)
    cuts = _merged(sorted((sections[number][4], sections[number][4] + sections[number][5]) for number in dropped))
    gained = sum(last - first for first, last in cuts)
    if gained < WORTH or cuts[0][0] < loaded or cuts[-1][1] > table_at:
        return None
    table = []
    for number, section in enumerate(sections):
        position, length, alignment = section[4], section[5], section[8]
        if number in dropped:
            table.append(bytes(entry))
            continue
        before = sum(last - first for first, last in cuts if last <= position)
        overlaps = section[1] not in (_NULL, _NO_BITS) and any(
            first < position + length and position < last for first, last in cuts
        )
        if overlaps or (before and alignment > _ALIGNMENT):
            return None
        table.append(_SECTION.pack(*section[:4], position - before, *section[5:]))
    return Stripped(size - gained, tuple(cuts), table_at, b"".join(table))


def _droppable(sections: list[tuple[int, ...]], names: bytes, names_in: int) -> set[int]:
    """The sections of symbols and of debug information; none where one that stays refers to them."""
    dropped = set()
    for number, section in enumerate(sections):
        name, kind, flags, link = section[0], section[1], section[2], section[6]
        if flags & _ALLOCATED or kind in (_NULL, _NO_BITS):
            continue
        if kind == _SYMBOLS:
            dropped.add(number)
            if 0 < link < len(sections) and link != names_in:
                strings = sections[link]
                if strings[1] == _STRINGS and not strings[2] & _ALLOCATED:
                    dropped.add(link)
        elif names[name : name + 10].startswith(_DEBUG):
            dropped.add(number)
    stays = (section for number, section in enumerate(sections) if number not in dropped and section[1] != _NULL)
    return set() if any(section[6] in dropped for section in stays) else dropped


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of bytes, neighbours made one, each cut to a length that keeps what follows aligned."""
    merged: list[tuple[int, int]] = []
    for first, last in ranges:
        if merged and first - merged[-1][1] < _ALIGNMENT:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return [(first, last - (last - first) % _ALIGNMENT) for first, last in merged]
