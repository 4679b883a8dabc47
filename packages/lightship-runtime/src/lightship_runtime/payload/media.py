"""Media types of HTTP (RFC 9110): what a Content-Type says, and which of the forms on offer an Accept prefers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from lightship_runtime.payload.call import RequestError

_MAX_HEADER = 1024  # characters; browsers' Accept headers have about 150
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"\s*({_WORD})/({_WORD})\s*")
_PARAMETER = re.compile(rf"\s*;\s*(?:({_WORD})=(?:({_WORD})|\"((?:[^\"\\]|\\.)*)\"))?\s*")
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


class MediaType(msgspec.Struct, frozen=True):
    """A media type, lower case, and its parameters with their values as they were sent."""

    name: str
    parameters: dict[str, str]


def content_type(header: str) -> MediaType:
    """The media type of a body. Raises RequestError (415) where the header is malformed."""
    found = _TYPE.match(header) if len(header) <= _MAX_HEADER else None
    if found is None:
        raise RequestError("The Content-Type header is malformed.", 415)
    parameters: dict[str, str] = {}
    position = found.end()
    while position < len(header):
        parameter = _PARAMETER.match(header, position)
        if parameter is None:
            raise RequestError("The Content-Type header is malformed.", 415)
        position = parameter.end()
        name, token, quoted = parameter.groups()
        if name is not None:
            value = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
            if parameters.setdefault(name.lower(), value) != value:
                raise RequestError("The Content-Type header is malformed.", 415)
    return MediaType(f"{found[1]}/{found[2]}".lower(), parameters)


def text_of(body: bytes, kind: MediaType) -> str:
    """A body of text. Raises RequestError where it is not UTF-8, or says (415) that it is something else."""
    charset = kind.parameters.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise RequestError("Send text as UTF-8.", 415)
    try:
        return str(body, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError("The body is not valid UTF-8.") from error


@lru_cache(maxsize=64)
def accepted(header: str, offered: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `offered` that the header accepts, the preferred first; of equals, the one offered first.

    A header that is malformed or absent accepts everything: the answer is better than a quarrel (RFC 9110, 12.5.1).
    """
    ranges = _ranges(header)
    if not ranges:
        return offered
    rated = [(_quality(name, ranges), name) for name in offered]
    return tuple(name for quality, name in sorted(rated, key=lambda pair: -pair[0]) if quality > 0)


def _ranges(header: str) -> Sequence[tuple[str, float]]:
    ranges = []
    if len(header) > _MAX_HEADER:
        return []
    for part in filter(None, map(str.strip, header.split(","))):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                if not _QUALITY.fullmatch(parameter[2:]):
                    return []
                quality = float(parameter[2:])
        ranges.append((name, quality))
    return ranges


def _quality(name: str, ranges: Sequence[tuple[str, float]]) -> float:
    """By the most specific of the ranges that match."""
    for pattern in (name, f"{name.partition('/')[0]}/*", "*/*"):
        found = [quality for wanted, quality in ranges if wanted == pattern]
        if found:
            return max(found)
    return 0.0
