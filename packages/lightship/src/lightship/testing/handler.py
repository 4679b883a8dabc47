"""HTTP between a client and a `MemoryRegistry`: reads requests, writes answers, does to either what a fault says."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lightship.testing.faults import Fault
from lightship.testing.messages import Answer, Request

if TYPE_CHECKING:
    from lightship.testing.registry import MemoryRegistry

_STATUSES = {Fault.TOO_MANY: 429, Fault.ERROR: 500, Fault.UNAVAILABLE: 503}
_NO_DIGEST = "sha256:" + 64 * "0"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are what this server is for."""


def serve(registry: MemoryRegistry) -> ThreadingHTTPServer:
    """A server on a free port of loopback, not yet running."""

    class Handler(_Handler):
        pass

    Handler.registry = registry
    return _Server(("127.0.0.1", 0), Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body go out apart, and waiting for the first's receipt costs 40 ms
    registry: MemoryRegistry

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _handle(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, size)
        with self.registry.lock:
            self.registry.requests.append(request)
        fault = self.registry.faults.pick(request.method, request.path)
        if fault is Fault.SLOW:
            time.sleep(self.registry.faults.delay)
        elif fault is Fault.CUT_EARLY:
            self.registry.keep_part(request, self.rfile.read(size // 2))
            self.close_connection = True
            return
        elif fault in _STATUSES:
            self.close_connection = size > 0  # its body has not been read
            self._write(_failure(_STATUSES[fault]), None)
            return
        elif fault is Fault.EXPIRED_TOKEN:
            self.registry.expire(request)
        self._write(self._answer(request, self.rfile.read(size)), fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _handle

    def _answer(self, request: Request, body: bytes) -> Answer:
        if urlsplit(request.path).path == "/token":
            return self.registry.token(request)
        return self.registry.refusal(request) or self.registry.answer(request, body)

    def _write(self, answer: Answer, fault: Fault | None) -> None:
        content = answer.content
        if fault is Fault.WRONG_DIGEST:
            if self.command == "GET" and content:
                content = bytes([content[0] ^ 1]) + content[1:]
            elif "Docker-Content-Digest" in answer.headers:
                answer.headers["Docker-Content-Digest"] = _NO_DIGEST
        elif fault is Fault.TRUNCATED:
            content = content[: len(content) // 2]
        if fault is Fault.CUT_LATE:
            self.close_connection = True
            if not content or self.command == "HEAD":
                return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if fault is Fault.CUT_LATE else content)


def _failure(status: int) -> Answer:
    return Answer(status, {"Retry-After": "0"} if status == 429 else {})
