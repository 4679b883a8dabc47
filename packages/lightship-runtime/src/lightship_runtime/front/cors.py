"""Which pages of other origins may ask from a browser: none, unless the settings name them (Fetch standard, 3.2)."""

from __future__ import annotations

from lightship_runtime.front.request import Request

_PREFLIGHT = (
    b"access-control-allow-methods: GET, POST\r\n"
    b"access-control-allow-headers: authorization, content-type, x-api-key, x-request-id, traceparent, accept, "
    b"inference-header-content-length\r\n"
    b"access-control-max-age: 600\r\n"
)


class Cors:
    """The origins that are allowed. Keys are sent by header, never by cookie, so credentials need no leave."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def note(self, request: Request) -> None:
        """Have the answer tell the browser that this origin may read it."""
        origin = request.headers.get(b"origin")
        if origin is None:
            return
        request.common += b"vary: origin\r\n"
        if origin in self._origins or b"*" in self._origins:
            allowed = b"*" if b"*" in self._origins else origin
            request.common += b"access-control-allow-origin: %s\r\n" % allowed

    def is_preflight(self, request: Request) -> bool:
        """Whether a browser asks if it may ask."""
        return request.method == "OPTIONS" and b"access-control-request-method" in request.headers

    def answer(self, request: Request) -> None:
        """Answer a preflight; without the header of `note` the browser takes it for no."""
        request.respond(200, b"", b"text/plain", _PREFLIGHT)
