"""What `diff` says of two images that were made for it, and of the real example."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightship.contents import Difference, compare, inspect_image, open_image
from lightship.layers import Layer
from lightship.oci.image import Image, Settings
from lightship.oci.layout import write_layout
from lightship.session import Session

Files = dict[str, tuple[bytes, int] | str]
LIGHTSHIP = Path(sys.executable).parent / "lightship"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "iris"
SITE = "usr/lib/python3/site-packages"
SETTINGS = Settings(entrypoint=("/bin/true",), environment=(("MODE", "secret one"), ("OLD", "x")))


def wheel(name: str, version: str, content: bytes) -> Files:
    record = f"{name}.py,,\n{name}-{version}.dist-info/RECORD,,\n".encode()
    return {f"{SITE}/{name}.py": (content, 0o644), f"{SITE}/{name}-{version}.dist-info/RECORD": (record, 0o644)}


@pytest.fixture
def two_images(session: Session, make_layer: Callable[..., Layer], tmp_path: Path) -> tuple[Path, Path]:
    """`before` and `after`: numpy is newer, six is gone, click is new, the base is the same."""
    base = make_layer({"etc/motd": (b"hello", 0o644)})
    old, gone = make_layer(wheel("numpy", "2.3.4", b"one")), make_layer(wheel("six", "1.0", b"six"))
    new, added = make_layer(wheel("numpy", "2.3.5", b"three")), make_layer(wheel("click", "8.0", b"click"))
    before = Image((base, old, gone), SETTINGS)
    after = Image((base, new, added), replace(SETTINGS, user="0", environment=(("MODE", "secret two"),)))
    for name, image in (("before", before), ("after", after)):
        write_layout(image, session.cache, tmp_path / name, name=name)
    return tmp_path / "before", tmp_path / "after"


def compared(images: tuple[Path, Path], session: Session) -> Difference:
    before, after = (inspect_image(open_image(str(image), session)) for image in images)
    return compare(before, after)


def test_packages_by_version(two_images: tuple[Path, Path], session: Session) -> None:
    found = {each.name: (each.change, each.before, each.after) for each in compared(two_images, session).packages}
    assert found == {
        "numpy": ("changed", "2.3.4", "2.3.5"),
        "six": ("removed", "1.0", None),
        "click": ("added", None, "8.0"),
    }


def test_files_with_their_sizes(two_images: tuple[Path, Path], session: Session) -> None:
    found = {each.path: each for each in compared(two_images, session).files}
    numpy = found[f"{SITE}/numpy.py"]
    assert numpy.change == "changed"
    assert numpy.before and numpy.after and (numpy.before.size, numpy.after.size) == (3, 5)
    assert found[f"{SITE}/six.py"].change == "removed"
    assert found[f"{SITE}/click.py"].change == "added"
    assert "etc/motd" not in found


def test_a_node_pulls_the_layers_that_it_lacks_and_the_config(
    two_images: tuple[Path, Path], session: Session
) -> None:
    found = compared(two_images, session)
    assert found.pulled == found.after.layers[1:]
    assert found.pull_size == sum(layer.size for layer in found.pulled) + found.after.document_size


def test_settings_without_the_values_of_variables(two_images: tuple[Path, Path], session: Session) -> None:
    found = compared(two_images, session)
    assert {(each.name, each.before, each.after) for each in found.settings} == {
        ("user", "65532:65532", "0"),
        ("variable MODE", "set", "set to another value"),
        ("variable OLD", "set", "unset"),
    }
    assert "secret" not in json.dumps(found.to_dict(files=True))


def test_an_image_does_not_differ_from_itself(two_images: tuple[Path, Path], session: Session) -> None:
    found = compared((two_images[0], two_images[0]), session)
    assert found.is_empty
    assert found.pull_size == 0


def lightship(*arguments: object, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LIGHTSHIP), *map(str, arguments)],
        env={**os.environ, "LIGHTSHIP_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_by_its_status_whether_images_differ(
    two_images: tuple[Path, Path], session: Session
) -> None:
    before, after = two_images
    cache = session.cache.directory
    same = lightship("diff", before, before, "--exit-code", cache=cache)
    assert same.returncode == 0
    other = lightship("diff", before, after, "--exit-code", "--files", cache=cache)
    assert other.returncode == 1
    assert "2.3.4 → 2.3.5" in other.stdout
    assert f"- /{SITE}/six.py" in other.stdout
    assert lightship("diff", before, after, cache=cache).returncode == 0
    assert lightship("inspect", "nosuch", cache=cache).returncode == 2


def test_names_in_an_image_cannot_write_to_the_terminal(
    make_layer: Callable[..., Layer], session: Session, tmp_path: Path
) -> None:
    image = Image((make_layer({"a\x1b[31m[red]b": (b"", 0o666)}),), SETTINGS)
    write_layout(image, session.cache, tmp_path / "image", name="image")
    shown = lightship("inspect", tmp_path / "image", "--files", cache=session.cache.directory)
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert "[red]b" in shown.stdout


@pytest.mark.network
def test_the_example(shared_cache: Path, tmp_path: Path) -> None:
    project = tmp_path / "iris"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("*.lock", "__pycache__"))
    built = lightship("build", project, "-o", tmp_path / "iris.tar", "--json", cache=shared_cache)
    assert built.returncode == 0, built.stdout + built.stderr
    document: dict[str, Any] = json.loads(
        lightship("inspect", tmp_path / "iris.tar", "--files", "--json", cache=shared_cache).stdout
    )
    assert {"scipy", "numpy", "scikit-learn"} == {each["name"] for each in document["packages"][:3]}
    assert {"debian", "python", "runtime", "weights", "app"} <= {each["kind"] for each in document["packages"]}
    assert document["waste"]["buried_bytes"] == 0
    assert (document["setuid"], document["world_writable"]) == ([], [])
