"""The user's own application: imported as its framework's server would import it, and served unchanged."""

from __future__ import annotations

import inspect
import traceback
from importlib import import_module
from typing import Any

from lightship_runtime.errors import StartError
from lightship_runtime.log import Log


def load_application(reference: str, log: Log) -> Any:
    """The ASGI application `module:name`. Raises StartError.

    A function without parameters is taken for a factory and called. A WSGI application is wrapped with a2wsgi,
    where the image has it. The app's directory must be on sys.path already.
    """
    module_name, _, name = reference.partition(":")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name.partition(".")[0]:
            raise StartError(
                f"There is no module {error.name!r} in the app's directory.",
                hint=f"[serve] app is {reference!r}: the part before the colon names a Python file.",
            ) from error
        raise _failed(reference, error, log, f"Add {error.name} to the requirements and build again.") from error
    except Exception as error:
        raise _failed(reference, error, log, "The traceback is in the line above.") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise StartError(
                f"The module {module_name!r} has no {part!r}.",
                hint=f"[serve] app is {reference!r}: the part after the colon names the application.",
            )
        found = getattr(found, part)
    try:
        return _as_asgi(found, reference)
    except StartError:
        raise
    except Exception as error:
        raise _failed(reference, error, log, "The traceback is in the line above.") from error


def _as_asgi(found: Any, reference: str) -> Any:
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        found = found()
    if not callable(found):
        raise StartError(
            f"{reference} is of the type {type(found).__name__}, which is no ASGI or WSGI application.",
            hint="Name the object that the framework made, such as `app` of `app = FastAPI()`.",
        )
    if not _is_wsgi(found):
        return found
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError as error:
        raise StartError(
            f"{reference} is a WSGI application, which needs the package a2wsgi to be served here.",
            hint="Add a2wsgi to the requirements and build again.",
        ) from error
    return WSGIMiddleware(found)


def _is_wsgi(found: Any) -> bool:
    """Whether it is called with (environ, start_response) rather than (scope, receive, send)."""
    call = found if inspect.isfunction(found) or inspect.isclass(found) else type(found).__call__
    if inspect.iscoroutinefunction(call):
        return False
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _failed(reference: str, error: Exception, log: Log, hint: str) -> StartError:
    log.event("import failed", level="error", traceback=traceback.format_exc())
    return StartError(f"{reference} could not be imported: {type(error).__name__}: {error}", hint=hint)
