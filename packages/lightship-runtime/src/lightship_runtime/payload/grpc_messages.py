"""The protobuf messages of the Open Inference Protocol over gRPC, made when they are first needed.

The protocol's names and numbers stand here as data (open_inference_grpc.proto, package `inference`) instead of as
generated code: that works with every protobuf from 4.25 on, whichever the user's own requirements pin, and the
messages live in a pool of their own, where those of a client library in the same process cannot collide with them.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# A map's key that is not UTF-8 kills 4.21 with a segmentation fault; 4.22 to 4.24 complain when it is looked at.
_FIRST_SAFE = (4, 25)
# Message: fields as "name type number"; `*` repeats a type, `<>` makes it a map from texts, `|` one of several.
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live bool 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready bool 1",
    "ModelReadyRequest": "name string 1, version string 2",
    "ModelReadyResponse": "ready bool 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name string 1, version string 2, extensions *string 3",
    "ModelMetadataRequest": "name string 1, version string 2",
    "TensorMetadata": "name string 1, datatype string 2, shape *int64 3",
    "ModelMetadataResponse": "name string 1, versions *string 2, platform string 3, "
    "inputs *TensorMetadata 4, outputs *TensorMetadata 5",
    "InferParameter": "bool_param |bool 1, int64_param |int64 2, string_param |string 3, "
    "double_param |double 4, uint64_param |uint64 5",
    "InferTensorContents": "bool_contents *bool 1, int_contents *int32 2, int64_contents *int64 3, "
    "uint_contents *uint32 4, uint64_contents *uint64 5, fp32_contents *float 6, fp64_contents *double 7, "
    "bytes_contents *bytes 8",
    "InferInputTensor": "name string 1, datatype string 2, shape *int64 3, parameters <InferParameter> 4, "
    "contents InferTensorContents 5",
    "InferRequestedOutputTensor": "name string 1, parameters <InferParameter> 2",
    "ModelInferRequest": "model_name string 1, model_version string 2, id string 3, parameters <InferParameter> 4, "
    "inputs *InferInputTensor 5, outputs *InferRequestedOutputTensor 6, raw_input_contents *bytes 7",
    "InferOutputTensor": "name string 1, datatype string 2, shape *int64 3, parameters <InferParameter> 4, "
    "contents InferTensorContents 5",
    "ModelInferResponse": "model_name string 1, model_version string 2, id string 3, parameters <InferParameter> 4, "
    "outputs *InferOutputTensor 5, raw_output_contents *bytes 6",
}


@lru_cache(maxsize=1)
def messages() -> SimpleNamespace:
    """The message classes by name. Raises ImportError where there is no protobuf that survives hostile messages."""
    from google.protobuf import __version__ as version
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    if tuple(map(int, version.split(".")[:2])) < _FIRST_SAFE:
        raise ImportError(f"protobuf is {version}, and older than 4.25", name="protobuf")
    file = descriptor_pb2.FileDescriptorProto(
        name="lightship/open_inference_grpc.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add_field(message, *field.split(" "))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptors = {name: pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in _MESSAGES}
    made = {name: message_factory.GetMessageClass(descriptor) for name, descriptor in descriptors.items()}
    return SimpleNamespace(**made)


def _add_field(message: Any, name: str, kind: str, number: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    field = message.field.add(name=name, number=int(number), label=Field.LABEL_OPTIONAL)
    if kind.startswith("*"):
        field.label = Field.LABEL_REPEATED
    elif kind.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    elif kind.startswith("<"):
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", "string", "1")
        _add_field(entry, "value", kind.strip("<>"), "2")
        field.label = Field.LABEL_REPEATED
        field.type = Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"
        return
    kind = kind.lstrip("*|")
    scalar = getattr(Field, f"TYPE_{kind.upper()}", None)
    if scalar is None:
        field.type = Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    else:
        field.type = scalar
