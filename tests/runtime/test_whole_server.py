"""gRPC as Triton's own client speaks it, metrics of every protocol, and the pages, on a whole server."""

import http.client
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy
import pytest
import tritonclient.grpc
from runtime_servers import Runtime, free_port

ROWS = numpy.array([[5.1, 3.5, 1.4, 0.2], [6.9, 3.1, 5.4, 2.1]])


@pytest.fixture(scope="module")
def served(iris_app: Path) -> Any:
    import hashlib

    digest = hashlib.sha256((iris_app / "model.joblib").read_bytes()).hexdigest()
    model = {"path": "model.joblib", "format": "joblib", "engine": "sklearn", "sha256": digest}
    server = Runtime(iris_app, {"model": model, "name": "iris", "grpc_port": free_port()}, {})
    try:
        yield server.ready()
    finally:
        server.close()


def _grpc_port(server: Runtime) -> int:
    return int(json.loads((server.app / ".lightship" / "serve.json").read_text())["grpc_port"])


def test_tritons_grpc_client_works_unchanged(served: Any) -> None:
    _ask_by_grpc(served)


def _ask_by_grpc(served: Any) -> None:
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{_grpc_port(served)}")
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    metadata = client.get_model_metadata("iris")
    tensor = tritonclient.grpc.InferInput(metadata.inputs[0].name, list(ROWS.shape), "FP64")
    tensor.set_data_from_numpy(ROWS)
    result = client.infer("iris", [tensor])
    labels = result.as_numpy(metadata.outputs[0].name)
    assert [one.decode() for one in labels] == ["setosa", "virginica"]
    client.close()


def test_grpc_lingers_as_http_does(start: Any, iris_app: Path, iris_config: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(iris_app / "model.joblib", tmp_path)
    server = start(tmp_path, {**iris_config, "name": "iris", "grpc_port": free_port(), "linger": 600}).ready()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining")
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{_grpc_port(server)}")
    assert not client.is_server_ready()
    tensor = tritonclient.grpc.InferInput("instances", list(ROWS.shape), "FP64")
    tensor.set_data_from_numpy(ROWS)
    assert client.infer("iris", [tensor]).get_response().outputs
    client.close()
    assert server.stop() == 0  # the second signal


def test_another_models_name_is_not_found(served: Any) -> None:
    assert served.ask("GET", "/v2/models/other")[0] == 404
    assert served.ask("POST", "/v2/models/other/infer", b"{}")[0] == 404


def test_the_pages_are_served_and_not_sent_again(served: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    for path in ("/", "/docs", "/openapi.json"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (200, True)
        connection.request("GET", path, headers={"If-None-Match": response.headers["etag"]})
        again = connection.getresponse()
        assert (again.status, again.read()) == (304, b"")
    connection.close()
    status, document = served.ask("GET", "/openapi.json")
    assert status == 200
    assert "/predict" in document["paths"]
    assert served.ask("GET", "/assets/nothing.js")[0] == 404


def test_metrics_tell_of_every_protocol(served: Any) -> None:
    _ask_by_grpc(served)
    body = {"inputs": [{"name": "instances", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
    assert served.ask("POST", "/v2/models/iris/infer", json.dumps(body).encode())[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    from prometheus_client.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(text)}
    routes = {sample.labels["route"] for sample in families["lightship_requests"].samples}
    assert {"/v2/models/iris/infer", "grpc"} <= routes
    assert families["lightship_ready"].samples[0].value == 1
    assert {sample.labels["phase"] for sample in families["lightship_start_seconds"].samples} >= {"import", "load"}
    assert sum(sample.value for sample in families["lightship_memory_bytes"].samples) > 1 << 20
