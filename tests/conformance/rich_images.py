"""What images with one of everything are made of."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from wheel_factory import make_wheel, source_of

from lightship.layers import Compression, Layer, TarWriter, materialise, recipe_key
from lightship.layers.environment import Environment
from lightship.layers.weights import WeightsFile, weigh
from lightship.layers.wheels import WheelsRecipe
from lightship.oci.image import Healthcheck, Image, Settings
from lightship.session import Session

ENVIRONMENT = Environment("/usr/bin/python3.11", "3.11.2")

FORMS = (*Compression, "mixed")  # each compression alone, and all of them in one image


@dataclass(frozen=True)
class OddFiles:
    """A layer of everything that a tar may hold and a consumer may stumble over."""

    kind: str = "base"
    title: str = "odd files"

    @property
    def key(self) -> str:
        return recipe_key("odd-files", 1)

    def write(self, tar: TarWriter) -> None:
        tar.directory("tmp", mode=0o1777)
        tar.content("bin/tool", b"#!/bin/true\n", mode=0o755)
        tar.hardlink("bin/tool-again", "bin/tool")
        tar.symlink("bin/link", "tool")
        tar.symlink("bin/away", "/no/such/place")
        tar.content("empty", b"")
        tar.content("srv/äöü ☃.txt", "ä☃".encode())
        tar.content("srv/" + "/".join(["a-rather-long-directory-name"] * 9) + "/file", b"deep")
        tar.content("srv/" + "n" * 150, b"long name", uid=65532, gid=65532)
        tar.content("srv/noise", random.Random(1).randbytes(100_000))


def make_rich_image(form: str, session: Session, folder: Path) -> Image:
    """Odd files, an environment, a wheel, and weights: in one compression, or each layer in the next."""
    forms = list(Compression) if form == "mixed" else [Compression(form)]
    wheel = WheelsRecipe((source_of(demo_wheel(folder)),), ENVIRONMENT, "safe", None)
    layers: list[Layer] = [
        materialise(recipe, session.cache, forms[number % len(forms)])  # type: ignore[arg-type]
        for number, recipe in enumerate([OddFiles(), ENVIRONMENT, wheel])
    ]
    layers.append(weigh([weights_file(folder)], session.cache, session.progress).layer)
    return Image(
        tuple(layers),
        Settings(
            entrypoint=("/bin/tool",),
            environment=(("PATH", "/bin"), ("FORM", form)),
            labels=(("org.example.form", form),),
            healthcheck=Healthcheck(("/bin/tool",)),
        ),
        annotations=(("org.opencontainers.image.title", "rich"),),
    )


def demo_wheel(folder: Path) -> Path:
    """A wheel with something to prune, something to splice, and a script."""
    source = "".join(f"value_{number} = {number}\n" for number in range(2000)).encode()
    files = {
        "demo/__init__.py": b"x = 1\n",
        "demo/large.py": source,
        "demo/tests/test_demo.py": b"def test(): ...\n",
        "demo/stub.pyi": b"x: int\n",
        "demo/data.bin": random.Random(3).randbytes(50_000),
    }
    entry_points = b"[console_scripts]\ndemo = demo:main\n"
    return make_wheel(folder, files=files, metadata={"entry_points.txt": entry_points})


def weights_file(folder: Path, *, compressible: bool = False) -> WeightsFile:
    """Weights that nobody can compress, or that anybody can."""
    path = folder / ("trees.bin" if compressible else "weights.bin")
    path.write_bytes(b"node left right " * 20_000 if compressible else random.Random(2).randbytes(200_000))
    os.utime(path, (1, 1))
    return WeightsFile(f"app/{path.name}", path, path.stat().st_size)
