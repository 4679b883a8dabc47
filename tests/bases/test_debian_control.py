"""Control files, relations, and the index that reads nothing before it is asked."""

from __future__ import annotations

import contextlib
import lzma
from pathlib import Path

import pytest
from debian_archive import Deb
from hypothesis import given
from hypothesis import strategies as st

from lightship.bases.debian.control import paragraphs, relations
from lightship.bases.debian.index import PackageIndex, pool_path
from lightship.errors import IntegrityError


def index_of(*packages: Deb) -> PackageIndex:
    return PackageIndex("bookworm", "\n".join(package.paragraph for package in packages).encode())


def test_relations_keep_versions_and_drop_architectures() -> None:
    (first, second) = relations("libc6:any (>= 2.35), aa (<< 1:2~) | bb")
    assert [str(one) for one in first] == ["libc6 (>= 2.35)"]
    assert [str(one) for one in second] == ["aa (<< 1:2~)", "bb"]
    assert first[0].admits("2.36-9")
    assert not first[0].admits("2.31")


@pytest.mark.parametrize("field", ["UPPER", "aa (1.0)", "aa (>= )", "aa bb", "aa | ", "$(x)"])
def test_what_is_no_relation_is_refused(field: str) -> None:
    with pytest.raises(IntegrityError, match="Not a relation"):
        relations(field)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (lambda: list(paragraphs(text)), lambda: relations(text)):
        with contextlib.suppress(IntegrityError):
            parse()


def test_the_index_finds_names_at_its_start_middle_and_end() -> None:
    index = index_of(Deb("aa"), Deb("bb"), Deb("cc", fields={"Depends": "aa"}))
    assert [next(index.named(name)).name for name in ("aa", "bb", "cc")] == ["aa", "bb", "cc"]
    assert list(index.named("dd")) == []
    assert next(index.named("cc")).dependencies[0][0].name == "aa"


def test_the_index_knows_providers_also_of_the_first_package() -> None:
    index = index_of(
        Deb("aa", fields={"Provides": "virtual (= 2), other"}), Deb("bb"), Deb("cc", fields={"Provides": "virtual"})
    )
    assert [package.name for package in index.providers("virtual")] == ["aa", "cc"]
    assert [package.name for package in index.providers("other")] == ["aa"]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "pool/../../x.deb", "pool/x.deb?y", "other/x.deb", "pool/x", "pool//x.deb", "pool/x y.deb"],
)
def test_a_path_outside_the_pool_is_refused(path: str) -> None:
    with pytest.raises((ValueError, IntegrityError)):
        pool_path(path)


def test_an_entry_without_a_hash_is_refused_by_name() -> None:
    text = Deb("aa").paragraph.replace("SHA256", "MD5sum")
    with pytest.raises(IntegrityError, match="entry of aa in the index of bookworm"):
        list(PackageIndex("bookworm", text.encode()).named("aa"))


def test_an_index_of_another_size_than_signed_is_refused(tmp_path: Path) -> None:
    content = Deb("aa").paragraph.encode()
    path = tmp_path / "Packages.xz"
    path.write_bytes(lzma.compress(content))
    assert [package.name for package in PackageIndex.of_file("bookworm", path, len(content)).named("aa")] == ["aa"]
    for size in (len(content) - 1, len(content) + 1, 1 << 40):
        with pytest.raises(IntegrityError, match="bookworm"):
            PackageIndex.of_file("bookworm", path, size)
    path.write_bytes(lzma.compress(content)[:-9])
    with pytest.raises(IntegrityError, match="damaged"):
        PackageIndex.of_file("bookworm", path, len(content))
