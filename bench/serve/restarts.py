"""Rolling restarts: two instances, each ended by SIGTERM under load and started again on its port: nothing is lost.

The clients are what a balancer is: it asks each instance for readiness now and then, as orchestrators do, and gives
new connections to those that were ready when it last looked, so for a moment to one that is on its way out as well.
It goes to the other one when a connection is refused, or when the server has said `Connection: close`. A request that
was sent on a connection and not answered rightly is lost; so is one that no instance took for ten seconds.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.serve.contestants import Contestant, Lightship, Place
from bench.serve.models import Model
from bench.serve.server import PATIENCE, Question, Server, free_port

CLIENTS = 8
PROBING = 0.2  # seconds between two looks at an instance's readiness; it lingers for longer than that
_PATIENCE = 10  # seconds until a request that no instance takes is lost


@dataclass
class Tally:
    """What all clients saw; `lost` says how."""

    answered: int = 0
    refused: int = 0  # connections, which is no loss
    lost: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Balancer:
    """Knows which instances were ready when it last asked /readyz."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.over = threading.Event()
        self._ready = dict.fromkeys(ports, False)
        self._threads = [threading.Thread(target=self._probe, args=(port,), daemon=True) for port in ports]
        for thread in self._threads:
            thread.start()

    def ports(self) -> list[int]:
        """Of the instances that take work."""
        return [port for port, ready in self._ready.items() if ready]

    def wait(self, server: Server) -> None:
        """Until an instance is known to be ready."""
        while not self._ready[server.port]:
            if server.process.poll() is not None or time.monotonic() > server.started + PATIENCE:
                raise server.gave_up()
            time.sleep(0.01)

    def forget(self, port: int) -> None:
        """An instance has ended: the next look is at another one."""
        self._ready[port] = False

    def _probe(self, port: int) -> None:
        while not self.over.wait(PROBING):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
            try:
                connection.request("GET", "/readyz")
                self._ready[port] = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                self._ready[port] = False
            finally:
                connection.close()


def run(contestant: Contestant, model: Model, place: Place, *, times: int) -> object:
    """Restart `times` times, in turn, under the load of some clients; gives the counts."""
    assert isinstance(contestant.start, Lightship)
    fixed = [replace(contestant, start=replace(contestant.start, port=free_port(kept=True))) for _ in range(2)]
    servers = [one.run(model, place) for one in fixed]
    ports = [server.port for server in servers]
    tally, balancer = Tally(), Balancer(ports)
    clients: list[threading.Thread] = []
    statuses: list[int | None] = []
    try:
        for server in servers:
            balancer.wait(server)
        questions = servers[0].questions
        clients = [
            threading.Thread(target=_client, args=(balancer, number, questions, tally), daemon=True)
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for turn in range(times):
            time.sleep(0.1)  # under load
            which = turn % 2
            statuses.append(servers[which].stop(patience=60))
            balancer.forget(ports[which])
            servers[which] = fixed[which].run(model, place)
            balancer.wait(servers[which])
    finally:
        balancer.over.set()
        for client in clients:
            client.join()
        for server in servers:
            server.stop()
    unclean = sum(status != 0 for status in statuses)
    print(
        f"\nrestarts: {times}, requests answered {tally.answered}, lost {len(tally.lost)} (bar: 0), "
        f"connections refused {tally.refused}, ends with another status than 0: {unclean}",
        flush=True,
    )
    for line in tally.lost[:5]:
        print(f"  {line}")
    return {
        "restarts": times,
        "answered": tally.answered,
        "lost": tally.lost[:100],
        "refused": tally.refused,
        "unclean": unclean,
    }


def _client(balancer: Balancer, number: int, questions: Sequence[Question], tally: Tally) -> None:
    connection: http.client.HTTPConnection | None = None
    turn = number
    while not balancer.over.is_set():
        connection = connection or _connect(balancer, number, tally)
        if connection is None:
            with tally.lock:
                tally.lost.append("no instance took a connection")
            continue
        turn += 1
        failure = _ask(connection, questions[turn % len(questions)])
        with tally.lock:
            if failure is None:
                tally.answered += 1
            else:
                tally.lost.append(failure)
        if failure is not None or connection.sock is None:  # the server closes it: choose again
            connection.close()
            connection = None
            number += 1


def _connect(balancer: Balancer, first: int, tally: Tally) -> http.client.HTTPConnection | None:
    started = time.monotonic()
    while time.monotonic() - started < _PATIENCE:
        ports = balancer.ports()
        for turn in range(len(ports)):
            port = ports[(first + turn) % len(ports)]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
            try:
                connection.connect()
            except OSError:
                with tally.lock:
                    tally.refused += 1
                continue
            return connection
        time.sleep(0.005)
    return None


def _ask(connection: http.client.HTTPConnection, question: Question) -> str | None:
    """What went wrong, None for a right answer."""
    try:
        connection.request("POST", question.path, question.body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    if response.status != 200 or not question.is_right(body):
        return f"status {response.status}: {body[:200]!r}"
    return None
