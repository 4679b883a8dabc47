"""The program that builds a wheel inside the sandbox, made of the standard library alone (PEP 517).

It reads request.json from the working directory (`backend`, `backend_path`, `installed`), and writes result.json:
{"wheel": NAME} with the wheel in out/, or {"requires": [...]} where the backend asks for more than is installed.
What the backend writes goes to standard output and error, and is shown where the build fails.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

WORK = Path.cwd()


def main() -> None:
    request = json.loads((WORK / "request.json").read_text())
    source = WORK / "source" / request["subdirectory"]
    os.chdir(source)
    sys.path[:0] = [str(source / each) for each in request["backend_path"]]
    sys.argv = ["setup.py"]  # what setup.py sees where setuptools runs it
    backend = load(request["backend"])
    asked: list[str] = getattr(backend, "get_requires_for_build_wheel", lambda _settings: [])({})
    installed = request["installed"]  # null where what is installed is all there is to be
    more = [each for each in asked if installed is not None and each not in installed]
    if more:
        answer({"requires": more})
        return
    os.chdir(source)  # hooks are called from the source tree, whatever the last one did
    answer({"wheel": backend.build_wheel(str(WORK / "out"), {}, None)})


def load(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in filter(None, path.split(".")):
        found = getattr(found, attribute)
    return found


def answer(result: dict[str, Any]) -> None:
    sys.stdout.flush()
    (WORK / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
