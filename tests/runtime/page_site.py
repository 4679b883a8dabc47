"""The pages in front of a real engine, over real HTTP: the routes that they need, as the runtime answers them."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn

from lightship_runtime.engines.engine import Engine
from lightship_runtime.host.answering import Answering
from lightship_runtime.log import Log
from lightship_runtime.pages import PageSettings, pages, shell
from lightship_runtime.payload import Call, RequestError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Send = Callable[[dict[str, Any]], Awaitable[None]]
SEE_VIOLATIONS = (
    "window.violations = []; addEventListener('securitypolicyviolation', "
    "(event) => violations.push(event.violatedDirective + ' ' + event.blockedURI));"
)
STREAMS = {"text/event-stream": b"data: %s\n\n", "application/x-ndjson": b"%s\n"}


@dataclass
class Site:
    """One model's server. `ready` false is a model that loads; `asked` are the calls that came to /predict.

    With a `prefix` it is what stands behind a proxy that gives it a part of its paths.
    """

    engine: Engine
    settings: PageSettings
    key: str | None = None
    prefix: str = ""
    ready: bool = True
    phase: dict[str, Any] = field(default_factory=lambda: {"status": "starting", "phase": "load", "done": 0.62})
    asked: list[Call] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    streams_ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    port: int = 0

    def __post_init__(self) -> None:
        self.answering = Answering(self.engine, self.settings.model, "test", Log(io.StringIO()))
        self.pages = pages(self.engine.signature, self.settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}/"

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"].removeprefix(self.prefix)
        self.paths.append(path)
        page = (self.pages if self.ready else shell()).get(path)
        known = self.key is None or headers.get("authorization") == f"Bearer {self.key}"
        if page is not None and (page.public or known):
            if page.unchanged(headers.get("if-none-match", "").encode()):
                await _respond(send, 304, b"", page.content_type, *page.headers)
            else:
                await _respond(send, 200, page.body, page.content_type, *page.headers)
        elif path == "/readyz":
            told = {"status": "ready"} if self.ready else self.phase
            await _respond(send, 200 if self.ready else 503, msgspec.json.encode(told))
        elif not known:
            await _respond(send, 401, b'{"error":"A valid API key is needed."}', "application/json")
        elif path != "/predict":
            await _respond(send, 404, b'{"error":"There is nothing here."}')
        elif scope["method"] != "POST":
            await _respond(send, 405, b'{"error":"Use POST here."}', "application/json", (b"allow", b"POST"))
        else:
            query = scope["query_string"].decode()
            call = Call(
                "predict", await _body(receive), headers.get("content-type", ""), headers.get("accept", ""), query
            )
            self.asked.append(call)
            await (self._stream if call.accept in STREAMS else self._predict)(call, send)

    async def _predict(self, call: Call, send: Send) -> None:
        answer = await asyncio.to_thread(self.answering.answer, call)
        timing = (b"server-timing", b"queue;dur=0.25, predict;dur=1.5")
        await _respond(send, answer.status, answer.body, answer.content_type, timing)

    async def _stream(self, call: Call, send: Send) -> None:
        parts = self.answering.stream(msgspec.structs.replace(call, accept=""))  # whole answers have no such form
        await send({"type": "http.response.start", "status": 200, "headers": [_header("content-type", call.accept)]})
        ending = b"event: done\ndata: {}\n\n" if "event" in call.accept else b""
        try:
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                await send({"type": "http.response.body", "body": STREAMS[call.accept] % part, "more_body": True})
        except RequestError as error:
            body = msgspec.json.encode({"error": error.message})
            ending = b"event: error\ndata: %s\n\n" % body if "event" in call.accept else b"%s\n" % body
        finally:
            self.streams_ended.release()
        await send({"type": "http.response.body", "body": ending})


@contextmanager
def served(site: Site) -> Iterator[Site]:
    """Serve it on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(site, port=0, log_level="error", lifespan="off"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    site.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window. Only for tests with the marker tool("chromium")."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox needs another user than root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield browser
        browser.close()


class Visit:
    """A page that is looked at, and what went wrong meanwhile. `site` is whatever has a `url`."""

    def __init__(self, page: Page, site: Any) -> None:
        self.page = page
        self.site = site
        self.elsewhere: list[str] = []
        self.errors: list[str] = []
        page.on("request", self._requested)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route(lambda url: not self._own(url), lambda route: route.abort())
        page.add_init_script(SEE_VIOLATIONS)

    def _own(self, url: str) -> bool:
        return url.startswith((self.site.url, f"blob:{self.site.url}"))

    def _requested(self, request: Any) -> None:
        if not self._own(request.url):
            self.elsewhere.append(request.url)

    def open(self, path: str = "") -> Page:
        self.page.goto(self.site.url + path)
        return self.page

    def predict(self) -> None:
        from playwright.sync_api import expect

        self.page.get_by_role("button", name="Predict").click()
        expect(self.page.locator("#answer")).to_have_attribute("aria-busy", "false")

    @property
    def facts(self) -> Any:
        return self.page.locator("#facts")

    @property
    def result(self) -> Any:
        return self.page.locator("#answer-result")

    def check(self) -> None:
        """Nothing came from elsewhere, nothing broke the policy, nothing was left in the browser."""
        assert self.elsewhere == []
        assert self.errors == []
        assert self.page.evaluate("window.violations") == []
        assert self.page.context.cookies() == []
        assert self.page.evaluate("localStorage.length + sessionStorage.length") == 0


def check_access(page: Page) -> None:
    """By the rules of axe, WCAG's among them: names, roles, contrast, order."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode(), value.encode()


async def _respond(
    send: Send, status: int, body: bytes, content_type: str = "application/json", *more: tuple[bytes, bytes]
) -> None:
    headers = [_header("content-type", content_type), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
