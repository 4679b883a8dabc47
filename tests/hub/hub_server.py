"""A hub on loopback, as far as the hub's own library asks for it: models, revisions, files with ranges, tokens."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000  # bytes, from which on a file is kept beside git, with its sha256


@dataclass
class Hub:
    """One repository, `org/name`, and what was asked of it.

    Attributes:
        listed: What the list says of a file, where it lies: sizes and sha256 by path.
        cut: Files whose first answer ends after so many bytes.
        token: Without this one there is no such repository; None is open to all.
        gated: Whether files are shown only to those who accepted terms.
    """

    files: Mapping[str, bytes]
    listed: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def siblings(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        for path, content in self.files.items():
            size, sha256 = self.listed.get(path, (len(content), hashlib.sha256(content).hexdigest()))
            entry: dict[str, object] = {"rfilename": path, "size": size, "blobId": "0" * 40}
            if len(content) >= LARGE or path in self.listed:
                entry["lfs"] = {"size": size, "sha256": sha256, "pointerSize": 130}
            found.append(entry)
        return found


@contextmanager
def hub(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Serve a repository until the block ends."""
    state = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            state.asked.append((self.command, path, self.headers.get("Range")))
            allowed = state.token is None or self.headers.get("Authorization") == f"Bearer {state.token}"
            head, _, file = path.removeprefix("/org/name/resolve/").partition("/")
            if not allowed:
                self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
            elif path.startswith("/api/models/org/name"):
                known = path in (
                    "/api/models/org/name",
                    "/api/models/org/name/revision/main",
                    "/api/models/org/name/revision/v1",
                )
                body = {"id": "org/name", "modelId": "org/name", "sha": COMMIT, "siblings": state.siblings()}
                self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"}) if known else (
                    self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                )
            elif not path.startswith("/org/name/resolve/"):
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif state.gated:
                self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
            elif head != COMMIT or file not in state.files:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            else:
                self._file(file, state.files[file])

        def _file(self, path: str, content: bytes) -> None:
            tag = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            start, status = 0, 200
            if asked := self.headers.get("Range"):
                start, status = int(asked.removeprefix("bytes=").partition("-")[0]), 206
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            cut = state.cut.pop(path, None) if self.command == "GET" else None
            self._answer(status, content[start:], headers, cut=cut)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str], cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
