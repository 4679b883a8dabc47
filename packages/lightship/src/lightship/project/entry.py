"""Find what a Python file offers, without importing it: an ASGI or WSGI application, or load() and predict()."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from lightship.errors import ProjectError

_APPLICATIONS = {
    "FastAPI": "asgi",
    "Starlette": "asgi",
    "Litestar": "asgi",
    "Quart": "asgi",
    "Sanic": "asgi",
    "Flask": "wsgi",
    "Bottle": "wsgi",
}
ENTRY_FILES = ("serve.py", "server.py", "app.py", "main.py", "api.py")
_SOURCE_LIMIT = 4 << 20  # bytes; a source file beyond this is no server


@dataclass(frozen=True)
class EntryPoint:
    """An application found in a file: `serve:app`, made by FastAPI."""

    module: str
    name: str
    framework: str

    @property
    def is_wsgi(self) -> bool:
        """Whether it speaks WSGI, the older protocol; ASGI otherwise."""
        return _APPLICATIONS[self.framework] == "wsgi"

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def find_application(path: Path) -> EntryPoint | None:
    """The application that a file makes at its top level, if it makes one that we know."""
    for statement in _parse(path).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=function)):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call(func=function)):
                pass
            case _:
                continue
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if called in _APPLICATIONS:
            return EntryPoint(path.stem, name, called)
    return None


def find_entry(directory: Path) -> EntryPoint | None:
    """The application of a folder: the first of serve.py, server.py, app.py, main.py, api.py that makes one."""
    for name in ENTRY_FILES:
        path = directory / name
        if path.is_file() and (found := find_application(path)):
            return found
    return None


def _parse(path: Path) -> ast.Module:
    try:
        if path.stat().st_size > _SOURCE_LIMIT:
            raise ProjectError(f"{path} is too large to be a server's source file.")
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ProjectError(f"{path} is not valid Python: {error}.") from error
    except OSError as error:
        raise ProjectError(f"Could not read {path}: {error.strerror}.") from error
