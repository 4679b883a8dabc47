"""An HTTP server on loopback that can do what real ones do wrong: fail, cut off, redirect, ask for a login."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    method: str
    path: str
    headers: Message


@dataclass
class LoopbackServer:
    """Serves `files`; a path in one of the other tables misbehaves as told there."""

    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)  # answers before the file is given
    cuts: dict[str, list[int]] = field(default_factory=dict)  # bytes after which the connection breaks, once each
    redirects: dict[str, str] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    stalls: dict[str, threading.Event] = field(default_factory=dict)  # half the file, then nothing until it is set
    waited_in_vain: bool = False  # whether a stalled file's event was not set within 30 s
    ranges: bool = True
    head: bool = True
    tells_size: bool = True
    pages: Callable[[str], tuple[str, bytes] | None] = lambda path: None  # path -> media type, content
    requests: list[Request] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> LoopbackServer:
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, method: str = "GET") -> list[str]:
        return [request.path for request in self.requests if request.method == method]


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients that break off are what some tests are about."""


def _handler_for(server: LoopbackServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            if not server.head:
                server.requests.append(Request("HEAD", self.path, self.headers))
                self._status(405)
                return
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path
            server.requests.append(Request(self.command, path, self.headers))
            if path.startswith("http://"):  # we are asked as a proxy
                path = "/" + path.split("/", 3)[3]
            if server.login and self.headers.get("Authorization") != _basic(server.login):
                self._status(401)
            elif path in server.redirects:
                self._status(302, Location=server.redirects[path])
            elif server.statuses.get(path):
                self._status(server.statuses[path].pop(0))
            elif (page := server.pages(path)) is not None:
                self._content(page[1], page[0], path, with_body=with_body)
            elif path in server.files:
                self._content(server.files[path], "application/octet-stream", path, with_body=with_body)
            else:
                self._status(404)

        def _content(self, content: bytes, media_type: str, path: str, *, with_body: bool) -> None:
            total, start = len(content), 0
            asked = self.headers.get("Range")
            if asked and server.ranges:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, end = int(first), int(last) if last else total - 1
                if start >= total:
                    self._status(416)
                    return
                content = content[start : end + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("ETag", '"one"')
            if server.tells_size:
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            if not with_body:
                return
            if path in server.stalls:
                self.wfile.write(content[: total // 2])
                self.wfile.flush()
                server.waited_in_vain |= not server.stalls[path].wait(30)
            elif server.cuts.get(path):
                self.wfile.write(content[: server.cuts[path].pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(content)

        def _status(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()
