"""The registry that ships for tests is one to others as well."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lightship.oci.image import Image
from lightship.oci.layout import write_layout
from lightship.session import Session
from lightship.testing import Fault, Faults, MemoryRegistry

COPY = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests"]


@pytest.mark.tool("skopeo")
@pytest.mark.parametrize("account", [None, ("harbour", "quay-side")])
def test_skopeo_pushes_and_pulls(
    session: Session, make_layer: Callable[..., object], tmp_path: Path, account: tuple[str, str] | None
) -> None:
    from lightship.oci.image import Settings

    layer = make_layer({"app/text": (b"hello", 0o644)})
    image = Image((layer,), Settings(entrypoint=("/bin/true",)))  # type: ignore[arg-type]
    layout = write_layout(image, session.cache, tmp_path / "layout", name="x:1")
    with MemoryRegistry(account=account) as registry:
        name = f"docker://{registry.address}/team/iris:1"
        creds = [f"--dest-creds={':'.join(account)}"] if account else []
        subprocess.run([*COPY, "--dest-tls-verify=false", *creds, f"oci:{layout}:1", name], check=True)
        creds = [f"--src-creds={':'.join(account)}"] if account else []
        subprocess.run([*COPY, "--src-tls-verify=false", *creds, name, f"oci:{tmp_path / 'copy'}:1"], check=True)
        assert registry.repositories["team/iris"].tags == {"1": image.digest}


def test_the_same_seed_brings_the_same_faults() -> None:
    first, second = Faults(0.5, seed=3), Faults(0.5, seed=3)
    assert [first.pick("GET", "/") for _ in range(50)] == [second.pick("GET", "/") for _ in range(50)]
    assert first.happened == second.happened
    assert set(first.happened) <= set(Fault)
