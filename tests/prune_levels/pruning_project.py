"""A project of made wheels, each used in another way, behind a server of plain ASGI."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from wheel_factory import make_wheel

SERVER = """
import ctypes
import importlib
import importlib.metadata
import json
import os
import sysconfig


def answer(request):
    word = importlib.import_module("late").word(request)  # on the first request only
    blob = os.path.join(sysconfig.get_path("purelib"), "nativedata", "blob.bin")
    libc = ctypes.CDLL(None)  # no hook of Python's sees this
    descriptor = libc.open(blob.encode(), os.O_RDONLY)
    [plugin] = importlib.metadata.entry_points(group="demo.plugins")
    return {
        "word": word,
        "blob": os.read(descriptor, 100).decode() if descriptor >= 0 else None,
        "version": importlib.metadata.version("metaonly"),
        "plugin": plugin.load()(),
    }


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = {"status": "ok"}
    if scope["method"] == "POST":
        body = answer(json.loads((await receive())["body"]))
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
"""
LATE = """
from pathlib import Path

HERE = Path(__file__).parent


def word(request):
    if request == "rare":
        from late import rare
        return rare.WORD
    return (HERE / "words.txt").read_text().strip()
"""
FRAGILE = """
from pathlib import Path

HERE = Path(__file__).parent
WORD = "whole" if (HERE / "marker").exists() else (HERE / "other.txt").read_text()  # looks, and does not open
"""
GOLDEN = {
    "request": "usual",
    "response": {"word": "hello", "blob": "native bytes", "version": "1.0", "plugin": "plugged"},
}
FILLING = b"# nobody reads this\n" * 10_000  # 200 kB
WHEELS = {
    "never": {"never/__init__.py": b"x = 1\n", "never/filling.txt": FILLING},
    "late": {
        "late/__init__.py": LATE.encode(),
        "late/words.txt": b"hello\n",
        "late/rare.py": b"WORD = 'rare'\n",
        "late/filling.txt": FILLING,
        "late/LICENSE": b"Do as you please.\n",
        "late/tests/test_late.py": b"assert False\n",
    },
    "nativedata": {"nativedata/blob.bin": b"native bytes", "nativedata/filling.txt": FILLING},
    "metaonly": {"metaonly/__init__.py": b"x = 1\n", "metaonly/filling.txt": FILLING},
    "plugged": {"plugged.py": b"def answer():\n    return 'plugged'\n", "plugged_filling.txt": FILLING},
}
ENTRY_POINTS = {"plugged": {"entry_points.txt": b"[demo.plugins]\nanswer = plugged:answer\n"}}


def make_project(folder: Path, prune: str, *, fragile: bool = False) -> Path:
    """The project in a new folder. With `fragile`, a package that behaves differently when a file is gone."""
    wheels = WHEELS
    server = SERVER
    if fragile:
        files = {"fragile/__init__.py": FRAGILE, "fragile/marker": "x", "fragile/other.txt": "cut"}
        wheels = WHEELS | {"fragile": {path: content.encode() for path, content in files.items()}}
        server = SERVER.replace('"word": word', '"word": importlib.import_module("fragile").WORD and word')
    folder.mkdir(parents=True)
    for name, files in wheels.items():
        make_wheel(folder / "wheels", name, files=files, metadata=ENTRY_POINTS.get(name))
    # By path: an index may know other packages of these names.
    lines = [f"./wheels/{name}-1.0-py3-none-any.whl\n" for name in wheels]
    (folder / "requirements.txt").write_text("".join(lines))
    (folder / ".lightshipignore").write_text("wheels\n")
    (folder / "serve.py").write_text(server)
    (folder / "golden.json").write_text(json.dumps(GOLDEN))
    set_pruning(folder, prune)
    return folder


def set_pruning(folder: Path, prune: str, keep: tuple[str, ...] = ()) -> None:
    (folder / "lightship.toml").write_text(
        f'[serve]\napp = "serve:app"\n[image]\nname = "pruned"\nprune = "{prune}"\nkeep = {json.dumps(keep)}\n'
    )


def copy_project(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target
