"""From request.json in the working directory to out/model.onnx and result.json.

The request: {"model": the runtime's ModelFile, "golden": whether golden.json is there, "tolerance": number}. The
result: {"report": {...}}, or {"refused": why, "hint": what to do}.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import msgspec

from lightship.optimize.inside.accept import Request, accepted
from lightship.optimize.inside.refusal import Refusal
from lightship_runtime.errors import StartError


def main() -> None:
    work = Path.cwd()
    request = msgspec.json.decode((work / "request.json").read_bytes(), type=Request)
    sys.path.insert(0, str(work / "app"))  # the project's own modules that the model imports
    warnings.simplefilter("ignore")  # of libraries to their users; nobody reads them here
    try:
        result: dict[str, object] = {"report": accepted(request, work)}
    except Refusal as error:
        result = {"refused": error.message, "hint": error.hint}
    except StartError as error:
        result = {"refused": f"it cannot be loaded: {error.message.rstrip('.')}", "hint": error.hint or ""}
    sys.stdout.flush()
    (work / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
