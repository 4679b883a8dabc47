"""Versions compare as dpkg compares them."""

from __future__ import annotations

import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightship.bases.debian.version import satisfies, upstream_version, version_key

ASCENDING = [
    "0~~",
    "0~~a",
    "0~",
    "0",
    "1.0~rc1-1",
    "1.0~rc2-1",
    "1.0",
    "1.0-0.1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb12u1",
    "1.0-2",
    "1.0a",
    "1.0+dfsg",
    "1.0.1",
    "1.2",
    "1.10",
    "2.36-9+deb12u7",
    "2.36-9+deb12u14",
    "2026f-0+deb12u1",
    "1:0.1",
    "1:1.2.13.dfsg-1",
    "2:0",
]

versions = st.from_regex(r"([0-9]:)?[0-9][0-9a-z.+~]{0,8}(-[0-9a-z.+~]{1,4})?", fullmatch=True)


def test_known_versions_sort_in_their_order() -> None:
    assert sorted(set(ASCENDING), key=version_key) == ASCENDING
    for lower, higher in pairwise(ASCENDING):
        assert satisfies(lower, "<<", higher)
        assert not satisfies(lower, ">=", higher)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.0-0"), ("0:1", "1"), ("1.00", "1.0"), ("1a", "1a0"), ("1", "01")]
)
def test_different_spellings_of_one_version_are_equal(one: str, other: str) -> None:
    assert satisfies(one, "=", other)
    assert version_key(one) == version_key(other)


def test_numbers_longer_than_python_reads_compare() -> None:
    assert satisfies("1." + "9" * 5000, "<<", "1.1" + "0" * 5000)


def test_the_upstream_version_has_neither_epoch_nor_revision() -> None:
    assert upstream_version("3.11.2-6+deb12u9") == "3.11.2"
    assert upstream_version("1:1.2-3-4") == "1.2-3"
    assert upstream_version("6.4") == "6.4"


@given(versions, versions, versions)
def test_the_order_is_total_and_transitive(one: str, two: str, three: str) -> None:
    low, middle, high = sorted((one, two, three), key=version_key)
    assert satisfies(low, "<=", middle)
    assert satisfies(middle, "<=", high)
    assert satisfies(low, "<=", high)


@pytest.mark.tool("dpkg")
@settings(max_examples=100, deadline=None)
@given(versions, versions)
def test_dpkg_agrees(one: str, other: str) -> None:
    def dpkg(relation: str) -> bool:
        return subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0

    assert satisfies(one, "<<", other) == dpkg("lt")
    assert satisfies(one, "=", other) == dpkg("eq")
