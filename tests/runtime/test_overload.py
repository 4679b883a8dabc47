"""More requests than can be done: each is answered rightly or refused at once, and afterwards all is as before."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

from runtime_servers import Runtime
from test_fuzz import gauge, settled, shape

QUEUE = 16  # calls that may wait
SATURATING = (
    QUEUE + 2 * 4
)  # connections that keep one worker and its queue busy: batches of 4, one of them sent ahead
REQUESTS = 150  # of each connection
MODEL = """
import time
def predict(instances):
    time.sleep(0.005)
    return [one * 2 for one in instances]
"""
CONFIG = {
    "model": {"path": "model.py", "format": "python", "engine": "python"},
    "queue": QUEUE,
    "batch": 4,
    "access_log": "off",
}


class Customer(threading.Thread):
    """Asks for its own numbers over one connection, the next one as soon as the one before it is answered."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self.port, self.number = port, number
        self.right, self.refused = 0, 0
        self.wrong: list[Any] = []
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for turn in range(REQUESTS):
            mine = self.number * REQUESTS + turn
            connection.request("POST", "/predict", json.dumps([[mine] * 100]).encode())
            response = connection.getresponse()
            content = json.loads(response.read())
            if response.status == 200 and content == {"predictions": [[mine] * 200]}:
                self.right += 1
            elif response.status == 429 and int(response.headers["retry-after"]) >= 1 and list(content) == ["error"]:
                self.refused += 1
            else:
                self.wrong.append((response.status, content))
        connection.close()


def rush(server: Runtime, connections: int) -> list[Customer]:
    customers = [Customer(server.port, number) for number in range(connections)]
    for customer in customers:
        customer.join(120)
    return customers


def test_three_times_the_load_is_answered_rightly_or_refused(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    server = start(tmp_path, CONFIG).ready()
    rush(server, SATURATING)
    before = shape(server)
    customers = rush(server, 3 * SATURATING)
    assert [customer.wrong for customer in customers if customer.wrong] == []
    answers = sum(customer.right for customer in customers)
    refused = sum(customer.refused for customer in customers)
    assert answers + refused == 3 * SATURATING * REQUESTS
    assert refused  # else it was no overload
    assert answers
    assert gauge(server, "lightship_requests_waiting") == gauge(server, "lightship_requests_in_flight") == 0
    now = settled(server, before)
    assert now.keys() == before.keys()
    for pid, (files, memory) in now.items():
        assert files <= before[pid][0]
        assert memory - before[pid][1] < 8 << 20
    assert server.predict([[1]]) == (200, {"predictions": [[1, 1]]})


def test_clients_that_give_up_leave_nothing_behind(start: Any, tmp_path: Path) -> None:
    """Large bodies, sent again and again by clients that go away, while the only worker is busy with one request."""
    (tmp_path / "model.py").write_text(
        "import pathlib, time\n"
        "def predict(instances):\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
        "    return instances\n"
    )
    server = start(tmp_path, {**CONFIG, "batch": 1, "queue_bytes": 64 << 20}).ready()
    first = threading.Thread(target=server.predict, args=([1],))
    first.start()
    front = max(shape(server), key=lambda pid: shape(server)[pid][0])
    body = b"[" + b" " * (8 << 20) + b"1]"
    for _ in range(60):  # 480 MB
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/predict", body)
        connection.close()
    assert shape(server)[front][1] < 200 << 20
    (tmp_path / "go").touch()
    first.join(60)
    assert server.predict([1])[0] == 200
    assert gauge(server, "lightship_requests_in_flight") == 0
