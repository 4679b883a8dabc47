"""The Open Inference Protocol v2 over HTTP (`POST /v2/models/<name>/infer`), with the binary tensor extension.

With the header Inference-Header-Content-Length only that many bytes of the body are JSON; behind them come the raw
bytes of the inputs that have `binary_data_size`, in order. Outputs come back raw where `binary_data` asks for that,
or `binary_data_output` for all of them. Probabilities are asked for by naming that output, or with the parameter
`predict_proba`. Other parameters go to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from lightship_runtime.engines.engine import Prediction
from lightship_runtime.payload.call import Answer, Call, RequestError
from lightship_runtime.payload.json import bounded_json
from lightship_runtime.payload.parsed import Content, Parsed, ServedModel, understood
from lightship_runtime.payload.query import wants_probabilities
from lightship_runtime.payload.tensor_instances import instances_of
from lightship_runtime.payload.tensor_outputs import is_known, is_probabilities, outputs_of, selected
from lightship_runtime.payload.tensors import DATATYPES, Tensor, from_bytes, from_json, to_bytes

_MAX_ID = 1024  # characters
# Of the protocol and its extensions: not the model's affair.
_OURS = frozenset({"binary_data_output", "predict_proba", "content_type", "headers", "priority", "timeout"})
_REFUSED = {
    "shared_memory_region": "shared memory",
    "classification": "the classification extension",
    "sequence_id": "sequences",
}


class WantedOutput(msgspec.Struct, frozen=True):
    """An output that a client asks for, and whether as raw bytes; None leaves that to the request as a whole."""

    name: str
    binary: bool | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """A request, whichever way it came.

    Attributes:
        tensors: The inputs.
        id: To be sent back.
        parameters: Of the request.
        outputs: What is asked for; empty means all.
        binary: Whether outputs are raw bytes where they do not say it themselves.
    """

    tensors: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[WantedOutput] = []
    binary: bool = False


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


class _OutputTensor(msgspec.Struct, omit_defaults=True):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, int] | None = None


class _Response(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[_OutputTensor]


class _ResponseWithId(_Response):
    id: str


_DECODER = msgspec.json.Decoder(_Request)


def parse_infer(call: Call, model: ServedModel) -> Parsed:
    """A request over HTTP. Raises RequestError."""
    request = _read(call.body, call.json_length)
    return parsed(request, model, partial(_write, request), wants_probabilities(call.query))


def parsed(request: InferRequest, model: ServedModel, reply: Any, probabilities: bool = False) -> Parsed:
    """A request, checked against what the model can do. Raises RequestError."""
    signature = model.signature
    check_parameters(request.parameters)
    if len(request.id) > _MAX_ID:
        raise RequestError(f"The id is longer than {_MAX_ID} characters.")
    names = [output.name for output in request.outputs]
    if len(set(names)) != len(names):
        raise RequestError("An output is asked for twice.")
    if not all(is_known(name, signature) for name in names):
        raise RequestError("An output is asked for that this model does not have.")
    flag = request.parameters.get("predict_proba", False)
    if not isinstance(flag, bool):
        raise RequestError("predict_proba is true or false.")
    probabilities = probabilities or flag or any(is_probabilities(name, signature) for name in names)
    parameters = {name: value for name, value in request.parameters.items() if name not in _OURS}
    content = Content(instances_of(request.tensors, signature), probabilities, parameters or None)
    return understood(content, probabilities, reply, signature)


def answer_tensors(request: InferRequest, prediction: Prediction, model: ServedModel) -> list[tuple[Tensor, bool]]:
    """The outputs that are asked for, and whether each is to be raw bytes. Raises RequestError where one is not."""
    tensors = outputs_of(prediction, model.signature)
    if not request.outputs:
        return [(tensor, request.binary) for tensor in tensors]
    found = selected(tensors, [output.name for output in request.outputs], model.signature)
    if found is None:
        raise RequestError("An output is asked for that this model does not have.")
    return [
        (tensor, request.binary if output.binary is None else output.binary)
        for tensor, output in zip(found, request.outputs)  # noqa: B905  # lengths are equal
    ]


def check_parameters(parameters: dict[str, Any]) -> None:
    """Refuse extensions that we do not have, rather than answer as if they were not asked for."""
    for name, words in _REFUSED.items():
        if parameters.get(name):
            raise RequestError(f"This server does not have {words}.")


def _read(body: bytes, json_length: int | None) -> InferRequest:
    if json_length is None:
        json_length = len(body)
    if not 0 < json_length <= len(body):
        raise RequestError("Inference-Header-Content-Length is not the length of the JSON in the body.")
    bounded_json(body, json_length)
    view = memoryview(body)
    try:
        request = _DECODER.decode(body if json_length == len(body) else view[:json_length])
    except msgspec.ValidationError as error:
        raise RequestError(f"The request is not what the protocol says: {error}.") from error  # quotes no values
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError("The body is not valid JSON.") from error
    except RecursionError as error:
        raise RequestError("The body is nested too deeply.") from error
    tensors = _tensors(request.inputs, view[json_length:])
    outputs = []
    for output in request.outputs:
        check_parameters(output.parameters)
        outputs.append(WantedOutput(output.name, _flag(output.parameters, "binary_data", None)))
    binary = _flag(request.parameters, "binary_data_output", False)
    return InferRequest(tensors, request.id, request.parameters, outputs, bool(binary))


def _tensors(inputs: Sequence[_Input], raw: memoryview) -> list[Tensor]:
    tensors = []
    position = 0
    for one in inputs:
        check_parameters(one.parameters)
        size = one.parameters.get("binary_data_size")
        data = memoryview(one.data)
        if size is None:
            if not data:
                raise RequestError("An input has neither data nor binary_data_size.")
            tensors.append(from_json(one.name, one.datatype, one.shape, data))
            continue
        if data or type(size) is not int or not 0 <= size <= len(raw) - position:
            raise RequestError("An input's binary_data_size does not fit the body, or it has data as well.")
        tensors.append(from_bytes(one.name, one.datatype, one.shape, raw[position : position + size]))
        position += size
    if position != len(raw):
        raise RequestError("There are bytes behind the JSON that belong to no input.")
    return tensors


def _flag(parameters: dict[str, Any], name: str, default: bool | None) -> bool | None:
    value = parameters.get(name, default)
    if value is not default and not isinstance(value, bool):
        raise RequestError(f"{name} is true or false.")
    return value


def _write(request: InferRequest, prediction: Prediction, model: ServedModel) -> Answer:
    outputs = []
    raw: list[bytes] = []
    for tensor, binary in answer_tensors(request, prediction, model):
        described = _OutputTensor(tensor.name, tensor.shape, tensor.datatype)
        if binary:
            raw.append(to_bytes(tensor))
            described.parameters = {"binary_data_size": len(raw[-1])}
        else:
            described.data = _listed(tensor)
        outputs.append(described)
    if request.id:
        response: _Response = _ResponseWithId(model.name, model.version, outputs, request.id)
    else:
        response = _Response(model.name, model.version, outputs)
    header = msgspec.json.encode(response)
    if not raw:
        return Answer(200, header)
    return Answer(200, b"".join((header, *raw)), "application/octet-stream", len(header))


def _listed(tensor: Tensor) -> list[Any]:
    """A flat list, as Triton writes it."""
    if DATATYPES[tensor.datatype].numpy is None:
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in tensor.values]
    return tensor.values if isinstance(tensor.values, list) else list(tensor.values.ravel().tolist())
