"""Errors as OpenAI's API has them, so that its clients raise the right exception and can say why.

{"error": {"message": "...", "type": "invalid_request_error", "param": "temperature", "code": null}}
"""

from __future__ import annotations

import msgspec

from lightship_runtime.payload.call import Answer, RequestError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class _Plain(msgspec.Struct):
    error: str


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> bytes:
    """The body of an error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status)}
    return msgspec.json.encode({"error": error})


def openai_error(error: RequestError) -> Answer:
    """The answer to a request that cannot be answered."""
    return Answer(error.status, error_body(error.status, error.message, error.param, error.code))


def reshaped(status: int, body: bytes) -> bytes:
    """An error in Lightship's own form, `{"error": "..."}`, as OpenAI's; any other as it is."""
    try:
        plain = msgspec.json.decode(body, type=_Plain)
    except msgspec.DecodeError:
        return body
    return error_body(status, plain.error)
