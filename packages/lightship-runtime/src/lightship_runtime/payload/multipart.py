"""Forms with files (multipart/form-data, RFC 7578): images and sounds as browsers and `curl -F` send them.

Every part with a file name, or with a type of its own that is no text, is an instance, in order. The fields
`predict_proba` (true or false) and `parameters` (a JSON object) are options; there are no others.

The body is already in memory, whole and bounded, so a part costs one search for its end. Headers, parts and the
boundary are bounded: CVE-2024-9056 and CVE-2024-53981 are about parsers that look at one byte or line at a time.
"""

from __future__ import annotations

import re
from typing import Any

from lightship_runtime.engines.engine import Signature
from lightship_runtime.payload import json
from lightship_runtime.payload.call import RequestError
from lightship_runtime.payload.media import MediaType
from lightship_runtime.payload.parsed import Content

_MAX_PARTS = 1024
_MAX_HEADERS = 4096  # bytes of one part's headers
_MAX_FIELD = 1 << 20  # bytes of a field that is no file
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_NAME = re.compile(r'[;\s]name="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)
_FILE_NAME = re.compile(r"[;\s]filename\*?=", re.IGNORECASE)


def read(body: bytes, kind: MediaType, signature: Signature) -> Content:
    """The files in a form. Raises RequestError where it is malformed, or (415) where the model takes no files."""
    if signature.kind not in ("image", "audio"):
        raise RequestError("This model takes no files.", 415)
    files: list[bytes] = []
    fields: dict[str, bytes] = {}
    for headers, content in _parts(body, kind.parameters.get("boundary", "")):
        disposition = headers.get("content-disposition", "")
        name = _NAME.search(disposition)
        if not disposition.lower().startswith("form-data") or name is None:
            raise RequestError("A part of the form has no Content-Disposition: form-data with a name.")
        if headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
            raise RequestError("Send files as they are, without Content-Transfer-Encoding (RFC 7578, 4.7).")
        is_text = headers.get("content-type", "text/plain").lower().startswith(("text/", "application/json"))
        if _FILE_NAME.search(disposition) or not is_text:
            files.append(content)
        elif name[1] in fields or len(content) > _MAX_FIELD:
            raise RequestError("A field of the form is there twice, or too long.")
        else:
            fields[name[1]] = content
    if unknown := fields.keys() - {"predict_proba", "parameters"}:
        del unknown  # names are not quoted
        raise RequestError("The form has files, and may have `predict_proba` and `parameters`; it has nothing else.")
    return Content(files, _flag(fields), _parameters(fields))


def _flag(fields: dict[str, bytes]) -> bool:
    value = fields.get("predict_proba", b"false").strip().lower()
    if value not in (b"true", b"1", b"false", b"0"):
        raise RequestError("predict_proba is true or false.")
    return value in (b"true", b"1")


def _parameters(fields: dict[str, bytes]) -> dict[str, Any] | None:
    if "parameters" not in fields:
        return None
    value = json.decode(fields["parameters"])
    if not isinstance(value, dict):
        raise RequestError("`parameters` is a JSON object.")
    return value


def _parts(body: bytes, boundary: str) -> list[tuple[dict[str, str], bytes]]:
    """Headers (lower case) and content of each part."""
    if not _BOUNDARY.fullmatch(boundary):
        raise RequestError("The Content-Type of a form needs a boundary of 1 to 70 characters.")
    opening = b"--" + boundary.encode("ascii")
    # Without the preamble that RFC 2046 allows and nobody sends. Case is the body's: proxies change that of headers.
    if body[: len(opening)].lower() != opening.lower():
        raise RequestError("The form does not start with its boundary.")
    delimiter = b"\r\n" + body[: len(opening)]
    parts: list[tuple[dict[str, str], bytes]] = []
    position = len(opening)
    while body[position : position + 2] != b"--":
        if len(parts) == _MAX_PARTS:
            raise RequestError(f"The form has more than {_MAX_PARTS} parts.")
        if body[position : position + 2] != b"\r\n":
            raise RequestError("The form is malformed after a boundary.")
        blank = body.find(b"\r\n\r\n", position, position + _MAX_HEADERS)
        if blank < 0:
            raise RequestError("A part's headers have no end, or are too long.")
        headers = _headers(body[position + 2 : blank])
        end = body.find(delimiter, blank + 2)  # of an empty part, the blank line's end is the delimiter's start
        if end < 0:
            raise RequestError("The form is cut off.")
        parts.append((headers, body[blank + 4 : end]))
        position = end + len(delimiter)
    return parts


def _headers(block: bytes) -> dict[str, str]:
    try:
        lines = block.decode("utf-8").split("\r\n") if block else []
    except UnicodeDecodeError as error:
        raise RequestError("A part's headers are not UTF-8.") from error
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in headers:
            raise RequestError("A part has a malformed header.")
        headers[name.lower()] = value.strip()
    return headers
