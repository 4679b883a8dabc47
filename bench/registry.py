"""Debian's docker-registry on loopback, for benchmarks."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Run it on a free port with its files in a new folder; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    directory.mkdir()
    configuration = directory / "config.yml"
    configuration.write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {directory / 'data'}\n")
    environ = {**os.environ, "REGISTRY_HTTP_ADDR": address, "REGISTRY_LOG_LEVEL": "error"}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", configuration], env=environ, stdout=log, stderr=log)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1):
                break
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait()
