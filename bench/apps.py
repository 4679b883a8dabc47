"""The applications that are measured, each with its textbook Dockerfile, and the changes that rebuilds are about."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIGHTSHIP = Path(sys.executable).parent / "lightship"


@dataclass(frozen=True)
class Bars:
    """What the application is held to: times as fast as Docker, and the size over Docker's."""

    cold: float
    bump: float
    size: float
    memory: int | None = None  # bytes at the peak of a cold build; where it is promised


@dataclass(frozen=True)
class App:
    """A folder in examples/, and how to bump one small dependency of it."""

    name: str
    example: str
    bump: tuple[str, str]
    bars: Bars

    def prepare(self) -> None:
        """Train the model where it is missing."""
        script = ROOT / "examples" / self.example / "train.py"
        subprocess.run([sys.executable, str(script), "--if-missing"], check=True)

    def fresh(self, directory: Path, *, compression: str = "zstd") -> Path:
        """A copy that the scenarios may change, without a lock: a person's first build."""
        shutil.rmtree(directory, ignore_errors=True)
        leave_out = shutil.ignore_patterns("lightship.lock", "__pycache__", ".lightship")
        shutil.copytree(ROOT / "examples" / self.example, directory, ignore=leave_out)
        shutil.copy(ROOT / "bench" / "textbook" / f"{self.name}.Dockerfile", directory / "Dockerfile")
        (directory / ".dockerignore").write_text("Dockerfile\n.dockerignore\ntrain.py\n")
        with (directory / "lightship.toml").open("a") as file:
            file.write(f'\n[image]\ncompression = "{compression}"\n')
        return directory

    def change(self, project: Path, scenario: str) -> None:
        """Make the change that the scenario is about: `bump` or `code`; anything else changes nothing."""
        if scenario == "bump":
            path = project / "requirements.txt"
            text = path.read_text()
            assert self.bump[0] in text, f"{path} does not pin {self.bump[0]}"
            path.write_text(text.replace(*self.bump))
        elif scenario == "code":
            with (project / "serve.py").open("a") as file:
                file.write("# changed\n")


APPS: Mapping[str, App] = {
    app.name: app
    for app in (
        App("iris", "iris-fastapi", ("joblib==1.5.2", "joblib==1.5.1"), Bars(3, 10, 0.5, 300_000_000)),
        App("text", "text-classification", ("idna==3.11", "idna==3.10"), Bars(4, 50, 0.55)),
    )
}


def empty_caches(directory: Path) -> dict[str, str]:
    """The environment for Lightship with caches of its own in a folder, uv's as well; what lay there is deleted."""
    shutil.rmtree(directory, ignore_errors=True)
    return {**os.environ, "LIGHTSHIP_CACHE": str(directory / "lightship"), "UV_CACHE_DIR": str(directory / "uv")}
