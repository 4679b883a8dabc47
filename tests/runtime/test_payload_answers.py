"""One model asked in every form at once: every answer is bit for bit what the library gives when called directly."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy
import pandas
import pyarrow
import pytest
from sklearn.datasets import load_iris
from tritonclient.grpc import service_pb2
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from lightship_runtime.config import ModelFile
from lightship_runtime.engines import ModelSource, find_engine
from lightship_runtime.host.answering import Answering
from lightship_runtime.log import Log
from lightship_runtime.payload import Answer, Call

ROWS = load_iris().data[::11] / 3  # thirds have no short decimals
STREAM = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def answering(iris_app: Path) -> Answering:
    model = ModelFile(path="model.joblib", format="joblib", engine="sklearn", trust=True)
    engine = find_engine("sklearn").load(ModelSource(model, iris_app / "model.joblib", 1))
    return Answering(engine, "iris", "sklearn", Log(sys.stderr))


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    numpy.save(file, array)
    return file.getvalue()


def arrow(frame: pandas.DataFrame) -> bytes:
    table = pyarrow.Table.from_pandas(frame)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def triton(binary_in: bool, binary_out: bool) -> Call:
    given = InferInput("x", list(ROWS.shape), "FP64")
    given.set_data_from_numpy(ROWS, binary_data=binary_in)
    outputs = [InferRequestedOutput(name, binary_data=binary_out) for name in ("predictions", "probabilities")]
    body, length = InferenceServerClient.generate_request_body([given], outputs=outputs)
    return Call("infer", body, "", "", "", length)


def over_grpc() -> Call:
    message = service_pb2.ModelInferRequest(model_name="iris", raw_input_contents=[ROWS.tobytes()])
    message.inputs.add(name="x", datatype="FP64", shape=ROWS.shape)
    message.parameters["predict_proba"].bool_param = True
    return Call("grpc", message.SerializeToString())


FRAME = pandas.DataFrame(ROWS, columns=["a", "b", "c", "d"])
QUERY = "predict_proba=true"
JSON = "application/json"
CALLS = {
    "json rows": Call("predict", json.dumps(ROWS.tolist()).encode(), query=QUERY),
    "json instances": Call("predict", json.dumps({"instances": ROWS.tolist(), "predict_proba": True}).encode()),
    "json columns": Call("predict", json.dumps({"columns": FRAME.to_dict(orient="list")}).encode(), query=QUERY),
    "json split": Call("predict", json.dumps(FRAME.to_dict(orient="split")).encode(), query=QUERY),
    "csv": Call("predict", FRAME.to_csv(index=False, header=False).encode(), "text/csv", JSON, QUERY),
    "csv with a header": Call("predict", FRAME.to_csv(index=False).encode(), "text/csv", JSON, QUERY),
    "npy": Call("predict", npy(ROWS), "application/x-npy", JSON, QUERY),
    "npy, column by column": Call("predict", npy(numpy.asfortranarray(ROWS)), "application/x-npy", JSON, QUERY),
    "arrow": Call("predict", arrow(FRAME), STREAM, JSON, QUERY),
    "v2": triton(False, False),
    "v2, raw in": triton(True, False),
    "v2, raw out": triton(False, True),
    "v2, raw": triton(True, True),
    "grpc": over_grpc(),
    "answered as csv": Call("predict", json.dumps(ROWS.tolist()).encode(), "", "text/csv", QUERY),
    "answered as npy": Call("predict", npy(ROWS), "application/x-npy", "", QUERY),
    "answered as arrow": Call("predict", npy(ROWS), "application/x-npy", STREAM, QUERY),
}
BAD = [
    Call("predict", b"[["),
    Call("predict", b"[1, 2]"),
    Call("infer", b"{}"),
    Call("grpc", b"\xff"),
    Call("predict", b"x", "a/b"),
]


def scores_of(name: str, answer: Answer) -> tuple[Any, Any]:
    """Labels and probabilities in an answer; no labels where the form has no room for both."""
    assert answer.status == 200, answer.body
    if name.startswith("v2"):
        result = InferResult.from_response_body(answer.body, header_length=answer.json_length)
        labels = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("predictions")]
        return labels, result.as_numpy("probabilities")
    if name == "grpc":
        response = service_pb2.ModelInferResponse.FromString(answer.body)
        assert [output.name for output in response.outputs] == ["predictions", "probabilities"]
        return None, numpy.frombuffer(response.raw_output_contents[1]).reshape(response.outputs[1].shape)
    if name == "answered as npy":
        return None, numpy.load(io.BytesIO(answer.body))
    if name in ("answered as csv", "answered as arrow"):
        if name.endswith("csv"):
            frame = pandas.read_csv(io.BytesIO(answer.body))
        else:
            frame = pyarrow.ipc.open_stream(answer.body).read_all().to_pandas()
        assert list(frame.columns)[1:] == ["probability_setosa", "probability_versicolor", "probability_virginica"]
        return frame["prediction"].tolist(), frame.iloc[:, 1:].to_numpy()
    content = json.loads(answer.body)
    return content["predictions"], content["probabilities"]


@pytest.fixture(scope="module")
def expected(iris_app: Path) -> tuple[list[str], Any]:
    model = joblib.load(iris_app / "model.joblib")
    return model.predict(ROWS).tolist(), model.predict_proba(ROWS)


@pytest.mark.parametrize("name", CALLS)
def test_every_form_has_the_librarys_own_answer(
    name: str, answering: Answering, expected: tuple[list[str], Any]
) -> None:
    labels, scores = scores_of(name, answering.answer(CALLS[name]))
    assert labels in (None, expected[0])
    numpy.testing.assert_array_equal(numpy.asarray(scores), expected[1])


def test_calls_of_all_forms_are_predicted_together_and_none_spoils_another(
    answering: Answering, expected: tuple[list[str], Any]
) -> None:
    calls = list(CALLS.values())
    for number, bad in enumerate(BAD):
        calls.insert(number * 3, bad)
    answers = dict(zip(map(id, calls), answering.answer_all(calls)[0], strict=True))
    for name, call in CALLS.items():
        labels, scores = scores_of(name, answers[id(call)])
        assert labels in (None, expected[0]), name
        # The last bits of a product of matrices may depend on how many rows are in it.
        numpy.testing.assert_allclose(numpy.asarray(scores), expected[1], rtol=1e-12, err_msg=name)
    assert {answers[id(bad)].status for bad in BAD} == {400, 415}
