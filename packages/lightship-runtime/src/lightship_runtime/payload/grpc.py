"""The Open Inference Protocol over gRPC: the bytes of a ModelInferRequest in, those of a ModelInferResponse out.

Tensors are raw bytes for all inputs (`raw_input_contents`) or typed values in each; the answer is written in the same
of the two ways. FP16 and BF16 exist as raw bytes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from lightship_runtime.engines.engine import Prediction
from lightship_runtime.payload.call import Answer, Call, RequestError
from lightship_runtime.payload.grpc_messages import messages
from lightship_runtime.payload.infer import InferRequest, WantedOutput, answer_tensors, check_parameters, parsed
from lightship_runtime.payload.parsed import Parsed, ServedModel
from lightship_runtime.payload.tensors import DATATYPES, Tensor, checked_in_range, counted, from_bytes, to_bytes

CONTENT_TYPE = "application/grpc+proto"
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse_grpc(call: Call, model: ServedModel) -> Parsed:
    """A request over gRPC. Raises RequestError; 404 where it is for another model."""
    try:
        message = messages().ModelInferRequest()
    except ImportError as error:  # the process that listens does not start gRPC without it
        raise RequestError("This image has no protobuf that can be used for gRPC.", 501) from error
    errors = import_module("google.protobuf.message")
    try:
        message.ParseFromString(call.body)
    except (errors.DecodeError, UnicodeDecodeError) as error:
        raise RequestError("The message is not a ModelInferRequest.") from error
    if message.model_name != model.name or message.model_version not in ("", model.version):
        raise RequestError("There is no model of that name and version.", 404)
    raw = bool(message.raw_input_contents)
    if raw and len(message.raw_input_contents) != len(message.inputs):
        raise RequestError("raw_input_contents must have one entry per input.")
    tensors = []
    for number, one in enumerate(message.inputs):
        check_parameters(_parameters(one.parameters))
        if raw:
            if one.HasField("contents"):
                raise RequestError("An input has contents although raw_input_contents are used.")
            data = memoryview(message.raw_input_contents[number])
            tensors.append(from_bytes(one.name, one.datatype, one.shape, data))
        else:
            tensors.append(_typed(one))
    outputs = []
    for output in message.outputs:
        check_parameters(_parameters(output.parameters))
        outputs.append(WantedOutput(output.name))
    request = InferRequest(tensors, message.id, _parameters(message.parameters), outputs, raw)
    return parsed(request, model, partial(_write, request))


def _typed(one: Any) -> Tensor:
    field = _CONTENTS.get(one.datatype)
    if field is None:
        raise RequestError("An input's datatype is unknown, or one that exists as raw_input_contents only.")
    values = checked_in_range(list(getattr(one.contents, field)), one.datatype)
    return counted(one.name, one.datatype, one.shape, values)


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(value, choice)
    return found


def _write(request: InferRequest, prediction: Prediction, model: ServedModel) -> Answer:
    made = messages()
    tensors = [tensor for tensor, _ in answer_tensors(request, prediction, model)]
    response = made.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    raw = request.binary or any(tensor.datatype not in _CONTENTS for tensor in tensors)
    for tensor in tensors:
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            response.raw_output_contents.append(to_bytes(tensor))
        else:
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(_flat(tensor))
    return Answer(200, response.SerializeToString(), CONTENT_TYPE)


def _flat(tensor: Tensor) -> Any:
    if DATATYPES[tensor.datatype].numpy is None:
        return [value if isinstance(value, bytes) else value.encode() for value in tensor.values]
    return tensor.values if isinstance(tensor.values, list) else tensor.values.ravel().tolist()
