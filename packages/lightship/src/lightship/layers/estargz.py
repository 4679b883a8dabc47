"""The format of eStargz layers: gzip files of which a node may fetch single files.

Each file's content begins a gzip member. The last entry of the tar, `stargz.index.json`, is a table that says where
each is and what it hashes to; an empty member at the very end says where the table is; and the layer's descriptor
says what the table hashes to. Everybody else reads such a layer as the gzip file that it is.

Source: containerd/stargz-snapshotter, docs/estargz.md.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from datetime import UTC, datetime
from typing import Annotated, BinaryIO

import msgspec

from lightship.errors import IntegrityError
from lightship.layers.gzip_members import gunzipped
from lightship.layers.tar_stream import TarStream

VERSION = 2  # of what is written here; part of every key
CHUNK_SIZE = (
    4 << 20
)  # bytes of content that a node fetches and checks at once, as the snapshotter's own tools have it

TOC_NAME = "stargz.index.json"
PREFETCH_LANDMARK = ".prefetch.landmark"  # what start-up reads stands before it
NO_PREFETCH_LANDMARK = ".no.prefetch.landmark"  # nobody knows what start-up reads
LANDMARKS = (PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK)
LANDMARK_CONTENT = b"\x0f"

# Annotations of a layer's descriptor; the second is for containers/storage (Podman), and is in bytes.
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"

FOOTER_SIZE = 51  # bytes
_TOC_LIMIT = 256 << 20  # bytes of a table that is read back; one of 10,000 files has 4 MB
_FOOTER = re.compile(
    rb"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0([0-9a-f]{16})STARGZ\x01\0\0\xff\xff\0{8}", re.DOTALL
)


Count = Annotated[int, msgspec.Meta(ge=0)]


class TocEntry(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An entry of the tar, or (type `chunk`) a further piece of the file before it.

    `offset` is where the gzip member of its content begins in the stored layer. `chunk_size` 0 means: to the end of
    the file. `size`, `chunk_offset` and `chunk_size` count bytes of the content, `modtime` is RFC 3339.
    """

    name: str
    type: str
    mode: Count
    uid: Count
    gid: Count
    modtime: str = ""
    size: Count = 0
    link_name: str = ""
    offset: Count = 0
    chunk_offset: Count = 0
    chunk_size: Count = 0
    digest: str = ""
    chunk_digest: str = ""


class Toc(msgspec.Struct, frozen=True):
    """The table of contents: entries in the order of the tar, without the table itself."""

    version: int
    entries: list[TocEntry]


_TYPES = {
    tarfile.REGTYPE: "reg",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


def toc_entry(header: tarfile.TarInfo) -> TocEntry:
    """A tar entry as the table has it, before anything is known of its content."""
    try:
        (header.name + header.linkname).encode()
    except UnicodeEncodeError as error:
        raise IntegrityError(
            f"The name {header.name!r} is not UTF-8, and an eStargz layer's table of contents is JSON.",
            hint='Rename the file, or choose [image] compression = "gzip" or "zstd".',
        ) from error
    return TocEntry(
        name=header.name,
        type=_TYPES[header.type],
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        modtime=datetime.fromtimestamp(header.mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        size=header.size,
        link_name=header.linkname,
    )


def footer(toc_offset: int) -> bytes:
    """The end of the stored layer: an empty member whose extra field (RFC 1952, 2.3.1.1) says where the table is."""
    header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"  # deflate, with an extra field, no time, unknown system
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016xSTARGZ" % toc_offset
    empty = b"\x01\0\0\xff\xff" + bytes(8)  # one stored block of no bytes; CRC-32 and size
    return header + len(extra).to_bytes(2, "little") + extra + empty


def read_toc(file: BinaryIO, size: int, name: str) -> tuple[Toc, bytes, int]:
    """The table of a stored layer of `size` bytes: read, as it is stored (for its digest), and its offset.

    Raises `IntegrityError`, naming `name`, for anything that is not such a layer.
    """
    file.seek(max(0, size - FOOTER_SIZE))
    found = _FOOTER.fullmatch(file.read(FOOTER_SIZE))
    offset = int(found[1], 16) if found else 0
    if not 0 < offset < size - FOOTER_SIZE:
        raise IntegrityError(f"{name} is not an eStargz layer: its last {FOOTER_SIZE} bytes are no footer.")
    file.seek(offset)
    try:
        for entry in (tar := TarStream(gunzipped(file), name)):
            if entry.path == TOC_NAME and entry.size <= _TOC_LIMIT:
                stored = b"".join(tar.content())
                return msgspec.json.decode(stored, type=Toc), stored, offset
            break
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{name} has an unreadable table of contents: {error}.") from error
    raise IntegrityError(f"{name} has no table of contents where its end says.")
