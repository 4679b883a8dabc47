"""Triton's own client against a server with a real model, over HTTP; and the other forms over a real connection."""

import http.client
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy
import pytest
from runtime_servers import Runtime
from sklearn.datasets import load_iris
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

ROWS = load_iris().data[::11]
MODEL = "model"  # as it is called where nobody names it


@pytest.fixture
def client(iris: Runtime) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{iris.port}") as client:
        yield client


def tensor(array: Any, *, binary: bool = True) -> InferInput:
    made = InferInput("x", list(array.shape), "FP64")
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def test_health_and_metadata(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata(MODEL)
    assert metadata["inputs"][0]["shape"] == [-1, 4]
    assert [output["name"] for output in metadata["outputs"]] == ["predictions", "probabilities"]


@pytest.mark.parametrize("binary", [False, True])
def test_answers_are_those_of_the_library(client: InferenceServerClient, iris_app: Path, binary: bool) -> None:
    model = joblib.load(iris_app / "model.joblib")
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "predictions")]
    result = client.infer(MODEL, [tensor(ROWS, binary=binary)], outputs=outputs, request_id="id-1")
    assert result.get_response()["id"] == "id-1"
    labels = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("predictions")]
    assert labels == model.predict(ROWS).tolist()
    numpy.testing.assert_array_equal(result.as_numpy("probabilities"), model.predict_proba(ROWS))


def test_what_is_wrong_is_said(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"\[instances, 4\]") as caught:
        client.infer(MODEL, [tensor(ROWS[:, :3])])
    assert caught.value.status() == "400"
    with pytest.raises(InferenceServerException):
        client.infer("other", [tensor(ROWS)])


def test_other_forms_over_a_connection(iris: Runtime, iris_app: Path) -> None:
    file = io.BytesIO()
    numpy.save(file, ROWS)
    csv = "\n".join(",".join(map(repr, row)) for row in ROWS.tolist())
    url = f"http://127.0.0.1:{iris.port}/predict"
    wanted = joblib.load(iris_app / "model.joblib").predict(ROWS).tolist()
    for body, kind in ((file.getvalue(), "application/x-npy"), (csv.encode(), "text/csv")):
        answer = httpx.post(url, content=body, headers={"Content-Type": kind, "Accept": "application/json"})
        assert answer.json()["predictions"] == wanted
    answer = httpx.post(url, content=csv, headers={"Content-Type": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.split() == ["prediction", *wanted]
    for kind, accept, status in (("application/x-pickle", "*/*", 415), ("text/csv", "image/png", 406)):
        answer = httpx.post(url, content=csv, headers={"Content-Type": kind, "Accept": accept})
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}


def test_a_header_length_that_is_no_number_is_refused(iris: Runtime) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", iris.port, timeout=60)
    for length, status in (("-1", 400), ("x", 400), ("99999999999", 400)):
        connection.request("POST", f"/v2/models/{MODEL}/infer", b"{}", {"Inference-Header-Content-Length": length})
        response = connection.getresponse()
        assert response.status == status
        assert b"error" in response.read()
    connection.close()
