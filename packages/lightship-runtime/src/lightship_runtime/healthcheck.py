"""The program of the image's health check: `python -m lightship_runtime.healthcheck`, exit status 0 when ready.

It runs every few seconds in a container that may have a fraction of a CPU, so it imports nothing but sockets and
json: http.client alone would take longer than all the rest.
"""

from __future__ import annotations

import json
import os
import socket
import sys

from lightship_runtime.environment import config_path, port_override
from lightship_runtime.errors import StartError

TIMEOUT = 2.5  # seconds; below the image's own limit for the check
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def check(host: str, port: int, path: str, timeout: float = TIMEOUT) -> str | None:
    """None where `path` answers 200, else what is wrong."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(request.encode("ascii"))
            while b"\r\n" not in answer and len(answer) < 1024 and (received := connection.recv(1024)):
                answer += received
    except OSError as error:
        return f"no answer on port {port}: {error}"
    protocol, _, rest = answer.partition(b" ")
    status = rest[:3].decode("ascii", "replace")
    if not protocol.startswith(b"HTTP/1.") or not status:
        return f"port {port} does not speak HTTP"
    return None if status == "200" else f"{path} answers {status}"


def main() -> int:
    """Ask the server of this container, and say on standard error why it is not healthy where it is not."""
    try:
        config = json.loads(config_path(os.environ).read_bytes())
        host = str(config.get("host", "127.0.0.1"))
        port = port_override(os.environ) or int(config.get("port", 8080))
        fault = check(_WILDCARDS.get(host, host), port, str(config.get("health", "/health")))
    except (OSError, ValueError, AttributeError, StartError) as error:
        fault = f"could not read the configuration: {error}"
    if fault:
        print(f"not healthy: {fault}", file=sys.stderr)  # noqa: T201  # Docker keeps it with the check's result
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
