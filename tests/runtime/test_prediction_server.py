"""Lightship's own server as a real process: forms, statuses, limits, and what it refuses to start with."""

import http.client
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROW = [5.1, 3.5, 1.4, 0.2]
SETOSA = {"predictions": ["setosa"]}


def test_it_answers_every_form_of_request(iris: Any) -> None:
    assert iris.predict(ROW) == (200, SETOSA)
    assert iris.predict([ROW, [6.9, 3.1, 5.4, 2.1]]) == (200, {"predictions": ["setosa", "virginica"]})
    assert iris.predict({"instances": [ROW]}) == (200, SETOSA)
    assert iris.predict({"inputs": ROW}) == (200, SETOSA)
    status, answer = iris.predict(ROW, "/predict?predict_proba=true")
    assert (status, answer["classes"]) == (200, ["setosa", "versicolor", "virginica"])
    assert sum(answer["probabilities"][0]) == pytest.approx(1)


def test_health_is_answered_on_all_its_paths(iris: Any) -> None:
    assert iris.ask("GET", "/health") == (200, {"status": "ready"})
    assert iris.ask("GET", "/readyz") == (200, {"status": "ready"})
    assert iris.ask("GET", "/livez") == (200, {"status": "live"})
    assert iris.ask("HEAD", "/health") == (200, None)


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "status"),
    [
        ("GET", "/nowhere", None, None, 404),
        ("GET", "/predict/../../etc/passwd", None, None, 404),
        ("GET", "/predict", None, None, 405),
        ("POST", "/health", b"[1]", None, 405),
        ("POST", "/predict", b"a=1", "application/x-www-form-urlencoded", 415),
        ("POST", "/predict", b"\x80\x04.", "application/vnd.python.pickle", 415),
        ("POST", "/predict", b"[1", "application/json", 400),
        ("POST", "/predict", b"[1, 2, 3]", "application/json; charset=utf-8", 400),
        ("POST", "/predict", b"[[1, 2, 3, null]]", "application/json", 400),
        ("POST", "/predict", b'["a", "b", "c", "d"]', "application/json", 400),
        ("POST", "/predict?predict_proba=perhaps", b"[1, 2, 3, 4]", "application/json", 400),
        ("POST", "/predict", b"[" + b"1," * 200_000 + b"1]", "application/json", 413),
    ],
)
def test_mistakes_get_a_status_and_a_reason(
    iris: Any, method: str, path: str, body: bytes | None, content_type: str | None, status: int
) -> None:
    got, answer = iris.ask(method, path, body, content_type)
    assert got == status
    assert list(answer) == ["error"]
    assert "Traceback" not in answer["error"]
    assert not re.search(r"(?<!\w)/(?!predict)", answer["error"])  # no path of the server's own


def test_a_body_without_a_content_type_is_json(iris: Any) -> None:
    assert iris.ask("POST", "/predict", json.dumps(ROW).encode(), None) == (200, SETOSA)


def test_a_chunked_body_over_the_limit_is_refused(iris: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", iris.port, timeout=60)
    chunks = iter([b"[" + b"1," * 10_000] * 10)
    connection.request("POST", "/predict", chunks, {"Content-Type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_client_that_asks_first_is_refused_before_it_sends(iris: Any) -> None:
    with socket.create_connection(("127.0.0.1", iris.port), timeout=60) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 200000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=50)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.sampled_from(["instances", "inputs", "predict_proba", "x"]), inner, max_size=3)
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode())
    | st.lists(st.lists(st.floats() | st.integers(), min_size=4, max_size=4), min_size=1, max_size=3).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_no_body_is_answered_with_a_server_error(iris: Any, body: bytes) -> None:
    status, answer = iris.ask("POST", "/predict", body)
    assert status in (200, 400)
    assert ("predictions" if status == 200 else "error") in answer


def test_the_log_has_one_json_object_per_line_and_no_values(iris: Any) -> None:
    secret = 31337.25
    assert iris.predict([secret, None, 1, 1])[0] == 400
    assert iris.predict([[secret, "31337,25", 1, 1]])[0] == 400
    assert iris.predict([1.7e308, -1.7e308, 1.7e308, 1.7e308])[0] == 200  # numpy warns of an overflow
    assert iris.event("no JSON") is None
    iris.wait_for("warning")
    assert "31337" not in json.dumps([event for event in iris.events if "port" not in event])
    steps = ("starting", "import", "load", "ready")
    names = [event["event"] for event in iris.events if event["event"] in steps]
    assert names == list(steps)
    assert all("seconds" in event for event in iris.events if event["event"] in steps[1:])


def test_the_port_answers_at_once_and_is_ready_when_the_model_is_loaded_and_warm(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import time, pathlib\n"
        "def load():\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
        "    return 1\n"
        "def predict(model, instances):\n"
        "    pathlib.Path('warm').touch()\n"
        "    return instances\n"
    )
    (tmp_path / "golden.json").write_text('{"request": [1, 2], "response": {"predictions": [[1, 2]]}}')
    model = {"path": "model.py", "format": "python", "engine": "python"}
    server = start(tmp_path, {"model": model, "golden": "golden.json"})
    server.wait_for("listening")
    server.wait_for("import")
    assert server.ask("GET", "/livez") == (200, {"status": "live"})
    while (answer := server.ask("GET", "/health")) != (503, {"status": "starting", "phase": "load"}):
        assert answer[0] == 503
    assert server.ask("GET", "/startupz")[0] == 503
    assert server.predict([1]) == (503, {"error": "The model is not ready: load."})
    assert not (tmp_path / "warm").exists()
    (tmp_path / "go").touch()
    server.ready()
    assert (tmp_path / "warm").exists()
    assert server.ask("GET", "/health") == (200, {"status": "ready"})
    assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/health")


def test_health_is_answered_while_a_prediction_runs_and_the_queue_is_bounded(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import time, pathlib\n"
        "def predict(instances):\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
        "    return instances\n"
    )
    model = {"path": "model.py", "format": "python", "engine": "python"}
    server = start(tmp_path, {"model": model, "queue": 1}).ready()
    waiting = []
    for _ in range(2):  # one runs, one waits
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/predict", b"[1]", {"Content-Type": "application/json"})
        waiting.append(connection)
    deadline = time.monotonic() + 30
    while (answer := server.predict([1]))[0] != 429 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer == (429, {"error": "Too many requests are waiting. Try again."})
    assert server.ask("GET", "/health")[0] == 200
    (tmp_path / "go").touch()
    assert [connection.getresponse().status for connection in waiting] == [200, 200]
    for connection in waiting:
        connection.close()


def test_failures_of_the_users_code_are_500_and_wrong_input_is_400(start: Any, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "def predict(instances):\n"
        "    if instances[0] == 'value': raise ValueError('top secret')\n"
        "    if instances[0] == 'bug': raise KeyError('top secret')\n"
        "    if instances[0] == 'fewer': return []\n"
        "    if instances[0] == 'object': return [object()]\n"
        "    if instances[0] == 'text': return 'text'\n"
        "    return instances\n"
    )
    model = {"path": "model.py", "format": "python", "engine": "python"}
    server = start(tmp_path, {"model": model}).ready()
    assert server.predict(["fine"]) == (200, {"predictions": ["fine"]})
    assert server.predict(["value"])[0] == 400
    for kind in ("bug", "fewer", "object", "text"):
        assert server.predict([kind]) == (500, {"error": "The model failed on this request."})
    assert server.stop() == 0
    failed = server.wait_for("prediction failed")
    assert (failed["error"], failed["level"]) == ("KeyError", "error")
    assert any("model.py:3" in line for line in failed["where"])
    assert "top secret" not in json.dumps(server.events)


def test_a_body_that_does_not_arrive_is_given_up(start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
    server = start(iris_app, {**iris_config, "body_timeout": 0.3}).ready()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[1")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


class TestRefusals:
    def test_a_model_that_is_not_the_recorded_one(
        self, start: Any, iris_app: Path, iris_config: dict[str, Any]
    ) -> None:
        iris_config["model"]["sha256"] = "0" * 64
        code, failed = start(iris_app, iris_config).failure()
        assert code == 5
        assert "not the file that the image was built with" in failed["message"]

    def test_a_golden_answer_that_is_not_given(self, start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
        (iris_app / "other.json").write_text('{"request": [5.1, 3.5, 1.4, 0.2], "response": {"predictions": ["x"]}}')
        code, failed = start(iris_app, {**iris_config, "golden": "other.json"}).failure()
        assert code == 6
        assert '$.predictions[0]: expected "x", got "setosa"' in failed["message"]
        warned = start(iris_app, {**iris_config, "golden": "other.json", "golden_mismatch": "warn"}).ready()
        assert warned.event("golden answer differs")["level"] == "warning"

    def test_a_golden_request_that_fails(self, start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
        (iris_app / "short.json").write_text('{"request": [5.1], "response": {"predictions": ["setosa"]}}')
        code, failed = start(iris_app, {**iris_config, "golden": "short.json"}).failure()
        assert code == 6
        assert "1 values; 4 are expected" in failed["message"]

    def test_a_port_that_is_taken(self, start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = str(other.getsockname()[1])
            server = start(iris_app, iris_config, LIGHTSHIP_PORT=port)
            code, failed = server.failure()
        assert code == 1
        assert port in failed["message"]
        assert server.event("load") is None  # said before the long part, not after it

    def test_a_missing_model(self, start: Any, tmp_path: Path, iris_config: dict[str, Any]) -> None:
        code, failed = start(tmp_path, iris_config).failure()
        assert code == 1
        assert "model.joblib" in failed["message"]

    def test_a_model_that_fails_to_load(self, start: Any, tmp_path: Path) -> None:
        (tmp_path / "model.py").write_text("def load():\n    raise OSError('weights.bin is truncated')\n")
        (tmp_path / "model.py").write_text((tmp_path / "model.py").read_text() + "def predict(m, x): return x\n")
        server = start(tmp_path, {"model": {"path": "model.py", "format": "python", "engine": "python"}})
        code, failed = server.failure()
        assert code == 1
        assert "weights.bin is truncated" in failed["message"]
        assert "model.py" in server.event("load failed")["traceback"]

    def test_a_configuration_that_is_wrong(self, start: Any, tmp_path: Path) -> None:
        code, failed = start(tmp_path, {"modle": 1}).failure()
        assert code == 2
        assert "modle" in failed["message"]
