"""The Open Inference Protocol over gRPC: Triton's own client against our service, with a model behind it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import grpc
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, InferResult, service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor

from lightship_runtime.engines import Engine, ModelSource, Options, Prediction, Signature
from lightship_runtime.errors import StartError
from lightship_runtime.grpc_server import InferenceService, start_grpc_server
from lightship_runtime.payload import Answer, Call, RequestError, ServedModel, encode, parse, write_error
from lightship_runtime.payload.grpc_messages import messages

Submit = Callable[[Call], Awaitable[Answer]]


class IrisEngine(Engine):
    """A classifier of scikit-learn, asked directly."""

    def __init__(self) -> None:
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression

        iris = load_iris()
        self.rows = iris.data
        self.model = LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target])

    @classmethod
    def load(cls, source: ModelSource) -> Engine:
        raise NotImplementedError

    @property
    def signature(self) -> Signature:
        return Signature("rows", features=4, probabilities=True, classes=tuple(self.model.classes_.tolist()))

    def predict(self, instances: Any, options: Options) -> Prediction:
        rows = numpy.asarray(instances, dtype=float)
        probabilities = self.model.predict_proba(rows) if options.probabilities else None
        return Prediction(self.model.predict(rows), probabilities, self.model.classes_.tolist())


class Server:
    """A service in an event loop of its own, and a client."""

    def __init__(self, submit: Submit, model: ServedModel | None, **options: Any) -> None:
        self.ready = True
        self.calls: list[Call] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

        async def recorded(call: Call) -> Answer:
            self.calls.append(call)
            return await submit(call)

        allowed = {"allowed": options.pop("allowed")} if "allowed" in options else {}
        service = InferenceService(recorded, lambda: self.ready, lambda: model, **allowed)
        limits = {"message_limit": 1 << 20, "concurrency": 8, **options}
        self.server, port = self.run(start_grpc_server(service, "127.0.0.1:0", **limits))
        self.address = f"127.0.0.1:{port}"
        self.client = InferenceServerClient(self.address)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self) -> None:
        self.client.close()
        self.run(self.server.stop(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


def answering(engine: Engine, model: ServedModel) -> Submit:
    async def submit(call: Call) -> Answer:
        try:
            parsed = parse(call, model)
        except RequestError as error:
            return write_error(error)
        return encode(parsed, engine.predict(parsed.instances, parsed.options), model)

    return submit


@pytest.fixture(scope="module")
def engine() -> IrisEngine:
    return IrisEngine()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def serving(*arguments: Any, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield serving
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def iris(engine: IrisEngine) -> Iterator[Server]:
    model = ServedModel("iris", engine.signature, "2", "sklearn")
    server = Server(answering(engine, model), model)
    yield server
    server.close()


def tensor(name: str, array: Any) -> InferInput:
    made = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def test_health_and_metadata(iris: Server) -> None:
    client = iris.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "2")
    assert client.get_server_metadata(as_json=True)["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("iris", as_json=True) == {
        "name": "iris",
        "versions": ["2"],
        "platform": "sklearn",
        "inputs": [{"name": "instances", "datatype": "FP64", "shape": ["-1", "4"]}],
        "outputs": [
            {"name": "predictions", "datatype": "BYTES", "shape": ["-1"]},
            {"name": "probabilities", "datatype": "FP64", "shape": ["-1", "3"]},
        ],
    }
    for asked in (("other", ""), ("iris", "1")):
        with pytest.raises(InferenceServerException, match="NOT_FOUND"):
            client.get_model_metadata(*asked)
    iris.ready = False
    try:
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready("iris")
    finally:
        iris.ready = True


def test_before_the_model_is_loaded_it_is_not_ready(serve: Callable[..., Server]) -> None:
    async def loading(call: Call) -> Answer:
        return write_error(RequestError("The model is not ready.", 503))

    server = serve(loading, None)
    assert not server.client.is_model_ready("iris")
    with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
        server.client.get_model_metadata("iris")
    with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
        server.client.infer("iris", [tensor("x", numpy.ones((1, 4)))])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_answers_are_those_of_the_library(iris: Server, engine: IrisEngine, dtype: str) -> None:
    rows = engine.rows[::7].astype(dtype)
    outputs = [InferRequestedOutput("probabilities"), InferRequestedOutput("predictions")]
    result = iris.client.infer("iris", [tensor("x", rows)], outputs=outputs, request_id="id-1")
    assert result.get_response().id == "id-1"
    assert result.get_response().model_version == "2"
    labels = [one.decode() for one in result.as_numpy("predictions")]
    assert labels == engine.model.predict(rows.astype(float)).tolist()
    found = result.as_numpy("probabilities")
    numpy.testing.assert_array_equal(found, engine.model.predict_proba(rows.astype(float)))


def test_without_outputs_the_predictions_come_and_with_a_parameter_the_probabilities(iris: Server) -> None:
    asked = [tensor("x", numpy.ones((2, 4)))]
    names = [output.name for output in iris.client.infer("iris", asked).get_response().outputs]
    assert names == ["predictions"]
    result = iris.client.infer("iris", asked, parameters={"predict_proba": True})
    assert [output.name for output in result.get_response().outputs] == ["predictions", "probabilities"]


def test_what_is_wrong_is_said_in_grpcs_own_way(iris: Server) -> None:
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.*\[instances, 4\]"):
        iris.client.infer("iris", [tensor("x", numpy.ones((2, 3)))])
    with pytest.raises(InferenceServerException, match="NOT_FOUND"):
        iris.client.infer("other", [tensor("x", numpy.ones((2, 4)))])
    with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
        iris.client.infer("iris", [tensor("x", numpy.ones((50_000, 4)))])


def test_a_compressed_message_is_refused_since_it_could_claim_any_size(iris: Server) -> None:
    before = len(iris.calls)
    with pytest.raises(InferenceServerException, match="gzip"):
        iris.client.infer("iris", [tensor("x", numpy.zeros((50_000, 4)))], compression_algorithm="gzip")
    assert len(iris.calls) == before


def test_keys_guard_everything_but_liveness(serve: Callable[..., Server], engine: IrisEngine) -> None:
    def allowed(metadata: Mapping[str, str]) -> bool:
        return metadata.get("authorization") == "Bearer right"

    model = ServedModel("iris", engine.signature)
    server = serve(answering(engine, model), model, allowed=allowed)
    right = {"authorization": "Bearer right"}
    asked = [tensor("x", numpy.ones((1, 4)))]
    assert server.client.is_server_live()
    assert server.client.is_model_ready("iris", headers=right)
    assert server.client.infer("iris", asked, headers=right)
    client = server.client
    for call in (client.is_server_ready, client.get_server_metadata, lambda: client.get_model_metadata("iris")):
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            call()
    with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
        server.client.infer("iris", asked, headers={"authorization": "Bearer wrong"})
    assert len(server.calls) == 1


def test_a_client_that_gives_up_cancels_its_call(serve: Callable[..., Server], engine: IrisEngine) -> None:
    began, cancelled = threading.Event(), threading.Event()

    async def waiting(call: Call) -> Answer:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    server = serve(waiting, ServedModel("iris", engine.signature))
    with pytest.raises(InferenceServerException, match="Deadline"):
        server.client.infer("iris", [tensor("x", numpy.ones((1, 4)))], client_timeout=0.5)
    assert began.is_set()
    assert cancelled.wait(30)


def test_more_calls_than_allowed_at_once_are_refused(serve: Callable[..., Server], engine: IrisEngine) -> None:
    began, done = threading.Event(), asyncio.Event()

    async def waiting(call: Call) -> Answer:
        began.set()
        await done.wait()
        return write_error(RequestError("late", 504))

    server = serve(waiting, ServedModel("iris", engine.signature), concurrency=1)
    with grpc.insecure_channel(server.address) as channel:
        first = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(b"")
        assert began.wait(30)
        with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
            server.client.is_server_ready()
        server.loop.call_soon_threadsafe(done.set)
        assert first.exception(30).code() is grpc.StatusCode.DEADLINE_EXCEEDED


SERVICE = "inference.GRPCInferenceService"


def test_an_address_that_is_taken_is_a_start_error(iris: Server) -> None:
    service = InferenceService(lambda call: asyncio.sleep(0, Answer(200, b"")), lambda: True, lambda: None)
    with pytest.raises(StartError, match="cannot listen"):
        iris.run(start_grpc_server(service, iris.address, message_limit=1, concurrency=1))


# Messages: Triton's generated ones are the oracle


def same(ours: Any, theirs: Any) -> None:
    """The same numbers and types, down into the messages of messages: what they are called is not sent."""
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
        assert (field.containing_oneof is None) == (other.containing_oneof is None)
        if field.message_type is not None:
            same(field.message_type, other.message_type)


@pytest.mark.parametrize(
    "call", ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"]
)
def test_messages_are_those_of_the_protocol(call: str) -> None:
    for name in (f"{call}Request", f"{call}Response"):
        same(getattr(messages(), name).DESCRIPTOR, getattr(service_pb2, name).DESCRIPTOR)


TENSOR = ServedModel("m", Signature("tensor"))
TEXT = ServedModel("m", Signature("text"))
CONTENTS = {
    **{
        "?": "bool_contents",
        "i1": "int_contents",
        "i2": "int_contents",
        "i4": "int_contents",
        "i8": "int64_contents",
    },
    **{"u1": "uint_contents", "u2": "uint_contents", "u4": "uint_contents", "u8": "uint64_contents"},
    **{"f4": "fp32_contents", "f8": "fp64_contents"},
}


def contents_field(array: Any) -> str:
    return CONTENTS[array.dtype.str.lstrip("<|=").replace("b1", "?")]


def asked(array: Any, raw: bool, **request: Any) -> Call:
    message = service_pb2.ModelInferRequest(model_name="m", **request)
    datatype = np_to_triton_dtype(array.dtype)
    made = message.inputs.add(name="x", datatype=datatype, shape=array.shape)
    if datatype == "BYTES":
        if raw:
            message.raw_input_contents.append(serialize_byte_tensor(array).item())
        else:
            made.contents.bytes_contents.extend(array.ravel().tolist())
    elif raw:
        message.raw_input_contents.append(array.tobytes())
    else:
        getattr(made.contents, contents_field(array)).extend(array.ravel().tolist())
    return Call("grpc", message.SerializeToString())


@given(
    arrays.arrays(
        st.sampled_from(["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]),
        arrays.array_shapes(min_dims=1, max_dims=4, max_side=4),
    ),
    st.booleans(),
)
def test_tensors_go_in_and_out_as_triton_writes_and_reads_them(array: Any, raw: bool) -> None:
    raw = raw or array.dtype == "f2"
    parsed = parse(asked(array, raw, id="7"), TENSOR)
    numpy.testing.assert_array_equal(numpy.asarray(parsed.instances), array)
    answer = encode(parsed, Prediction(array), TENSOR)
    response = service_pb2.ModelInferResponse.FromString(answer.body)
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "7")
    assert bool(response.raw_output_contents) == raw
    if raw:
        found = InferResult(response).as_numpy("predictions")
        assert found.dtype == array.dtype
    else:  # which tritonclient never asks for, and cannot read
        output = response.outputs[0]
        assert output.datatype == np_to_triton_dtype(array.dtype)
        found = numpy.array(getattr(output.contents, contents_field(array))).reshape(output.shape)
    numpy.testing.assert_array_equal(found, array)


@given(st.lists(st.text(max_size=10), min_size=1, max_size=4), st.booleans())
def test_texts_go_in_and_out(texts: list[str], raw: bool) -> None:
    array = numpy.array([text.encode() for text in texts], dtype=object)
    parsed = parse(asked(array, raw), TEXT)
    assert parsed.instances == texts
    response = service_pb2.ModelInferResponse.FromString(encode(parsed, Prediction(texts), TEXT).body)
    if raw:
        assert InferResult(response).as_numpy("predictions").tolist() == array.tolist()
    else:  # tritonclient loses zeros at the end of these
        assert list(response.outputs[0].contents.bytes_contents) == array.tolist()


def test_parameters_of_every_type_reach_the_model() -> None:
    values = {"flag": True, "whole": -3, "text": "é", "real": 0.5}
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    parameters = {name: service_pb2.InferParameter(**{kinds[type(value)]: value}) for name, value in values.items()}
    parsed = parse(asked(numpy.ones((1, 2)), True, parameters=parameters), TENSOR)
    assert parsed.options.parameters == values


def changed(**request: Any) -> bytes:
    fields = {"model_name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}], **request}
    return bytes(service_pb2.ModelInferRequest(**fields).SerializeToString())


def one(datatype: str, shape: list[int], **contents: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "contents": contents}]}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\xff\xff\xff", 400),
        (b"", 404),
        (changed() + b"\x32\x17\x0a\x0bpredictions\x12\x08\xf0\x01a\x12\x03\x1a\x01x", 400),  # no UTF-8 in a map
        (changed(model_name="n"), 404),
        (changed(model_version="2"), 404),
        (changed(), 400),
        (changed(inputs=[]), 400),
        (changed(raw_input_contents=[b"\0" * 7]), 400),
        (changed(raw_input_contents=[b"\0" * 8] * 2), 400),
        (changed(raw_input_contents=[b"\0" * 8], **one("FP32", [1, 2], fp32_contents=[1, 2])), 400),
        (changed(**one("FP32", [1, 2], fp64_contents=[1, 2])), 400),
        (changed(**one("FP32", [2, 2], fp32_contents=[1, 2])), 400),
        (changed(**one("FP32", [2**62, 2**62], fp32_contents=[1, 2])), 400),
        (changed(**one("FP32", [0, 2**62])), 400),
        (changed(**one("FP32", [-1, -2], fp32_contents=[1, 2])), 400),
        (changed(**one("INT8", [1, 2], int_contents=[1, 200])), 400),
        (changed(**one("UINT8", [1, 2], uint_contents=[1, 256])), 400),
        (changed(**one("FP16", [1, 2])), 400),
        (changed(**one("nonsense", [1, 2])), 400),
        (changed(id="x" * 2000, raw_input_contents=[b"\0" * 8]), 400),
    ],
)
def test_a_message_that_does_not_fit_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        parse(Call("grpc", body), TENSOR)
    assert caught.value.status == status


@given(st.binary(max_size=60), st.integers(0, 80))
def test_any_damage_is_read_or_refused(damage: bytes, place: int) -> None:
    body = asked(numpy.ones((1, 2)), True).body
    for model in (TENSOR, TEXT):
        try:
            parse(Call("grpc", body[:place] + damage + body[place + len(damage) :]), model)
        except RequestError as error:
            assert error.status in (400, 404)
