"""Names of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import ProjectError
from lightship.oci.name import Reference, is_loopback

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("team/iris", "docker.io/team/iris:latest"),
        ("localhost/iris", "localhost/iris:latest"),
        ("localhost:5000/a/b:tag", "localhost:5000/a/b:tag"),
        (f"localhost:5000/a/b:tag@{DIGEST}", f"localhost:5000/a/b:tag@{DIGEST}"),
        (f"example.org/a@{DIGEST}", f"example.org/a@{DIGEST}"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("127.0.0.1:5000/a_b/c.d/e--f", "127.0.0.1:5000/a_b/c.d/e--f:latest"),
    ],
)
def test_a_reference_is_read_in_full(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full
    assert Reference.parse(full) == Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "Iris",
        "a//b",
        "a/../b",
        "/a",
        "a:",
        "a:b:c",
        "a@sha256:123",
        "a@md5:" + "a" * 64,
        "https://example.org/a",
        "exa mple.org/a",
        "user@example.org/a",
        "-a.org/b",
        "example.org:port/a",
        "a" * 300,
        "a:" + "b" * 129,
        "a\n",
        "a:b\n",
        "example.org\n/a",
        "а",  # Cyrillic
        "a:١",  # Arabic digit
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ProjectError, match="is not the name of an image"):
        Reference.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ProjectError:
        return
    assert Reference.parse(str(reference)) == reference
    assert not set(str(reference)) & set(" \n\t\\?#%")
    assert ".." not in reference.repository


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:5000"])
def test_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["example.org", "localhost.example.org", "10.0.0.1:5000", "127.0.0.1.example.org", "[::2]:80", "", "0.0.0.0"],
)
def test_addresses_of_others(host: str) -> None:
    assert not is_loopback(host)
