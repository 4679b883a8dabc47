"""Libraries without symbols: what is loaded stays where it was, and whatever does not add up leaves a file whole."""

from __future__ import annotations

import ctypes
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.layers.symbols import WORTH, stripped

ALIGNED = 0x1000


def elf(*, symbols: int = 2 * WORTH, kind: int = 3, loaded: int = ALIGNED) -> bytes:
    """A library of one segment, a comment behind it, and symbols with their names."""
    names = b"\0.text\0.comment\0.symtab\0.strtab\0.shstrtab\0"
    at = [0, 0, loaded, loaded + 16, loaded + 16 + symbols, loaded + 16 + 2 * symbols]
    table_at = at[5] + len(names)
    rows = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (names.index(b".text"), 1, 6, 0x200, 0x200, loaded - 0x200, 0, 0, 16, 0),
        (names.index(b".comment"), 1, 0, 0, at[2], 16, 0, 0, 1, 0),
        (names.index(b".symtab"), 2, 0, 0, at[3], symbols, 4, 0, 8, 24),
        (names.index(b".strtab"), 3, 0, 0, at[4], symbols, 0, 0, 1, 0),
        (names.index(b".shstrtab"), 3, 0, 0, at[5], len(names), 0, 0, 1, 0),
    ]
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, kind, 62, 1, 0, 64, table_at, 0, 64, 56, 1, 64, len(rows), 5)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, loaded, loaded, ALIGNED)
    start = (header + segment).ljust(loaded, b"\x90")
    table = b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows)
    return start + b"made by a tool\0\0" + b"s" * symbols + b"n" * symbols + names + table


def cut(content: bytes, piece: int = 100_000) -> bytes | None:
    pieces = [content[at : at + piece] for at in range(0, len(content), piece)]
    plan = stripped(pieces, len(content))
    if plan is None:
        return None
    left = b"".join(plan.apply(pieces))
    assert len(left) == plan.size
    return left


@pytest.mark.parametrize("piece", [1, 63, 100_000, 1 << 24])
def test_what_is_loaded_stays_where_it_was(piece: int) -> None:
    whole = elf(symbols=WORTH // 2 + 64)
    left = cut(whole, piece)
    assert left is not None and len(whole) - len(left) >= WORTH
    assert left[:40] == whole[:40] and left[48 : ALIGNED + 16] == whole[48 : ALIGNED + 16]
    (table_at,) = struct.unpack_from("<Q", left, 40)
    rows = [struct.unpack_from("<IIQQQQIIQQ", left, table_at + 64 * number) for number in range(6)]
    assert rows[3] == rows[4] == rows[0]  # no section is there any more; the others keep their numbers
    names_at, size = rows[5][4:6]
    assert left[names_at : names_at + size].startswith(b"\0.text\0")


@pytest.mark.parametrize(
    "content",
    [
        elf(symbols=WORTH // 4),  # not worth it
        elf(kind=1),  # an object file is made of its symbols
        elf() + b"appended",  # a program may read what lies behind it
        b"\x7fELF" + bytes(3 * WORTH),
        b"no program" * WORTH,
        b"",
    ],
    ids=["small", "object", "appended", "empty-header", "no-program", "nothing"],
)
def test_other_files_stay_whole(content: bytes) -> None:
    assert cut(content) is None


def test_sections_that_refer_to_symbols_keep_them() -> None:
    content = bytearray(elf())
    (table_at,) = struct.unpack_from("<Q", content, 40)
    struct.pack_into("<I", content, table_at + 64 * 2 + 40, 3)  # .comment says that it belongs to .symtab
    assert cut(bytes(content)) is None


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_hostile_headers_never_change_what_is_loaded(seed: int, changes: int) -> None:
    chance, content = random.Random(seed), bytearray(elf(symbols=WORTH))
    (table_at,) = struct.unpack_from("<Q", content, 40)
    places = [*range(64 + 56), *range(table_at, len(content))]
    for _ in range(changes):
        content[chance.choice(places)] = chance.choice((0, 1, 255, chance.randrange(256)))
    left = cut(bytes(content))
    if left is not None and content[64:120] == elf(symbols=0)[64:120]:
        assert left[120:ALIGNED] == content[120:ALIGNED]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_a_real_library_still_loads_and_links(tmp_path: Path) -> None:
    functions = "\n".join(f"static int hidden_{'x' * 200}_{n}(void) {{ return {n}; }}" for n in range(6000))
    table = ",".join(f"hidden_{'x' * 200}_{n}" for n in range(6000))
    source = f"{functions}\nstatic int (*all[])(void) = {{{table}}};\nint answer(int n) {{ return all[n](); }}\n"
    (tmp_path / "a.c").write_text(source)
    whole, less = tmp_path / "libwhole.so", tmp_path / "libless.so"
    subprocess.run(["gcc", "-O0", "-shared", "-fPIC", "-o", whole, tmp_path / "a.c"], check=True)
    left = cut(whole.read_bytes())
    assert left is not None and len(left) < whole.stat().st_size - WORTH
    less.write_bytes(left)
    assert ctypes.CDLL(str(less)).answer(4711) == 4711
    (tmp_path / "b.c").write_text("int answer(int); int main(void) { return answer(42) != 42; }\n")
    program = tmp_path / "program"
    subprocess.run(["gcc", "-o", program, tmp_path / "b.c", f"-L{tmp_path}", "-lless"], check=True)
    subprocess.run([program], env={"LD_LIBRARY_PATH": str(tmp_path)}, check=True)
