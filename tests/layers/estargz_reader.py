"""A reader of eStargz layers for tests, written from the format's description and apart from what writes them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any

FOOTER = 51


@dataclass(frozen=True)
class Estargz:
    """A layer that was read: its table's entries, the table's bytes and offset, and every file's content."""

    entries: list[dict[str, Any]]
    toc: bytes
    toc_offset: int
    files: dict[str, bytes]

    def names(self) -> list[str]:
        return [entry["name"] for entry in self.entries if entry["type"] != "chunk"]


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def read_estargz(blob: bytes) -> Estargz:
    """Read a layer by its footer and table alone, and check all that the table says; AssertionError where it lies."""
    toc_offset = read_footer(blob[-FOOTER:])
    member, _ = one_member(blob, toc_offset)
    with tarfile.open(fileobj=io.BytesIO(member)) as tar:
        (only,) = tar.getmembers()
        assert only.name == "stargz.index.json"
        toc = tar.extractfile(only).read()  # type: ignore[union-attr]
    document = json.loads(toc)
    assert document["version"] == 1
    entries = document["entries"]
    files = {}
    for name, pieces in by_file(entries).items():
        files[name] = content_of(blob, pieces)
    check_against_tar(blob, entries, files)
    return Estargz(entries, toc, toc_offset, files)


def read_footer(footer: bytes) -> int:
    """The offset of the table."""
    assert footer[:4] == b"\x1f\x8b\x08\x04"
    (extra_size,) = struct.unpack("<H", footer[10:12])
    extra = footer[12 : 12 + extra_size]
    assert (extra_size, extra[:2], extra[2:4]) == (26, b"SG", struct.pack("<H", 22))
    assert extra[20:] == b"STARGZ"
    assert gzip.decompress(footer) == b""
    return int(extra[4:20], 16)


def one_member(blob: bytes, offset: int) -> tuple[bytes, int]:
    """The gzip member at an offset, inflated, and how many stored bytes it has."""
    stream = zlib.decompressobj(31)
    content = stream.decompress(blob[offset:])
    assert stream.eof
    return content, len(blob) - offset - len(stream.unused_data)


def by_file(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The entries of every regular file: itself and its chunks."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["type"] == "reg":
            found[entry["name"]] = [entry]
        elif entry["type"] == "chunk":
            found[entry["name"]].append(entry)
    return found


def content_of(blob: bytes, pieces: list[dict[str, Any]]) -> bytes:
    first, content = pieces[0], b""
    if not first.get("size"):
        assert pieces == [first]
        assert "offset" not in first
        return b""
    for piece in pieces:
        assert piece.get("chunkOffset", 0) == len(content)
        member, _ = one_member(blob, piece["offset"])
        size = piece.get("chunkSize", 0) or first["size"] - len(content)
        assert len(member) == size
        assert sha256(member) == piece["chunkDigest"]
        content += member
    assert sha256(content) == first["digest"]
    return content


def check_against_tar(blob: bytes, entries: list[dict[str, Any]], files: dict[str, bytes]) -> None:
    """The table says of every entry what the tar says, in the same order, and leaves only itself out."""
    types = {b"0": "reg", b"5": "dir", b"2": "symlink", b"1": "hardlink"}
    own = [entry for entry in entries if entry["type"] != "chunk"]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
        members = tar.getmembers()
        assert members[-1].name == "stargz.index.json"
        for member, entry in zip(members[:-1], own, strict=True):
            assert (member.name, types[member.type]) == (entry["name"].rstrip("/"), entry["type"])
            assert (member.mode, member.uid, member.gid) == (entry["mode"], entry["uid"], entry["gid"])
            assert member.linkname == entry.get("linkName", "")
            assert entry["modtime"] == "1980-01-01T00:00:00Z"
            if member.isreg():
                assert tar.extractfile(member).read() == files[entry["name"]]  # type: ignore[union-attr]
