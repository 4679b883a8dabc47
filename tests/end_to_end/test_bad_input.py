"""Each kind of bad input ends with its exit code, a message that names what and where, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import LIGHTSHIP, Outcome
from machine import absent


def said(outcome: Outcome, status: int, *words: str) -> None:
    """The command ended with `status`, said each of the words, and showed no traceback."""
    assert outcome.status == status, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.startswith("error: ") or "\nerror: " in outcome.stderr
    for word in words:
        assert word in outcome.stderr, outcome.stderr


def test_an_unknown_key(example: Callable[[str], Path], lightship: Callable[..., Outcome]) -> None:
    folder = example("iris")
    (folder / "lightship.toml").write_text("[serve]\nprot = 80\n")
    said(lightship("build", folder), 2, "lightship.toml", "serve.prot", "Did you mean serve.port?")


def test_a_missing_model(example: Callable[[str], Path], lightship: Callable[..., Outcome]) -> None:
    folder = example("iris")
    (folder / "model.joblib").unlink()
    said(lightship("build", folder), 2, "model.joblib")


def test_a_python_that_the_base_does_not_have(
    example: Callable[[str], Path], lightship: Callable[..., Outcome]
) -> None:
    folder = example("iris")
    said(lightship("build", folder, "--python", "3.12"), 2, "3.12", "debian:trixie has 3.13")
    said(lightship("build", folder, "--python", "3.12", "--base", "debian:trixie"), 2, "3.12", "3.13")


def test_no_network(example: Callable[[str], Path], lightship: Callable[..., Outcome], tmp_path: Path) -> None:
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "UV_HTTP_RETRIES": "0"}
    environ = {
        **nowhere,
        **{name.upper(): value for name, value in nowhere.items()},
        "LIGHTSHIP_CACHE": str(tmp_path / "empty"),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
    }
    outcome = lightship("build", example("iris"), environ=environ)
    said(outcome, 4)
    assert not (tmp_path / "iris" / "lightship.lock").exists()


def test_offline_with_an_empty_cache(
    example: Callable[[str], Path], lightship: Callable[..., Outcome], tmp_path: Path
) -> None:
    environ = {"LIGHTSHIP_CACHE": str(tmp_path / "empty"), "UV_CACHE_DIR": str(tmp_path / "uv")}
    said(lightship("build", example("iris"), "--offline", environ=environ), 4, "offline")


@pytest.mark.network
def test_a_read_only_cache(example: Callable[[str], Path], tmp_path: Path) -> None:
    """As a user without root's powers, for whom permissions count."""
    cache = tmp_path / "closed"
    cache.mkdir()
    cache.chmod(0o500)
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if prefix and shutil.which("setpriv") is None:
        absent("setpriv is not installed")
    done = subprocess.run(
        [*prefix, str(LIGHTSHIP), "build", str(example("iris"))],
        env={**os.environ, "LIGHTSHIP_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    said(Outcome(done.returncode, done.stdout, done.stderr), 8, "No permission", str(cache), "LIGHTSHIP_CACHE")
    assert list(cache.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 60 MB, which a build of the example fills."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        absent("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.network
def test_a_full_disk(example: Callable[[str], Path], lightship: Callable[..., Outcome], small_disk: Path) -> None:
    outcome = lightship("build", example("iris"), environ={"LIGHTSHIP_CACHE": str(small_disk / "cache")})
    said(outcome, 8, "disk is full", "lightship cache prune")
    assert list((small_disk / "cache" / "v1" / "tmp").iterdir()) == []


@pytest.mark.network
def test_a_package_that_no_index_has(example: Callable[[str], Path], lightship: Callable[..., Outcome]) -> None:
    folder = example("iris")
    (folder / "requirements.txt").write_text("scikit-learn==1.7.2\nno-such-package-lightship-test==9.9\n")
    said(lightship("lock", folder), 3, "no-such-package-lightship-test")


@pytest.mark.network
def test_a_damaged_wheel_in_the_cache_is_fetched_again(
    example: Callable[[str], Path], succeed: Callable[..., Any], lightship: Callable[..., Outcome], tmp_path: Path
) -> None:
    folder, environ = example("iris"), {"LIGHTSHIP_CACHE": str(tmp_path / "cache")}
    before = succeed("build", folder, environ=environ)
    for blob in (tmp_path / "cache" / "v1" / "blobs" / "sha256").iterdir():
        if blob.read_bytes()[:2] == b"PK":
            blob.write_bytes(blob.read_bytes()[:-1000])
    for record in (tmp_path / "cache" / "v1" / "records" / "layers").iterdir():
        record.unlink()
    assert succeed("build", folder, environ=environ)["digest"] == before["digest"]


def test_usage_is_explained(lightship: Callable[..., Outcome]) -> None:
    said(lightship("biuld"), 2, "Did you mean 'build'?")
    said(lightship("build", "--engine"), 2, "--help")
    said(lightship("run", "no-such-image"), 2, "no-such-image:latest", "lightship build")


def test_errors_for_machines(example: Callable[[str], Path], lightship: Callable[..., Outcome]) -> None:
    folder = example("iris")
    (folder / "lightship.toml").write_text("[serve]\nprot = 80\n")
    outcome = lightship("build", folder, "--json")
    assert outcome.status == 2
    assert outcome.document["error"]["exit_code"] == 2
    assert "serve.port" in outcome.document["error"]["hint"]
