"""Small models in the formats of libraries that are not installed here, written byte by byte.

The bytes follow what the libraries themselves write (XGBoost 1.7 and 2.1, CatBoost 1.2, PyTorch 2, llama.cpp's gguf).
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

# XGBoost


def xgboost_document() -> dict[str, Any]:
    """A model of one tree, in the order of keys in which XGBoost writes them."""
    tree = {
        "base_weights": [0.1, -0.2, 0.3],
        "left_children": [1, -1, -1],
        "right_children": [2, -1, -1],
        "tree_param": {"num_deleted": "0", "num_feature": "4", "num_nodes": "3", "size_leaf_vector": "1"},
    }
    booster = {
        "model": {"gbtree_model_param": {"num_trees": "1"}, "tree_info": [0], "trees": [tree]},
        "name": "gbtree",
    }
    parameters = {"base_score": "5E-1", "boost_from_average": "1", "num_class": "0", "num_feature": "4"}
    learner = {
        "attributes": {},
        "feature_names": ["a", "b", "c", "d"],
        "feature_types": ["float"] * 4,
        "gradient_booster": booster,
        "learner_model_param": parameters,
        "objective": {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}},
    }
    return {"learner": learner, "version": [2, 1, 4]}


def xgboost_json() -> bytes:
    return json.dumps(xgboost_document(), separators=(",", ":")).encode()


def ubjson(value: Any) -> bytes:
    """Universal binary JSON as XGBoost writes it: 64-bit lengths, typed arrays of numbers, objects without counts."""
    if isinstance(value, dict):
        return b"{" + b"".join(_ubj_text(key) + ubjson(item) for key, item in value.items()) + b"}"
    if isinstance(value, str):
        return b"S" + _ubj_text(value)
    if isinstance(value, int):
        return b"i" + struct.pack(">b", value)
    if isinstance(value, list) and value and isinstance(value[0], float):
        return b"[$d#L" + struct.pack(f">q{len(value)}f", len(value), *value)
    if isinstance(value, list):
        return b"[#L" + struct.pack(">q", len(value)) + b"".join(map(ubjson, value))
    raise TypeError(value)


def _ubj_text(text: str) -> bytes:
    return b"L" + struct.pack(">q", len(text)) + text.encode()


def xgboost_binary(major: int = 1, minor: int = 7) -> bytes:
    """The format of before 3.1: parameters in 136 bytes, then two texts, then the trees."""
    parameters = struct.pack("<fIiiiII108x", 0.5, 4, 0, 1, 0, major, minor)
    texts = b"".join(struct.pack("<Q", len(text)) + text for text in (b"binary:logistic", b"gbtree"))
    return b"binf" + parameters + texts + bytes(160)


# CatBoost


def catboost(version: str = "1.2.10") -> bytes:
    notes = b'{"loss_function":{"type":"Logloss","params":{}}}\0params\0'
    notes += f"Git info:\n    Branch: tags/v{version}\n".encode() + b"\0catboost_version_info\0"
    core = struct.pack("<I", 20) + bytes(16) + b"FlabuffersModel_v1\0" + notes
    return b"CBM1" + struct.pack("<I", len(core)) + core + bytes(64)


# GGUF


def gguf(
    metadata: dict[str, Any] | None = None, tensors: int = 2, *, version: int = 3, order: str = "<", data: bool = True
) -> bytes:
    """A model of `tensors` matrices of 8 × 4 float32 numbers."""
    chosen = metadata if metadata is not None else GGUF_METADATA
    head = b"GGUF" + struct.pack(order + "IQQ", version, tensors, len(chosen))
    for key, value in chosen.items():
        head += _gguf_text(key, order) + _gguf_value(value, order)
    for number in range(tensors):
        head += _gguf_text(f"blk.{number}.weight", order) + struct.pack(order + "IQQIQ", 2, 8, 4, 0, 128 * number)
    padding = bytes(-len(head) % 32)
    return head + (padding + bytes(128 * tensors) if data else b"")


GGUF_METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "general.file_type": 15,
    "llama.context_length": 2048,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.scores": [0.0, 1.0, 2.0],
    "tokenizer.chat_template": "{{ messages }}" * 100,
}


def _gguf_text(text: str, order: str) -> bytes:
    return struct.pack(order + "Q", len(text)) + text.encode()


def _gguf_value(value: Any, order: str) -> bytes:
    if isinstance(value, str):
        return struct.pack(order + "I", 8) + _gguf_text(value, order)
    if isinstance(value, int):
        return struct.pack(order + "II", 4, value)
    if isinstance(value, list) and isinstance(value[0], str):
        head = struct.pack(order + "IIQ", 9, 8, len(value))
        return head + b"".join(_gguf_text(text, order) for text in value)
    return struct.pack(order + f"IIQ{len(value)}f", 9, 6, len(value), *value)


# PyTorch


def torch_pickle(storage: str = "FloatStorage", extra: bytes = b"") -> bytes:
    """`torch.save({"weight": tensor of 3 × 4})`'s data.pkl, in protocol 2."""
    return (
        b"\x80\x02}q\x00(X\x06\x00\x00\x00weightq\x01"
        b"ctorch._utils\n_rebuild_tensor_v2\nq\x02"
        b"((X\x07\x00\x00\x00storageq\x03ctorch\n" + storage.encode() + b"\nq\x04X\x01\x00\x00\x000q\x05"
        b"X\x03\x00\x00\x00cpuq\x06K\x0ctq\x07QK\x00K\x03K\x04\x86q\x08K\x04K\x01\x86q\x09\x89"
        b"ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0d" + extra + b"u."
    )


def torch_zip(path: Path, members: dict[str, bytes], top: str = "archive") -> Path:
    """A zip as PyTorch writes it: nothing compressed, everything below one folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"{top}/{name}" if top else name, data)
    return path


def torch_state(path: Path, pickle: bytes | None = None) -> Path:
    pickle = torch_pickle() if pickle is None else pickle
    return torch_zip(path, {"data.pkl": pickle, "byteorder": b"little", "data/0": bytes(48), "version": b"3\n"})


def torch_legacy() -> bytes:
    """What torch.save wrote before version 1.6: four pickles, the storages' names, and the storages."""
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    protocol = b"\x80\x02M\xe9\x03."
    system = b"\x80\x02}q\x00(X\x0d\x00\x00\x00little_endianq\x01\x88u."
    return magic + protocol + system + torch_pickle() + b"\x80\x02]q\x00X\x01\x00\x00\x000q\x01a." + bytes(56)


def torchscript(path: Path) -> Path:
    state = (
        b"\x80\x02c__torch__.net.___torch_mangle_3\nNet\nq\x00)\x81}(X\x06\x00\x00\x00weightq\x01"
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nHalfStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x0ctQK\x00K\x03K\x04\x86K\x04K\x01\x86\x89ccollections\nOrderedDict\n)RtRubq\x02."
    )
    code = b"class Net(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    return x\n"
    return torch_zip(
        path, {"data/0": bytes(24), "data.pkl": state, "code/__torch__/net.py": code, "constants.pkl": b"\x80\x02)."}
    )


def exported_program(path: Path) -> Path:
    return torch_zip(
        path,
        {"archive_format": b"pt2", "models/model.json": b'{"graph_module": {}}', "data/weights/weight_0": bytes(16)},
    )
