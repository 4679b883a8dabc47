"""Random and damaged files: refused with a ProjectError or read, never anything else, never without bounds."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
import zlib
from pathlib import Path

import joblib
import model_bytes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from lightship.errors import ProjectError
from lightship.models import detect

SUFFIXES = [
    ".joblib", ".pkl", ".skops", ".onnx", ".safetensors", ".gguf", ".pt", ".pt2", ".ubj", ".json", ".model", ".txt",
    ".cbm", ".keras", ".py", ".bin", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def dumped(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer, **options)
    return buffer.getvalue()


class Files(dict[str, bytes]):
    """Files by name, without their bytes in every report."""

    def __repr__(self) -> str:
        return f"Files({', '.join(self)})"


@pytest.fixture(scope="module")
def real(place: Path, pipeline, linear_onnx: bytes) -> Files:
    """One small good file of every format, by suffix."""
    import skops.io

    made = Files(
        {
            "a.joblib": dumped(pipeline),
            "b.joblib": dumped(pipeline, compress=("zlib", 3)),
            "c.joblib": dumped(pipeline, compress=("xz", 1)),
            "d.joblib": dumped(pipeline, compress=("bz2", 1)),
            "a.skops": skops.io.dumps(pipeline),
            "a.onnx": linear_onnx,
            "a.safetensors": save({"a": np.zeros((2, 3), np.float32)}, {"format": "np"}),
            "a.gguf": model_bytes.gguf(),
            "a.pt": model_bytes.torch_state(place / "a.pt").read_bytes(),
            "b.pt": model_bytes.torchscript(place / "b.pt").read_bytes(),
            "c.pt": model_bytes.torch_legacy(),
            "a.pt2": model_bytes.exported_program(place / "a.pt2").read_bytes(),
            "a.ubj": model_bytes.ubjson(model_bytes.xgboost_document()),
            "a.json": model_bytes.xgboost_json(),
            "a.model": model_bytes.xgboost_binary(),
            "a.txt": b"tree\nversion=v4\nnum_class=1\nfeature_names=a b\n\nTree=0\nx=1\n\nend of trees\n",
            "a.cbm": model_bytes.catboost(),
            "a.py": b"def load(): ...\nasync def predict(model, inputs):\n    yield {'a': [1, 'b.bin']}\n",
        }
    )
    for name, data in made.items():
        detect_bytes(place / name, data)  # all of them are good
    return made


def detect_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    detect(path)


fuzzing = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@fuzzing
@given(data=st.binary(max_size=400), suffix=st.sampled_from(SUFFIXES))
def test_random_bytes_are_refused_or_read(place: Path, data: bytes, suffix: str) -> None:
    with contextlib.suppress(ProjectError):
        detect_bytes(place / f"random{suffix}", data)


MAGICS = [
    b"\x80\x04", b"\x80\x02", b"\x78\x9c", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"\x5d\x00\x00", b"PK\x03\x04",
    b"GGUF\x03\x00\x00\x00", b"CBM1", b"binf", b"\x08\x08", b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{",
    b'{"learner":', b"tree\nversion=v4\n", b"\x10\x00\x00\x00\x00\x00\x00\x00{", b"(", b"c",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
]  # fmt: skip


@fuzzing
@given(magic=st.sampled_from(MAGICS), data=st.binary(max_size=400), suffix=st.sampled_from(SUFFIXES))
def test_random_bytes_behind_a_good_start_are_refused_or_read(place: Path, magic, data: bytes, suffix: str) -> None:
    with contextlib.suppress(ProjectError):
        detect_bytes(place / f"started{suffix}", magic + data)


@fuzzing
@given(data=st.data())
def test_damaged_files_are_refused_or_read_within_bounds(place: Path, real: Files, data) -> None:
    name = data.draw(st.sampled_from(sorted(real)))
    damaged = bytearray(real[name])
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        match data.draw(st.integers(0, 3)):
            case 0:
                damaged[position : position + 1] = bytes([data.draw(st.integers(0, 255))])
            case 1:
                del damaged[position:]
            case 2:
                damaged[position : position + 8] = b"\xff" * 7 + b"\x7f"
            case _:
                damaged[position:position] = data.draw(st.binary(max_size=20))
    tracemalloc.start()
    try:
        with contextlib.suppress(ProjectError):
            detect_bytes(place / f"damaged-{name}", bytes(damaged))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


@fuzzing
@given(data=st.binary(max_size=300))
def test_compressed_random_bytes_are_refused_or_read(place: Path, data: bytes) -> None:
    with contextlib.suppress(ProjectError):
        detect_bytes(place / "compressed.joblib", zlib.compress(b"\x80\x04" + data))


def test_every_truncation_of_every_format_is_refused_or_read(place: Path, real: Files) -> None:
    for name, whole in real.items():
        step = max(1, len(whole) // 150)
        for size in range(0, len(whole), step):
            with contextlib.suppress(ProjectError):
                detect_bytes(place / f"cut-{name}", whole[:size])
