"""Spans as a collector gets them."""

import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Any]:
    """An OTLP endpoint over HTTP that keeps what it gets."""
    received: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.received = received  # type: ignore[attr-defined]
    yield server
    server.shutdown()
    server.server_close()


def test_a_request_becomes_a_span_of_its_callers_trace(
    start: Any, iris_app: Path, iris_config: dict[str, Any], collector: Any
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    server = start(iris_app, {**iris_config, "name": "iris"}, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint).ready()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    connection.request("POST", "/predict", json.dumps([5.1, 3.5, 1.4, 0.2]), headers)
    assert connection.getresponse().read()
    connection.close()
    assert server.predict("nonsense")[0] == 400
    assert server.stop() == 0
    spans = []
    for content in collector.received:
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert names["service.name"] == "iris"
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    predictions = [span for span in spans if span.name == "POST /predict"]
    assert len(predictions) == 2
    (child,) = [span for span in predictions if span.trace_id.hex() == TRACE]
    assert child.parent_span_id.hex() == PARENT
    assert child.end_time_unix_nano > child.start_time_unix_nano
    codes = {
        one.value.int_value for span in predictions for one in span.attributes if one.key.endswith("status_code")
    }
    assert codes == {200, 400}


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, lightship_runtime.front.server, lightship_runtime.front.tracing as t\n"
        "assert t.start_tracing({}, 'x') is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
