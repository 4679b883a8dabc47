"""Every other format: what is told of a good file, and why a bad one is refused."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import model_bytes
import numpy as np
import pytest
import sklearn

from lightship.errors import ProjectError
from lightship.models import Tensor, detect, propose_requirements


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# skops


def test_skops_tells_versions_and_inputs(tmp_path: Path, pipeline) -> None:
    import skops.io

    path = tmp_path / "model.skops"
    skops.io.dump(pipeline, path)
    model = detect(path)
    assert (model.format, model.engine, model.pickle) == ("skops", "sklearn", None)
    assert dict(model.details) == {"object": "Pipeline", "features": "4"}
    assert propose_requirements(model) == ("numpy", f"scikit-learn=={sklearn.__version__}", "skops")
    assert model.notes == ()


def test_skops_names_the_types_that_must_be_trusted(tmp_path: Path) -> None:
    schema = {
        "__class__": "Encoder", "__module__": "features", "__loader__": "ObjectNode",
        "content": {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"x"'},
        "protocol": 2, "_skops_version": "0.16.0",
    }  # fmt: skip
    path = model_bytes.torch_zip(tmp_path / "model.skops", {"schema.json": json.dumps(schema).encode()}, top="")
    assert "features.Encoder" in detect(path).notes[0]


@pytest.mark.parametrize("schema", [b"{", b"[" * 100_000, b"{}", b"\xff"])
def test_a_broken_skops_schema_is_refused(tmp_path: Path, schema: bytes) -> None:
    path = model_bytes.torch_zip(tmp_path / "model.skops", {"schema.json": schema}, top="")
    with pytest.raises(ProjectError, match=r"schema\.json"):
        detect(path)


# ONNX


def test_onnx_tells_inputs_outputs_and_operators(tmp_path: Path, linear_onnx: bytes) -> None:
    model = detect(written(tmp_path / "model.onnx", linear_onnx))
    assert (model.format, model.engine, model.dtype) == ("onnx", "onnxruntime", "float32")
    assert model.inputs == (Tensor("x", "float32", ("batch", 4)),)  # W is an initializer
    assert model.outputs == (Tensor("y", "float32", ("batch", 3)),)
    details = dict(model.details)
    assert (details["opset"], details["nodes"], details["parameters"]) == ("ai.onnx 17", "1", "15")
    assert details["made by"] == "tests"
    assert propose_requirements(model) == ("onnxruntime",)


def test_onnx_is_recognised_without_its_suffix(tmp_path: Path, linear_onnx: bytes) -> None:
    assert detect(written(tmp_path / "weights", linear_onnx)).format == "onnx"


def test_onnx_with_external_data_has_two_files(tmp_path: Path, linear_onnx: bytes) -> None:
    import onnx

    model = onnx.load_from_string(linear_onnx)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    found = detect(path)
    assert found.files == (path, tmp_path / "weights.bin")
    assert found.size == sum(file.stat().st_size for file in found.files)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ProjectError, match=r"keeps weights in 'weights\.bin', which is not beside it"):
        detect(path)


@pytest.mark.parametrize("location", ["/etc/passwd", "../weights.bin", "a/../../b", "..\\w", ""])
def test_onnx_must_not_name_data_outside_of_its_folder(tmp_path: Path, linear_onnx: bytes, location: str) -> None:
    import onnx

    model = onnx.load_from_string(linear_onnx)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    with pytest.raises(ProjectError, match="outside of its folder"):
        detect(written(tmp_path / "model.onnx", model.SerializeToString()))


def test_onnx_in_branches_and_from_sequences(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    def branch(name: str):
        constant = helper.make_tensor("c" + name, TensorProto.FLOAT, [5], [1.0] * 5)
        node = helper.make_node("Constant", [], ["out" + name], value=constant)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info("out" + name, 1, [5])])

    choose = helper.make_node("If", ["cond"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    graph = helper.make_graph(
        [choose],
        "g",
        [helper.make_tensor_value_info("cond", TensorProto.BOOL, [])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)])
    found = detect(written(tmp_path / "model.onnx", model.SerializeToString()))
    assert found.inputs == (Tensor("cond", "bool", ()),)
    assert found.outputs == (Tensor("y", "sequence", None),)
    assert dict(found.details)["parameters"] == "10"
    assert "my.ops" in found.notes[0]


def test_onnx_cut_off_anywhere_is_refused(tmp_path: Path, linear_onnx: bytes) -> None:
    path = tmp_path / "model.onnx"
    for size in range(1, len(linear_onnx)):
        path.write_bytes(linear_onnx[:size])
        with pytest.raises(ProjectError):
            detect(path)


# safetensors


def test_safetensors_tells_parameters_and_type(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(2, np.float32), "e": np.zeros((0, 2))}, path)
    model = detect(path)
    assert (model.format, model.engine, model.dtype, model.needs_code) == ("safetensors", "torch", "float16", True)
    assert dict(model.details) == {"tensors": "3", "parameters": "14"}


def safetensors(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (safetensors({"a": ENTRY}, bytes(8), size=1 << 60), "header claims"),
        (safetensors({"a": ENTRY}, bytes(7)), "need 8 bytes, but 7"),
        (safetensors({"a": ENTRY}, bytes(9)), "need 8 bytes, but 9"),
        (safetensors({"a": ENTRY | {"data_offsets": [8, 0]}}, bytes(8)), "another size"),
        (safetensors({"a": ENTRY | {"shape": [3]}}, bytes(8)), "another size"),
        (safetensors({"a": ENTRY | {"shape": [-2]}}, bytes(8)), "impossible shape"),
        (safetensors({"a": ENTRY | {"shape": [1 << 62, 1 << 62, 1 << 62]}}, bytes(8)), "impossible shape"),
        (safetensors({"a": ENTRY | {"data_offsets": [4, 12]}}, bytes(12)), "gap or overlap"),
        (safetensors({"a": ENTRY, "b": ENTRY}, bytes(8)), "gap or overlap"),
        (safetensors({"a": {"dtype": 1}}), "not the JSON"),
        (safetensors({"a": [[]]}), "not the JSON"),
        (safetensors({"__metadata__": {"format": 3}}), "not the JSON"),
        (safetensors(b'{"a":' + b"[" * 5000), "not the JSON"),
        (safetensors(b"{" + b'"a":1,' * 700_000 + b'"b":2}'), "more than 150,000 entries"),
    ],
)
def test_broken_safetensors_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ProjectError, match=why):
        detect(written(tmp_path / "model.safetensors", data))


# GGUF


@pytest.mark.parametrize("order", ["<", ">"])
def test_gguf_tells_architecture_and_quantisation(tmp_path: Path, order: str) -> None:
    model = detect(written(tmp_path / "model.gguf", model_bytes.gguf(order=order)))
    assert (model.format, model.engine, model.dtype) == ("gguf", "llamacpp", "Q4_K_M")
    assert dict(model.details) == {
        "architecture": "llama", "name": "tiny", "quantisation": "Q4_K_M", "parameters": "64", "context": "2048",
        "tokenizer": "gpt2", "vocabulary": "3", "chat template": "yes", "tensors": "2",
    }  # fmt: skip
    assert propose_requirements(model) == ("jinja2", "xllamacpp")


def test_gguf_in_parts_is_one_model(tmp_path: Path) -> None:
    first = written(tmp_path / "m-00001-of-00002.gguf", model_bytes.gguf())
    with pytest.raises(ProjectError, match=r"parts are missing: m-00002-of-00002\.gguf"):
        detect(first)
    second = written(tmp_path / "m-00002-of-00002.gguf", model_bytes.gguf({"split.no": 1}))
    model = detect(first)
    assert model.files == (first, second)
    assert dict(model.details)["parameters"] == "128"


def test_gguf_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "model.gguf", model_bytes.gguf({"general.architecture": "clip"}))
    assert "no tokenizer" in detect(path).notes[0]


GGUF = model_bytes.gguf()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (GGUF[:-1], "tensors reach to byte"),
        (model_bytes.gguf(data=False), "tensors reach to byte"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 1), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 63), "claims"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63), "claims to be"),
        (b"GGUF" + struct.pack("<IQQQ2sIIQ", 3, 0, 1, 2, b"ab", 9, 8, 1 << 62), "texts"),
        (b"GGUF" + struct.pack("<IQQQ2sIIQ", 3, 0, 1, 2, b"ab", 9, 4, 1 << 62), "ends in the middle"),
        (b"GGUF" + struct.pack("<IQQQ2sII", 3, 0, 1, 2, b"ab", 9, 9) + bytes(8), "elements of the type 9"),
        (b"GGUF" + struct.pack("<IQQQ2sI", 3, 0, 1, 2, b"ab", 77), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"a", 9), "9 dimensions"),
        (model_bytes.gguf({"general.alignment": 0}), "alignment is 0"),
        (b"GGUF", "ends in the middle"),
    ],
)
def test_broken_gguf_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ProjectError, match=why):
        detect(written(tmp_path / "model.gguf", data))


# PyTorch


def test_a_state_dictionary_needs_code(tmp_path: Path) -> None:
    model = detect(model_bytes.torch_state(tmp_path / "model.pt"))
    assert (model.format, model.engine, model.dtype, model.needs_code) == ("torch", "torch", "float32", True)
    assert dict(model.details) == {"object": "state dict with 'weight'", "parameters": "12"}
    assert model.pickle is not None and model.pickle.verdict == "safe"
    assert "load() that builds the network" in model.notes[0]
    assert propose_requirements(model) == ("torch",)


def test_the_older_form_of_torch_is_read(tmp_path: Path) -> None:
    model = detect(written(tmp_path / "model.pth", model_bytes.torch_legacy()))
    assert dict(model.details) == {"object": "state dict with 'weight'", "parameters": "12"}


def test_a_dangerous_torch_file_is_told(tmp_path: Path) -> None:
    data = model_bytes.torch_pickle(extra=b"X\x01\x00\x00\x00xcposix\nsystem\nX\x02\x00\x00\x00id\x85R")
    model = detect(model_bytes.torch_state(tmp_path / "model.pt", data))
    assert model.pickle is not None and model.pickle.dangerous == ("posix.system",)
    assert model.notes[0].startswith("DANGEROUS")


def test_a_whole_network_names_its_class(tmp_path: Path) -> None:
    data = b"\x80\x02cnets\nNet\n)\x81}X\x08\x00\x00\x00training\x89sb."
    model = detect(model_bytes.torch_state(tmp_path / "model.pt", data))
    assert dict(model.details)["object"] == "nets.Net"
    assert model.needs_code and model.pickle is not None and model.pickle.unknown == ("nets.Net",)


def test_torchscript_needs_no_code(tmp_path: Path) -> None:
    model = detect(model_bytes.torchscript(tmp_path / "model.pt"))
    assert (model.format, model.engine, model.dtype, model.needs_code) == ("torchscript", "torch", "float16", False)
    assert dict(model.details) == {"network": "net.Net", "parameters": "12"}
    assert model.pickle is None


def test_an_exported_program_is_recognised(tmp_path: Path) -> None:
    assert detect(model_bytes.exported_program(tmp_path / "model.pt2")).format == "pt2"
    members = {"serialized_exported_program.json": b"{}", "version": b"5.1"}
    assert detect(model_bytes.torch_zip(tmp_path / "old.pt2", members, top="")).format == "pt2"


def test_zips_that_are_no_model_or_a_trap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../etc/passwd", b"x")
        archive.writestr("\u202egnp.exe", b"x")
    with pytest.raises(ProjectError, match="a zip archive"):
        detect(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", model_bytes.torch_pickle())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data.pkl", b"cos\nsystem\n.")
    with pytest.raises(ProjectError, match="two of its members have one name"):
        detect(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", model_bytes.torch_pickle())
        archive.writestr("b/data.pkl", b"cos\nsystem\n.")
    with pytest.raises(ProjectError, match=r"2 members data\.pkl"):
        detect(path)


def test_a_zip_with_a_huge_table_of_contents_is_refused(tmp_path: Path) -> None:
    whole = model_bytes.torch_state(tmp_path / "model.pt").read_bytes()
    end = bytearray(whole[-22:])
    end[12:16] = struct.pack("<I", 50 << 20)
    end[16:20] = struct.pack("<I", 100)
    path = tmp_path / "model.pt"
    with path.open("wb") as file:
        file.write(whole[:100])
        file.truncate(100 + (50 << 20))
        file.seek(0, 2)
        file.write(end)
    with pytest.raises(ProjectError, match="table of contents"):
        detect(path)


def test_a_pickle_that_expands_inside_a_zip_stays_small(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02B" + struct.pack("<I", 100 << 20) + bytes(100 << 20) + b".")
    tracemalloc.start()
    try:
        assert detect(path).format == "torch"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


# Trees


@pytest.mark.parametrize(
    ("name", "data", "format_"),
    [
        ("model.json", model_bytes.xgboost_json(), "xgboost-json"),
        ("model.ubj", model_bytes.ubjson(model_bytes.xgboost_document()), "xgboost-ubj"),
        ("model.model", model_bytes.ubjson(model_bytes.xgboost_document()), "xgboost-ubj"),
        ("noname", model_bytes.xgboost_json(), "xgboost-json"),
    ],
)
def test_xgboost_tells_its_objective_and_version(tmp_path: Path, name: str, data: bytes, format_: str) -> None:
    model = detect(written(tmp_path / name, data))
    assert (model.format, model.engine) == (format_, "xgboost")
    details = dict(model.details)
    assert details["objective"] == "binary:logistic" and details["features"] == "4" and details["booster"] == "gbtree"
    assert propose_requirements(model) == ("xgboost==2.1.4",)


def test_a_large_xgboost_json_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightship.models.xgboost.MAX_DOCUMENT", 100)
    path = written(tmp_path / "model.json", model_bytes.xgboost_json())
    model = detect(path)
    assert dict(model.details)["objective"] == "binary:logistic"
    assert propose_requirements(model) == ("xgboost==2.1.4",)
    path.write_bytes(model_bytes.xgboost_json()[:-5])
    with pytest.raises(ProjectError, match="ends in the middle"):
        detect(path)


def test_the_binary_format_of_xgboost_comes_with_a_warning(tmp_path: Path) -> None:
    model = detect(written(tmp_path / "old.model", model_bytes.xgboost_binary()))
    assert dict(model.details)["objective"] == "binary:logistic"
    assert propose_requirements(model) == ("xgboost~=1.7.0",)
    assert "3.1" in model.notes[0]


UBJ = model_bytes.ubjson(model_bytes.xgboost_document())


@pytest.mark.parametrize(
    "data",
    [
        UBJ[:-1],
        UBJ[: len(UBJ) // 2],
        b"{L" + struct.pack(">q", 7) + b"learner{" + (b"L" + struct.pack(">q", 1) + b"a{") * 100,
        b"{L" + struct.pack(">q", 7) + b"learner{L" + struct.pack(">q", -1),
        b"{L" + struct.pack(">q", 7) + b"learner{L" + struct.pack(">q", 1) + b"a[$d#L" + struct.pack(">q", 1 << 62),
        b"{L" + struct.pack(">q", 7) + b"learner{L" + struct.pack(">q", 1) + b"a[$S#L" + struct.pack(">q", 1 << 62),
        b"{L" + struct.pack(">q", 7) + b"learner{}}",
        b"{L" + struct.pack(">q", 7) + b"learner{x",
    ],
)
def test_broken_universal_json_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ProjectError, match="damaged"):
        detect(written(tmp_path / "model.ubj", data))


@pytest.mark.parametrize("data", [model_bytes.xgboost_json()[:-9], b'{"learner":{}}', b'{"learner":' + b"[" * 9999])
def test_broken_xgboost_json_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ProjectError, match="damaged"):
        detect(written(tmp_path / "model.json", data))


def test_json_that_is_no_model_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="no model that Lightship knows"):
        detect(written(tmp_path / "request.json", b'{"inputs": [1, 2]}'))


def test_lightgbm_text_is_recognised(tmp_path: Path, iris) -> None:
    from lightgbm import LGBMClassifier

    path = tmp_path / "model.txt"
    fitted = LGBMClassifier(n_estimators=2, verbose=-1).fit(*iris)
    fitted.booster_.save_model(path)
    model = detect(path)
    assert (model.format, model.engine) == ("lightgbm", "lightgbm")
    details = dict(model.details)
    assert (details["features"], details["classes"], details["trees"]) == ("4", "3", "6")
    assert propose_requirements(model) == ("lightgbm>=4.0.0",)
    path.write_text(path.read_text()[:500])
    with pytest.raises(ProjectError, match="no end of its trees"):
        detect(path)


def test_catboost_is_recognised(tmp_path: Path) -> None:
    path = written(tmp_path / "model.cbm", model_bytes.catboost())
    model = detect(path)
    assert dict(model.details) == {"loss": "Logloss", "saved with": "CatBoost 1.2.10"}
    assert propose_requirements(model) == ("catboost==1.2.10",)
    with pytest.raises(ProjectError, match="ends in the middle"):
        detect(written(path, model_bytes.catboost()[:-100]))
    with pytest.raises(ProjectError, match="ends in the middle"):
        detect(written(path, b"CBM1\xff\xff\xff\xff"))


def test_keras_needs_code(tmp_path: Path) -> None:
    members = {
        "config.json": b'{"class_name": "Sequential"}',
        "metadata.json": b'{"keras_version": "3.5.0", "date_saved": "today"}',
        "model.weights.h5": b"\x89HDF",
    }
    model = detect(model_bytes.torch_zip(tmp_path / "model.keras", members, top=""))
    assert model.needs_code and propose_requirements(model) == ("keras==3.5.0",)
    assert dict(model.details)["network"] == "Sequential"


# What is no model


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("model.joblib", b"", "is empty"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("model.pkl", b"<!DOCTYPE html><html>", "a web page"),
        ("model.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3", "TensorFlow Lite"),
        ("model.xyz", b"hello", "no model that Lightship knows"),
        ("model.pt", b"hello", "damaged"),
        ("model.onnx", b"hello", "damaged"),
        ("model.gguf", b"hello", "does not start with GGUF"),
        ("model.cbm", b"hello", "does not start with CBM1"),
        ("model.joblib", b"hello", "damaged"),
        ("model.skops", b"hello", "not a whole zip"),
        ("model.joblib", b"\x78\x9c" + bytes(20), "zlib data is broken"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason_and_a_hint(tmp_path: Path, name, data, why) -> None:
    with pytest.raises(ProjectError, match=why) as caught:
        detect(written(tmp_path / name, data))
    assert caught.value.hint and str(tmp_path / name) in caught.value.message


def test_a_missing_or_strange_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot be read"):
        detect(tmp_path / "nothing.onnx")
    with pytest.raises(ProjectError, match="no plain file"):
        detect(Path("/dev/null"))
