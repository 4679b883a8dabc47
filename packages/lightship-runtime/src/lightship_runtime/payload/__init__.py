"""Bodies: from a request's bytes to instances, from predictions to an answer's bytes. One file per format.

`parse` and `encode` are all that the process with the model calls; `metadata` is for whoever answers without it. May
import `engines.engine`; libraries of a format inside functions only. What is named here is imported when it is first
used: whoever listens needs `call` only, and should not wait for the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lightship_runtime.payload.call import Answer, Call, RequestError

if TYPE_CHECKING:
    from lightship_runtime.payload.dispatch import encode, parse
    from lightship_runtime.payload.json import write_error
    from lightship_runtime.payload.metadata import model_metadata, server_metadata
    from lightship_runtime.payload.parsed import Parsed, ServedModel

__all__ = [
    "Answer",
    "Call",
    "Parsed",
    "RequestError",
    "ServedModel",
    "encode",
    "model_metadata",
    "parse",
    "server_metadata",
    "write_error",
]
_LATER = {
    "Parsed": "parsed",
    "ServedModel": "parsed",
    "encode": "dispatch",
    "model_metadata": "metadata",
    "parse": "dispatch",
    "server_metadata": "metadata",
    "write_error": "json",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
