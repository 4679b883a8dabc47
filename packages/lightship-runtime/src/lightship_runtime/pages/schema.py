"""JSON schemas (draft 2020-12) of what one model takes and gives, and a body that it is known to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lightship_runtime.engines.engine import Signature, TensorSpec
from lightship_runtime.payload.tables import column_names

Schema: TypeAlias = dict[str, Any]

IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")
SOUNDS = ("audio/wav", "audio/flac", "audio/mpeg", "audio/ogg")
# No schema at all would be OpenAPI 3.1's way to say it, but generators of clients know this one.
BINARY: Mapping[str, Any] = {"schema": {"type": "string", "format": "binary"}}
FILES = {"image": IMAGES, "audio": SOUNDS}  # by the signature's kind

_WHOLE = {
    f"{sign}INT{bits}": (0 if sign else -(1 << bits - 1), (1 << bits if sign else 1 << bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}


def ref(name: str) -> Schema:
    """A reference to a schema under components."""
    return {"$ref": f"#/components/schemas/{name}"}


def instance(signature: Signature, example: Any = None) -> Schema:
    """One instance, in the form that tells a reader most: an object of named columns, else a list.

    `example` is one instance that is known to be right; it tells columns of texts from columns of numbers.
    """
    if signature.kind == "rows":
        names = column_names(signature)
        schema = _record(names, example) if names else _row(signature, (), example)
    elif signature.kind == "tensor":
        schema = _tensors(signature.inputs)
    elif signature.kind == "text":
        schema = {"type": "string", "description": "A text."}
    elif signature.kind in FILES:
        file = {"type": "string", "contentEncoding": "base64", "minLength": 1}
        schema = {
            "anyOf": [file, _closed({"b64": file}, ("b64",))],
            "description": f"An encoded {signature.kind} file in base64.",
        }
    else:
        schema = {"description": "Any JSON value that the model understands."}
    return schema if example is None else {**schema, "examples": [example]}


def request(signature: Signature, example: Any = None) -> dict[str, Schema]:
    """`PredictRequest`, every body of `POST /predict` that is JSON, and the named schemas that it refers to."""
    names = column_names(signature)
    parts = {"Instance": instance(signature, example)}
    bare = [ref("Instances")]
    items = ref("Instance")
    if signature.kind in ("rows", "text"):
        bare.append(ref("Instance"))
    if names:
        parts["Row"] = _row(signature, names, None)
        items = {"anyOf": [ref("Instance"), ref("Row")]}
        parts["Columns"] = _columns(names, example)
        bare += [ref("Row"), ref("Columns")]
    parts["Instances"] = {
        "type": "array",
        "items": items,
        "minItems": 1,
        "description": "Several instances: as many predictions come back, in the same order.",
    }
    inputs = [ref("Instances"), ref("Instance"), *([ref("Row"), ref("Columns")] if names else [])]
    options = _options(signature)
    parts["InstancesRequest"] = {
        **_closed({"instances": ref("Instances"), **options}, ("instances",)),
        "description": "Instances, and what is wanted beside the predictions.",
    }
    parts["InputsRequest"] = {
        **_closed({"inputs": {"anyOf": inputs}, **options}, ("inputs",)),
        "description": "The same by another name; what is no list is one instance.",
    }
    wrapped = [ref("InstancesRequest"), ref("InputsRequest")]
    if names:
        for name, (description, properties) in _tables(names).items():
            parts[name] = {
                **_closed({**properties, **options}, tuple(properties)),
                "description": description,
            }
            wrapped.append(ref(name))
    whole = {"anyOf": [*wrapped, *bare], "description": "A request, in whichever of these forms is at hand."}
    return {"PredictRequest": whole, **parts}


def answer(signature: Signature) -> dict[str, Schema]:
    """`Prediction` and `PredictAnswer`."""
    properties: Schema = {
        "predictions": {
            "type": "array",
            "items": ref("Prediction"),
            "description": "One prediction per instance, in order.",
        }
    }
    if signature.probabilities:
        share: Schema = {"type": ["number", "null"]}
        shares = {
            "anyOf": [share, {"type": "array", "items": share}],
            "description": "A list for each of several outputs.",
        }
        properties["probabilities"] = {
            "type": "array",
            "items": {"type": "array", "items": shares},
            "description": "Where asked for: per instance one probability for each class.",
        }
        properties["classes"] = {
            "type": "array",
            "items": {},
            "description": "The classes that the probabilities belong to, in order.",
        }
        if signature.classes:
            properties["classes"]["examples"] = [list(signature.classes)]
    return {
        "Prediction": _prediction(signature),
        "PredictAnswer": {
            "type": "object",
            "properties": properties,
            "required": ["predictions"],
            "description": "The answer to a request, whatever form that had.",
        },
    }


def _options(signature: Signature) -> Schema:
    options: Schema = {"parameters": {"type": "object", "description": "Further wishes that this model understands."}}
    if signature.probabilities:
        options["predict_proba"] = {
            "type": "boolean",
            "default": False,
            "description": "Whether to answer with one probability per class as well.",
        }
    return options


def _tables(names: Sequence[str]) -> dict[str, tuple[str, Schema]]:
    """Tables in the words of pandas and MLflow, besides `Instances` and `Columns`."""
    order = {"type": "array", "items": {"enum": list(names)}, "minItems": len(names), "maxItems": len(names)}
    split = {
        "columns": {**order, "uniqueItems": True, "description": "Their order in `data`."},
        "data": {"type": "array", "items": ref("Row"), "minItems": 1},
    }
    records = {"type": "array", "items": ref("Instance"), "minItems": 1}
    return {
        "ColumnsRequest": ("A table by columns.", {"columns": ref("Columns")}),
        "SplitRequest": ('A table as pandas writes it with `orient="split"`.', split),
        "RecordsRequest": ("A table by rows, in MLflow's word for it.", {"dataframe_records": records}),
        "DataframeRequest": (
            "The split table in MLflow's word for it.",
            {"dataframe_split": _closed(split, tuple(split))},
        ),
    }


def _cell(value: Any, title: str | None = None) -> Schema:
    """A value of a table; `value` is one that is known to be right."""
    texts = isinstance(value, str)
    schema: Schema = {"type": ["string", "number", "boolean", "null"] if texts else ["number", "null"]}
    if title is not None:
        schema["title"] = title
    if value is not None:
        schema["examples"] = [value]
    return schema


def _record(names: Sequence[str], example: Any) -> Schema:
    known = example if isinstance(example, dict) else {}
    return {
        **_closed({name: _cell(known.get(name), name) for name in names}, names),
        "description": "A row: every column by its name. null is a missing value, where the model takes them.",
    }


def _row(signature: Signature, names: Sequence[str], example: Any) -> Schema:
    count = signature.features or len(names)
    words = f"{count} values" if count else "a list of values"
    if names:
        words += ": " + ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
    scalars: Schema = {"type": ["number", "string", "boolean", "null"]}
    if isinstance(example, list) and not any(isinstance(value, (str, bool)) for value in example):
        scalars = {"type": ["number", "null"]}
    schema: Schema = {"type": "array", "items": scalars, "description": f"A row: {words}."}
    return {**schema, "minItems": count, "maxItems": count} if count else {**schema, "minItems": 1}


def _columns(names: Sequence[str], example: Any) -> Schema:
    known = example if isinstance(example, dict) else {}
    columns = {name: {"type": "array", "items": _cell(known.get(name)), "minItems": 1} for name in names}
    return {**_closed(columns, names), "description": "A table by columns, all equally long."}


def _closed(properties: Schema, required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _tensors(specs: Sequence[TensorSpec]) -> Schema:
    """One instance of tensors: without the first dimension, which counts the instances."""
    if not specs:
        return {"description": "A number, or nested lists of numbers."}
    if len(specs) == 1:
        return {**_nested(specs[0].shape[1:], specs[0].datatype), "description": _words(specs[0])}
    inputs = {spec.name: {**_nested(spec.shape[1:], spec.datatype), "description": _words(spec)} for spec in specs}
    return {**_closed(inputs, tuple(inputs)), "description": "A tensor for each input."}


def _nested(shape: Sequence[int], datatype: str) -> Schema:
    if not shape:
        return _scalar(datatype)
    schema: Schema = {"type": "array", "items": _nested(shape[1:], datatype)}
    return schema if shape[0] < 0 else {**schema, "minItems": shape[0], "maxItems": shape[0]}


def _scalar(datatype: str) -> Schema:
    if datatype in _WHOLE:
        low, high = _WHOLE[datatype]
        return {"type": "integer", "minimum": low, "maximum": high}
    return {"type": {"BOOL": "boolean", "BYTES": "string"}.get(datatype, "number")}


def _words(spec: TensorSpec) -> str:
    shape = " × ".join("any" if length < 0 else str(length) for length in spec.shape[1:])
    return f"`{spec.name}`: {spec.datatype}, {shape or 'one value'}."


def _prediction(signature: Signature) -> Schema:
    """What one prediction is, where that is certain."""
    classes = signature.classes or ()
    plain = all(isinstance(one, (str, int, float)) for one in classes)
    if signature.rows and signature.probabilities and classes and plain:
        return {"enum": list(classes), "description": "The class."}
    if signature.outputs and (signature.rows or len(signature.outputs) == 1):
        spec = signature.outputs[0]
        schema = _nested(spec.shape[1:], spec.datatype)
        return {**_nullable(schema), "description": _words(spec)}
    if len(signature.outputs) > 1:
        outputs = {spec.name: _nullable(_nested(spec.shape[1:], spec.datatype)) for spec in signature.outputs}
        return {"type": "object", "properties": outputs, "description": "An output for each name."}
    return {"description": "What the model predicts: a number, a text, a list or an object."}


def _nullable(schema: Schema) -> Schema:
    """Floats that are not finite travel as null."""
    if schema.get("type") == "array":
        return {**schema, "items": _nullable(schema["items"])}
    return {**schema, "type": ["number", "null"]} if schema.get("type") == "number" else schema
