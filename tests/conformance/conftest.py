"""Images with one of everything, and a real containerd to give them to."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from machine import absent
from rich_images import make_rich_image

from lightship.layers import weights as weights_module
from lightship.oci.image import Image, ImageIndex, Platform
from lightship.session import Session


@pytest.fixture
def rich_image(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Image]:
    """`rich_image(form)`: see rich_images.py."""
    monkeypatch.setattr(weights_module, "IN_PLACE", 1 << 16)
    return lambda form: make_rich_image(form, session, tmp_path)


@pytest.fixture
def rich_index(rich_image: Callable[[str], Image]) -> Callable[[str], ImageIndex]:
    """`rich_index(form)`: the same for two platforms."""

    def make(form: str) -> ImageIndex:
        image = rich_image(form)
        return ImageIndex((image, replace(image, platform=Platform("arm64"))))

    return make


@pytest.fixture(scope="module")
def containerd() -> Iterator[Callable[..., str]]:
    """`containerd("images", "ls")`: what its own client says. Other modules count this process's children."""
    program = shutil.which("containerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None or shutil.which("ctr") is None:
        absent("containerd is not installed")
    if os.geteuid() != 0:
        absent("containerd needs root")
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="containerd-") as directory:
        work = Path(directory)  # short, because a socket's path may have 108 bytes
        configuration = work / "config.toml"
        configuration.write_text(
            f'version = 2\nroot = "{work}/root"\nstate = "{work}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{work}/socket"\n[ttrpc]\n  address = "{work}/socket.ttrpc"\n'
        )

        def client(*arguments: str) -> str:
            command = ["ctr", "--address", f"{work}/socket", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        with (work / "log").open("wb") as log:
            process = subprocess.Popen([program, "--config", configuration], stdout=log, stderr=log)
        try:
            for _ in range(120):
                command = ["ctr", "--address", f"{work}/socket", "version"]
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    break
                assert process.poll() is None, (work / "log").read_text()
                time.sleep(0.25)
            yield client
        finally:
            process.terminate()
            process.wait()
