"""From request.json and model/ in the working directory to out/ and result.json.

The request: {"precision": "int4", "gguf": the file's name in model/ or null, "first_text": {"prompt": ...}}. The
result: {"files": names in out/, "text": what the converted model wrote}, or {"refused": why}.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import msgspec

from lightship.optimize.writing.conversion import Refusal, Request, converted


def main() -> None:
    work = Path.cwd()
    request = msgspec.json.decode((work / "request.json").read_bytes(), type=Request)
    warnings.simplefilter("ignore")  # of libraries to their users; nobody reads them here
    try:
        result: dict[str, object] = converted(request, work)
    except Refusal as error:
        result = {"refused": str(error)}
    sys.stdout.flush()
    (work / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
