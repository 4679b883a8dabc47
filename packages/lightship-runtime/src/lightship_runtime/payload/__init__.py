"""Bodies: from a request's bytes to instances, from predictions to an answer's bytes. One file per format.

`parse` and `encode` are all that the process with the model calls; `metadata` is for whoever answers without it. May
import `engines.engine`; libraries of a format inside functions only.
"""

from lightship_runtime.payload.call import Answer, Call, RequestError
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
