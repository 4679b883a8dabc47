"""`lightship keygen`, `sign`, `verify-signature` and `push --sign-key` as a person runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Outcome

from lightship.oci.image import Image
from lightship.oci.layout import write_layout
from lightship.session import Session
from lightship.testing import MemoryRegistry

pytest.importorskip("cryptography")
pytest.importorskip("nacl")
PASSWORD = {"COSIGN_PASSWORD": "a lantern at sea"}


@pytest.fixture
def registry() -> Iterator[str]:
    with MemoryRegistry() as running:
        yield running.address


@pytest.fixture
def layout(session: Session, small_image: Callable[..., Image], tmp_path: Path) -> Path:
    return write_layout(small_image(), session.cache, tmp_path / "layout", name="small:1")


def test_pushed_signed_and_checked(
    succeed: Callable[..., Any], lightship: Callable[..., Outcome], registry: str, layout: Path, tmp_path: Path
) -> None:
    pair = succeed("keygen", environ=PASSWORD)
    assert (tmp_path / pair["private"]).is_file()
    name = f"{registry}/team/iris:1"
    signing = ("--image", f"oci:{layout}", "--sign-key", "cosign.key")
    pushed = succeed("push", name, *signing, environ=PASSWORD)
    assert pushed["signed_with"] == pair["key"]
    verified = succeed("verify-signature", name, "--key", "cosign.pub")
    assert verified["reference"] == f"{name}@{pushed['digest']}"
    assert not succeed("sign", name, "--key", "cosign.key", environ=PASSWORD)["added"]

    succeed("keygen", "other", environ=PASSWORD)
    refused = lightship("verify-signature", name, "--key", "other.pub")
    assert refused.status == 5
    assert "not signed" in refused.stderr
    assert succeed("sign", name, "--key", "other.key", environ=PASSWORD)["added"]
    assert name in lightship("verify-signature", name, "--key", "other.pub").stdout


def test_slips_are_told(lightship: Callable[..., Outcome], registry: str, layout: Path, tmp_path: Path) -> None:
    assert lightship("keygen", environ=PASSWORD).status == 0
    again = lightship("keygen", environ=PASSWORD)
    assert (again.status, "never overwritten" in again.stderr) == (8, True)
    name = f"{registry}/iris:1"
    wrong = lightship(
        "push", name, "--image", f"oci:{layout}", "--sign-key", "cosign.key", environ={"COSIGN_PASSWORD": "guess"}
    )
    assert (wrong.status, "password is another one" in wrong.stderr) == (5, True)
    assert lightship("verify-signature", name, "--key", "cosign.pub").status == 4  # nothing was pushed
    swapped = lightship("sign", name, "--key", "cosign.pub")
    assert (swapped.status, "not a private key" in swapped.stderr) == (2, True)


def test_nobody_is_asked_where_nobody_is(lightship: Callable[..., Outcome]) -> None:
    silent = lightship("keygen")
    assert (silent.status, "COSIGN_PASSWORD" in silent.stderr) == (2, True)
