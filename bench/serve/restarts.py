"""Rolling restarts: two instances, each ended by SIGTERM under load and started again in turn; nothing may be lost.

The clients are what a balancer is: each has a connection to an instance that takes work, and goes to the other one
when a connection is refused or the server has said `Connection: close`. A request that was sent on a connection and
not answered rightly is lost; so is one that no instance took for ten seconds.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.serve.contestants import Contestant, Place
from bench.serve.models import Model
from bench.serve.server import Question

CLIENTS = 8
_PATIENCE = 10  # seconds until a request that no instance takes is lost


@dataclass
class Tally:
    """What all clients saw; `lost` says how."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Instances:
    """The ports of the running instances; one that is being restarted may still be among them."""

    ports: list[int]


def run(contestant: Contestant, model: Model, place: Place, *, times: int) -> object:
    """Restart `times` times, in turn, under the load of some clients; gives the counts."""
    servers = [contestant.run(model, place) for _ in range(2)]
    tally, over = Tally(), threading.Event()
    clients: list[threading.Thread] = []
    statuses: list[int | None] = []
    try:
        for server in servers:
            server.wait()
        instances = Instances([server.port for server in servers])
        question = servers[0].question
        clients = [
            threading.Thread(target=_client, args=(instances, number, question, tally, over), daemon=True)
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for turn in range(times):
            time.sleep(0.1)  # under load
            statuses.append(servers[turn % 2].stop(patience=60))
            servers[turn % 2] = contestant.run(model, place)
            servers[turn % 2].wait()
            instances.ports = [server.port for server in servers]
    finally:
        over.set()
        for client in clients:
            client.join()
        for server in servers:
            server.stop()
    unclean = sum(status != 0 for status in statuses)
    print(
        f"\nrestarts: {times}, requests answered {tally.answered}, lost {len(tally.lost)} (bar: 0), "
        f"ends with another status than 0: {unclean}",
        flush=True,
    )
    for line in tally.lost[:5]:
        print(f"  {line}")
    return {"restarts": times, "answered": tally.answered, "lost": tally.lost[:100], "unclean": unclean}


def _client(instances: Instances, number: int, question: Question, tally: Tally, over: threading.Event) -> None:
    connection: http.client.HTTPConnection | None = None
    while not over.is_set():
        connection = connection or _connect(instances, number)
        if connection is None:
            with tally.lock:
                tally.lost.append("no instance took a connection")
            continue
        failure = _ask(connection, question)
        with tally.lock:
            if failure is None:
                tally.answered += 1
            else:
                tally.lost.append(failure)
        if failure is not None or connection.sock is None:  # the server closes it: choose again
            connection.close()
            connection = None
            number += 1


def _connect(instances: Instances, first: int) -> http.client.HTTPConnection | None:
    started = time.monotonic()
    while time.monotonic() - started < _PATIENCE:
        ports: Sequence[int] = instances.ports
        for turn in range(len(ports)):
            connection = http.client.HTTPConnection(
                "127.0.0.1", ports[(first + turn) % len(ports)], timeout=_PATIENCE
            )
            try:
                connection.connect()
            except OSError:
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
    if response.status != 200 or question.expected.encode() not in body:
        return f"status {response.status}: {body[:200]!r}"
    return None
