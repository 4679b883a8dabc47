"""The host's folder of wheels (PIP_FIND_LINKS), served on loopback, for builds that cannot see the host's disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


class _Wheels(SimpleHTTPRequestHandler):
    """Answers that pip may keep, as those of a package index."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=86400")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def served_wheels() -> Iterator[str | None]:
    """The value of PIP_FIND_LINKS for a container in the host's network; None where the host has no such folder."""
    links = os.environ.get("PIP_FIND_LINKS", "")
    if not links or not Path(links).is_dir():
        yield links or None
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Wheels, directory=links)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
