"""Which path gives which page: bytes and headers, ready to be sent.

All pages but /openapi.json are the same for every model. They hold nothing about this one, ask for the rest with the
API key that the user types, and so may be shown before the model is loaded and to those who have no key yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lightship_runtime.engines.engine import Signature
from lightship_runtime.pages.openapi import openapi_document
from lightship_runtime.pages.settings import PageSettings

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_DOCUMENTS = {"/": "try.html", "/docs": "docs.html"}
# No script, style or connection but this server's own; no inline code; nobody may put the page into a frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Page:
    """An answer to GET and HEAD.

    Attributes:
        content_type: Of the body.
        body: Whole.
        headers: All further headers but Content-Length, lower case.
        etag: The header ETag, which is among `headers` as well.
        public: Whether it tells nothing of the model, so that it needs no API key.
    """

    content_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    etag: bytes
    public: bool

    def unchanged(self, if_none_match: bytes) -> bool:
        """Whether a request with this header If-None-Match is answered with 304 and no body."""
        held = {tag.strip().removeprefix(b"W/") for tag in if_none_match[:4096].split(b",")}
        return b"*" in held or self.etag in held


def pages(signature: Signature, settings: PageSettings) -> dict[str, Page]:
    """Every page by its path, for a model that is loaded."""
    document = msgspec.json.encode(openapi_document(signature, settings))
    return {**shell(), "/openapi.json": _page("application/json", document, public=False)}


def shell() -> Mapping[str, Page]:
    """Every page by its path that is there before the model is loaded: it shows the phase of loading."""
    folder = Path(__file__).parent / "assets"
    assets = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
    paths = dict(_DOCUMENTS)
    paths |= {f"/assets/{name}": name for name in assets if name not in _DOCUMENTS.values()}
    return {path: _page(_TYPES[Path(name).suffix], assets[name], public=True) for path, name in paths.items()}


def _page(content_type: str, body: bytes, *, public: bool) -> Page:
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:24].encode()
    headers = [
        (b"etag", etag),
        # Asked for anew each time, answered with 304: a new version of the model or the server is seen at once.
        (b"cache-control", b"no-cache" if public else b"private, no-cache"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if content_type.startswith("text/html"):
        headers += [
            (b"content-security-policy", _POLICY.encode()),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
        ]
    return Page(content_type, body, tuple(headers), etag, public)
