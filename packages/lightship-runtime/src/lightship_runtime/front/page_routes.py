"""The pages as routes: what does not depend on the model at once, its description when it is loaded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from lightship_runtime.config import Config
from lightship_runtime.front.request import Request
from lightship_runtime.front.routes import Route
from lightship_runtime.front.state import State

if TYPE_CHECKING:
    from lightship_runtime.pages import Page

DESCRIPTION = "/openapi.json"
_LIBRARIES = {"csv": None, "npy": "numpy", "arrow": "pyarrow"}  # that a format stands on, if any


class Pages:
    """Answers with pages, which are made when they are first asked for."""

    def __init__(self, config: Config, state: State, *, keys: bool) -> None:
        self._config = config
        self._state = state
        self._keys = keys
        self._shell: dict[str, Page] = {}
        self._pages: dict[str, Page] = {}

    def routes(self) -> list[Route]:
        """The page to try the model, its parts, and the description of the API."""
        if not self._config.pages:
            return []
        is_open = self._config.pages_open
        paths = ("/", "/docs", "/assets/*")
        return [
            *(Route(("GET",), path, self._answer, open=is_open, typed=True, quiet=False) for path in paths),
            Route(("GET",), DESCRIPTION, self._answer, typed=True),
        ]

    def _answer(self, request: Request) -> None:
        page = self._find(request.path)
        if page is None and request.path == DESCRIPTION:
            request.fail(503, f"The model is not ready: {self._state.phase}.", b"retry-after: 1\r\n")
        elif page is None:
            request.fail(404, "There is nothing here.")
        elif page.unchanged(request.headers.get(b"if-none-match", b"")):
            request.respond(304, b"", page.content_type.encode(), _lines(page))
        else:
            request.respond(200, page.body, page.content_type.encode(), _lines(page))

    def _find(self, path: str) -> Page | None:
        from lightship_runtime.pages import shell

        if not self._shell:
            self._shell = dict(shell())
        if path in self._shell:
            return self._shell[path]
        if not self._pages and self._state.signature is not None:
            self._pages = self._made(self._state.signature)
        return self._pages.get(path)

    def _made(self, signature: bytes) -> dict[str, Page]:
        import msgspec

        from lightship_runtime.engines.engine import Signature
        from lightship_runtime.pages import PageSettings, pages

        config = self._config
        abilities = self._state.abilities
        settings = PageSettings(
            config.name,
            keys=self._keys,
            open_metrics=config.metrics_open,
            streaming=self._state.streams,
            formats=_formats(),
            health=config.health,
            body_limit=config.body_limit,
            request=msgspec.json.decode(self._state.golden) if self._state.golden else None,
            generates=abilities.generates,
            chats=abilities.chats,
            tools=abilities.tools,
            response_formats=abilities.response_formats,
            most_logprobs=abilities.most_logprobs,
            heeds=abilities.heeds,
            context=abilities.context,
        )
        return pages(msgspec.json.decode(signature, type=Signature), settings)


def _formats() -> tuple[str, ...]:
    """Those whose libraries are in this image, looked up but not imported: whoever listens does without them."""
    return tuple(name for name, library in _LIBRARIES.items() if library is None or find_spec(library) is not None)


def _lines(page: Page) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in page.headers)
