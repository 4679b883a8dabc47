"""Reading .deb files: an ar archive of two tars, in one pass, in pieces, within bounds (deb(5))."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from lightship.bases.debian.streams import ByteStream, decompressed
from lightship.cache import CHUNK
from lightship.errors import IntegrityError
from lightship.layers.tar_stream import Kind, TarStream

MOST_UNPACKED = 8 << 30  # bytes that one package may unpack to; the largest of Debian have 2 GiB
_LARGEST_CONTROL_FILES = 32 << 20  # bytes, together


class DebReader:
    """An open .deb: `control` first, then `data`, each once."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        if self._stream.exactly(8) != b"!<arch>\n":
            raise IntegrityError("it is not an ar archive")
        name, size = self._header()
        if name != "debian-binary" or size > 64 or not self._stream.exactly(size).startswith(b"2."):
            raise IntegrityError("it is not a package of format 2")
        self._stream.skip(size % 2)

    def control(self) -> dict[str, bytes]:
        """The files of control.tar by name: control, md5sums, postinst, ..."""
        files: dict[str, bytes] = {}
        left = _LARGEST_CONTROL_FILES
        stream = self._tar("control.tar")
        for entry in stream:
            left -= entry.size
            if left < 0:
                raise IntegrityError("its control files are larger than is reasonable")
            if entry.kind is Kind.FILE:
                files[entry.path.removeprefix("./")] = b"".join(stream.content())
        self._end()
        return files

    def data(self) -> TarStream:
        """The files of the package."""
        return self._tar("data.tar")

    def _tar(self, wanted: str) -> TarStream:
        while True:
            name, size = self._header()
            self._unread, self._padding = size, size % 2
            if name.startswith("_"):  # deb(5): members that readers may ignore
                self._end()
                continue
            if not name.startswith(wanted):
                raise IntegrityError(f"it holds {name!r} where {wanted} is expected")
            chunks = decompressed(self._member_pieces(), name.removeprefix(wanted))
            return TarStream(chunks, f"its {wanted}", most_bytes=MOST_UNPACKED)

    def _member_pieces(self) -> Iterator[bytes]:
        while self._unread:
            piece = self._stream.some(min(self._unread, CHUNK))
            if not piece:
                raise IntegrityError("it ends too early")
            self._unread -= len(piece)
            yield piece

    def _end(self) -> None:
        self._stream.skip(self._unread + self._padding)
        self._unread = self._padding = 0

    def _header(self) -> tuple[str, int]:
        header = self._stream.exactly(60)
        name, size = header[:16].decode("latin-1").rstrip(" /"), header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            raise IntegrityError("it is a damaged ar archive")
        return name, int(size)

    _unread = 0
    _padding = 0


@contextmanager
def open_deb(path: Path, title: str) -> Iterator[DebReader]:
    """Open a package; every fault found while it is open becomes an `IntegrityError` that names `title`."""
    with path.open("rb") as file:
        try:
            yield DebReader(ByteStream(iter(lambda: file.read(CHUNK), b"")))
        except (IntegrityError, lzma.LZMAError, zlib.error, zstandard.ZstdError, EOFError) as error:
            raise IntegrityError(
                f"The Debian package {title} is refused: {str(error).rstrip('.')}.",
                hint=getattr(error, "hint", None) or "A damaged or hostile package: use another mirror.",
            ) from error
