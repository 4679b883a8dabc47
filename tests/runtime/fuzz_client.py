"""A client that sends anything in any way, and watches how a real server takes it.

Every request that is whole must have an answer, in time and in proper HTTP; everything else must be answered or have
its connection closed. Answers are looked at: a 5xx, an error in another form than the documented one, or a value of
the request in an error's text is a finding.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections import Counter
from random import Random

from fuzz_requests import CANARY, Requests, Sample

ANSWER_SECONDS = 30.0  # generous, because the machine may be busy; an answer takes milliseconds
PARKED = 40  # half requests per client that are left to the server's own limits
_WHITE = frozenset({100, 200, 304, 400, 401, 403, 404, 405, 406, 408, 411, 413, 414, 415, 417, 422, 429, 431})


class Answers:
    """Reads answers off one connection, strictly."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = b""

    def one(self, method: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, body. Raises EOFError where the server closed instead."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = head[0].split(" ", 2)
        assert version == "HTTP/1.1", head[0]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if status == "100":
            return self.one(method)
        body = b""
        if method == "HEAD" or status == "304":
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._exactly(2) == b"\r\n"
        else:
            body = self._exactly(int(headers["content-length"]))
        return int(status), headers, body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            self._more()
        found, _, self._held = self._held.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        found, self._held = self._held[:size], self._held[size:]
        return found

    def _more(self) -> None:
        data = self._connection.recv(65536)
        if not data:
            raise EOFError(self._held[:200])
        self._held += data


class Fuzzer(threading.Thread):
    """One client of one seed, with `inputs` to send to a port."""

    def __init__(self, port: int, name: str, seed: int, inputs: int) -> None:
        super().__init__(daemon=True)
        self.findings: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self._port = port
        self._inputs = inputs
        self._random = Random(seed)
        self._requests = Requests(seed, name)
        self._kept: tuple[socket.socket, Answers] | None = None
        self._parked: list[tuple[socket.socket, float, bytes]] = []
        self.start()

    def run(self) -> None:
        ways = (self._ask,) * 40 + (self._pipeline, self._in_pieces, self._break, self._break, self._break)
        ways += (self._leave, self._leave, self._half)
        try:
            while self.sent < self._inputs:
                self._random.choice(ways)()
                if len(self._parked) >= PARKED:
                    self._look_at_parked()
            while self._parked:
                self._look_at_parked()
        except Exception as error:
            self.findings.append(f"client: {error!r}")
            raise
        finally:
            self._drop()
            for parked, _, _ in self._parked:
                parked.close()

    # ways to send

    def _ask(self) -> None:
        """One request on a kept connection."""
        sample = self._requests.one()
        self.sent += 1
        connection, answers = self._connected()
        self._exchange(connection, answers, [sample], [sample.content])

    def _pipeline(self) -> None:
        samples = [self._requests.one() for _ in range(self._random.randrange(2, 8))]
        self.sent += len(samples)
        connection, answers = self._connected()
        self._exchange(connection, answers, samples, [b"".join(sample.content for sample in samples)])

    def _in_pieces(self) -> None:
        sample = self._requests.one()
        self.sent += 1
        connection, answers = self._connected()
        cuts = sorted(self._random.randrange(len(sample.content)) for _ in range(self._random.randrange(1, 6)))
        pieces = [sample.content[a:b] for a, b in zip([0, *cuts], [*cuts, len(sample.content)], strict=True)]
        self._exchange(connection, answers, [sample], pieces)

    def _break(self) -> None:
        """Bytes that are no request, or half of one: they are parked until the server has had enough."""
        sample = self._requests.broken()
        self.sent += 1
        connection = self._new()
        with contextlib.suppress(ConnectionError):
            connection.sendall(sample.content)
        self._parked.append((connection, time.monotonic() + ANSWER_SECONDS, sample.content))

    def _half(self) -> None:
        """Half a request slowly, then the rest, then away."""
        content = self._requests.one().content
        self.sent += 1
        with self._new() as connection, contextlib.suppress(ConnectionError):
            half = self._random.randrange(len(content))
            connection.sendall(content[:half])
            time.sleep(0.005)
            if self._random.random() < 0.5:
                connection.sendall(content[half:])

    def _leave(self) -> None:
        """A whole request whose client goes before the answer: in order, by a reset, or with half an answer read."""
        content = self._requests.one().content
        self.sent += 1
        with self._new() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(content)
            way = self._random.randrange(4)
            if way == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif way == 1:
                connection.recv(10)
            elif way == 2:
                connection.shutdown(socket.SHUT_WR)

    # what comes back

    def _exchange(
        self, connection: socket.socket, answers: Answers, samples: list[Sample], pieces: list[bytes]
    ) -> None:
        sent = b"".join(pieces)
        try:
            with contextlib.suppress(
                ConnectionError
            ):  # refused before all was sent: the answer is there all the same
                for piece in pieces:
                    connection.sendall(piece)
            for sample in samples:
                status, headers, body = answers.one(sample.method)
                self._judge(sample, status, headers, body)
                if headers.get("connection") == "close":
                    self._drop()
                    return
        except TimeoutError:
            self._find("no answer in time", sent)
        except (EOFError, ConnectionError) as error:
            self._find(f"closed without an answer ({error!r})", sent)
        except (AssertionError, ValueError, KeyError) as error:
            self._find(f"not a proper answer ({error!r})", sent)
        else:
            return
        self._drop()

    def _judge(self, sample: Sample, status: int, headers: dict[str, str], body: bytes) -> None:
        self.statuses[status] += 1
        if status not in _WHITE:
            self._find(f"status {status}: {body[:200]!r}", sample.content)
        elif status >= 400 and body:
            content = json.loads(body)
            assert list(content) == ["error"], body[:200]
            if CANARY in content["error"]:
                self._find(f"a value is quoted: {content['error']}", sample.content)

    def _look_at_parked(self) -> None:
        """Whether parked connections have been answered or closed."""
        readable, _, _ = select.select([connection for connection, _, _ in self._parked], [], [], 0.05)
        now = time.monotonic()
        left = []
        for connection, deadline, content in self._parked:
            if connection in readable:
                with contextlib.suppress(OSError):
                    received = connection.recv(65536)
                    if received.startswith(b"HTTP/1.1 5") and not received.startswith(b"HTTP/1.1 505"):
                        self._find(f"status {received[:300]!r}", content)
                connection.close()
            elif now > deadline:
                self._find("neither answered nor closed", content)
                connection.close()
            else:
                left.append((connection, deadline, content))
        self._parked = left

    def _find(self, what: str, content: bytes) -> None:
        self.findings.append(f"{what} after {content[:1500]!r}")

    # connections

    def _new(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _connected(self) -> tuple[socket.socket, Answers]:
        if self._kept is None:
            connection = self._new()
            self._kept = connection, Answers(connection)
        return self._kept

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept[0].close()
            self._kept = None
