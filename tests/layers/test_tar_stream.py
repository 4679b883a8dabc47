"""Reading tar streams: what others write is understood, what nobody should write is refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import IntegrityError
from lightship.layers.tar_stream import LONGEST_EXTENSION, Entry, Kind, TarStream

FORMATS = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def read(content: bytes, size: int = 1 << 16) -> list[tuple[Entry, bytes]]:
    stream = TarStream(pieces(content, size), "The layer")
    return [(entry, b"".join(stream.content())) for entry in stream]


def archive(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@given(
    FORMATS,
    st.lists(st.tuples(PATHS, st.binary(max_size=2000)), max_size=5),
    st.sampled_from([1, 7, 511, 512, 4096, 1 << 20]),
)
def test_files_come_out_as_they_went_in(format: int, files: list[tuple[str, bytes]], size: int) -> None:
    content = archive(*((tarfile.TarInfo(path), data) for path, data in files), format=format)
    assert [(entry.path, data) for entry, data in read(content, size)] == files


@given(FORMATS, PATHS, PATHS, st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]))
def test_entries_mean_what_pythons_own_reader_says(format: int, path: str, target: str, kind: bytes) -> None:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode, info.mtime = kind, target, 0o4751, 1234567890
    info.uid = 1 << 22  # more than octal digits can say
    [(entry, content)] = read(archive((info, b""), format=format))
    with tarfile.open(fileobj=io.BytesIO(archive((info, b""), format=format))) as tar:
        [theirs] = tar.getmembers()
    assert entry.path.rstrip("/") == theirs.name
    assert (entry.mode, entry.uid, entry.modified) == (theirs.mode, theirs.uid, theirs.mtime)
    assert (entry.target, entry.size, content) == (theirs.linkname, 0, b"")
    kinds = {tarfile.SYMTYPE: Kind.SYMLINK, tarfile.LNKTYPE: Kind.HARDLINK, tarfile.DIRTYPE: Kind.DIRECTORY}
    assert entry.kind is kinds.get(kind, Kind.SPECIAL)


def test_content_that_nobody_reads_is_skipped() -> None:
    content = archive((tarfile.TarInfo("a"), b"x" * 100_000), (tarfile.TarInfo("b"), b"y"))
    assert [entry.path for entry in TarStream(pieces(content, 1000), "The layer")] == ["a", "b"]


@given(st.integers(0, 3000), st.integers(0, 255), st.integers(0, 5000))
def test_damage_is_an_error_of_ours_or_harmless(at: int, value: int, length: int) -> None:
    content = bytearray(archive((tarfile.TarInfo("a/" + "long" * 50), b"content" * 100), (tarfile.TarInfo("b"), b"")))
    content[at] = value
    try:
        read(bytes(content[:length]))
    except IntegrityError as error:
        assert "The layer" in error.message


@given(st.binary(max_size=2000))
def test_noise_is_an_error_of_ours(noise: bytes) -> None:
    try:
        read(noise)
    except IntegrityError:
        pass
    else:
        assert not noise.strip(b"\0") or noise[:512] == bytes(512)


def test_an_archive_cut_within_content_is_refused() -> None:
    content = archive((tarfile.TarInfo("a"), b"x" * 5000))
    with pytest.raises(IntegrityError, match="cut short"):
        read(content[:3000])


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read(kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, LONGEST_EXTENSION + 1
    endless = iter(lambda: bytes(1 << 16), None)

    def chunks() -> Iterator[bytes]:
        yield info.tobuf(tarfile.GNU_FORMAT)
        yield from endless

    with pytest.raises(IntegrityError, match="claims 1048577 bytes"):
        list(TarStream(chunks(), "The layer"))


@pytest.mark.parametrize(
    "record",
    [b"0 a=b\n", b"9 path=a", b"x path=a\n", b"99 path=a\n", b"10 path\n", b"-1 a=b\n", b"2 ", b"12 size=-1\n\n"],
)
def test_a_malformed_pax_header_is_refused(record: bytes) -> None:
    info = tarfile.TarInfo("PaxHeader")
    info.type = tarfile.XHDTYPE
    header = archive((info, record), format=tarfile.GNU_FORMAT)[:1024]
    with pytest.raises(IntegrityError, match=r"malformed|out of range"):
        read(header + archive((tarfile.TarInfo("a"), b"")))


@pytest.mark.parametrize("value", [b"20 size=" + b"9" * 11, b"15 mtime=nan\n", b"16 uid=4294967296"])
def test_numbers_out_of_range_are_refused(value: bytes) -> None:
    info = tarfile.TarInfo("PaxHeader")
    info.type = tarfile.XHDTYPE
    key, _, number = value.partition(b" ")[2].partition(b"=")
    body = b" " + key + b"=" + number.strip() + b"\n"
    record = str(len(body) + 2).encode() + body
    header = archive((info, record), format=tarfile.GNU_FORMAT)[:1024]
    with pytest.raises(IntegrityError):
        read(header + archive((tarfile.TarInfo("a"), b"")))


def test_sparse_and_unknown_entries_are_refused() -> None:
    info = tarfile.TarInfo("a")
    info.type = b"S"
    with pytest.raises(IntegrityError, match="unsupported"):
        read(archive((info, b""), format=tarfile.GNU_FORMAT))


def test_old_names_with_a_prefix_are_read() -> None:
    long = "d" * 100 + "/" + "f" * 90
    [(entry, content)] = read(archive((tarfile.TarInfo(long), b"1"), format=tarfile.USTAR_FORMAT))
    assert (entry.path, content) == (long, b"1")


def test_more_entries_than_allowed_are_refused() -> None:
    content = archive(*((tarfile.TarInfo(name), b"") for name in "abc"))
    assert len(list(TarStream(pieces(content, 1000), "The layer", most_entries=3))) == 3
    with pytest.raises(IntegrityError, match="The layer holds more entries"):
        list(TarStream(pieces(content, 1000), "The layer", most_entries=2))


def test_a_stream_without_end_is_refused_wherever_it_grows() -> None:
    content = archive((tarfile.TarInfo("a"), b"x" * 5000))

    def endless() -> Iterator[bytes]:
        yield content
        while True:
            yield bytes(1 << 16)

    with pytest.raises(IntegrityError, match="unpacks to more than 1048576 bytes"):
        list(TarStream(endless(), "The layer", most_bytes=1 << 20))
    with pytest.raises(IntegrityError, match="unpacks to more than 4096 bytes"):
        next(iter(TarStream(pieces(content, 1000), "The layer", most_bytes=4096)))


def test_the_end_of_the_entries_is_the_end_of_the_stream() -> None:
    left = pieces(archive((tarfile.TarInfo("a"), b"")) + bytes(5000), 512)
    assert len(list(TarStream(left, "The layer"))) == 1
    assert list(left) == []
