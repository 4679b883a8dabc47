"""Pickles that would run something: judged by name, never run, and never able to hide an import."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler

from lightship.errors import ProjectError
from lightship.models import PickleVerdict, detect
from lightship.models.pickle_reader import read_pickle
from lightship.models.pickle_values import Global
from lightship.models.pickle_verdict import judge
from lightship.models.stream import Stream


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def imported(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def verdict_of(tmp_path: Path, data: bytes, name: str = "model.pkl") -> PickleVerdict:
    path = tmp_path / name
    path.write_bytes(data)
    verdict = detect(path).pickle
    assert verdict is not None
    return verdict


def test_a_pickle_that_calls_a_program_is_dangerous_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"

    class Bomb:
        def __reduce__(self):
            import os

            return os.system, (f"touch {marker}",)

    verdict = verdict_of(tmp_path, pickle.dumps(Bomb()))
    assert verdict.verdict == "dangerous"
    assert verdict.dangerous == ("posix.system",)
    model = detect(tmp_path / "model.pkl")
    assert model.notes[0].startswith("DANGEROUS") and "posix.system" in model.notes[0]
    assert not marker.exists()


DANGEROUS = {
    "stack global": b"\x80\x04" + imported("os", "system") + text("id") + b"\x85R.",
    "global line": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.",
    "protocol 0": b"cos\nsystem\n(S'id'\ntR.",
    "inst": b"(S'id'\nios\nsystem\n.",
    "obj": b"\x80\x02(cos\nsystem\nX\x02\x00\x00\x00ido.",
    "old name of builtins": b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
    "old name of subprocess": b"\x80\x02ccommands\ngetoutput\nX\x02\x00\x00\x00id\x85R.",
    "walk through attributes": b"\x80\x04" + imported("sklearn.base", "os.system") + text("id") + b"\x85R.",
    "walk with dunders": b"\x80\x04" + imported("numpy", "ndarray.__init__.__globals__") + b".",
    "names from the memo": b"\x80\x04" + text("os") + b"\x940" + text("system") + b"\x940h\x00h\x01\x93.",
    "names from put": b"\x80\x04" + text("system") + b"r\x07\x00\x00\x000" + text("os") + b"j\x07\x00\x00\x00\x93.",
    "escaped name": b"\x80\x04S'o\\x73'\nS'system'\n\x93.",
    "unicode name": b"\x80\x04V\\u006fs\nVsystem\n\x93.",
    "duplicated name": b"\x80\x04" + text("posix") + text("system") + b"20\x93.",
    "another pickle inside": b"\x80\x04" + imported("pickle", "loads") + b"C\x01.\x85R.",
    "attribute by text": b"\x80\x04" + imported("builtins", "getattr") + b".",
    "code by value": b"\x80\x04" + imported("cloudpickle.cloudpickle", "_make_function") + b".",
    "memory": b"\x80\x04" + imported("ctypes", "CDLL") + b".",
    "import": b"\x80\x04" + imported("importlib", "import_module") + b".",
    "torch": b"\x80\x04" + imported("torch.utils.collect_env", "run") + b".",
    "mlflow": b"\x80\x04" + imported("mlflow.projects.backend.local", "_run_entry_point") + b".",
    "pandas": b"\x80\x04" + imported("pandas.io.parsers.readers", "read_csv") + b".",
    "numpy": b"\x80\x04" + imported("numpy.testing._private.utils", "runstring") + b".",
    "multiprocessing": b"\x80\x04" + imported("multiprocessing.util", "spawnv_passfds") + b".",
    "joblib": b"\x80\x04" + imported("joblib", "load") + b".",
}


@pytest.mark.parametrize("data", DANGEROUS.values(), ids=DANGEROUS)
def test_dangerous_names_are_found_however_they_are_written(tmp_path: Path, data: bytes) -> None:
    assert verdict_of(tmp_path, data).verdict == "dangerous"


UNKNOWN = {
    "unknown package": (
        b"\x80\x04" + imported("some_private_pkg.loader", "boot") + b".",
        "some_private_pkg.loader.boot",
    ),
    "computed name": (b"\x80\x04" + text("os") + b"]\x93.", "(a name that is computed)"),
    "very long name": (
        b"\x80\x04X" + struct.pack("<I", 300) + b"a" * 300 + text("b") + b"\x93.",
        "(a name that is computed)",
    ),
    "extension registry": (b"\x80\x04\x82\x05.", "copyreg.extension 5"),
    "function of a safe package": (b"\x80\x04" + imported("sklearn.datasets._base", "load_files") + b".", None),
    "test code of a safe package": (b"\x80\x04" + imported("sklearn.svm.tests.test_svm", "Boom") + b".", None),
    "class of another package in a safe one": (b"\x80\x04" + imported("sklearn.pipeline", "Memory") + b".", None),
    "call of what it made": (
        b"\x80\x04" + imported("builtins", "object") + b")R)R.",
        "(it calls or changes what it has made itself)",
    ),
    "change of what it imported": (
        b"\x80\x04" + imported("sklearn.svm._classes", "SVC") + b"}" + text("fit") + b"Nsb.",
        "(it calls or changes what it has made itself)",
    ),
    "strange letters": (b"\x80\x04" + text("a\n\x1b[31m") + text("b") + b"\x93.", "'a\\n\\x1b[31m.b'"),
    "buffers elsewhere": (b"\x80\x05\x97.", None),
}


@pytest.mark.parametrize(("data", "name"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_listed_and_not_called_safe(tmp_path: Path, data: bytes, name: str | None) -> None:
    verdict = verdict_of(tmp_path, data)
    assert verdict.verdict == "unknown"
    assert name is None or verdict.unknown == (name,)


SAFE = {
    "dtype": pickle.dumps(np.dtype("f8")),
    "array": pickle.dumps(np.arange(3)),
    "random state": pickle.dumps(np.random.RandomState(0)),
    "generator": pickle.dumps(np.random.default_rng(0)),
    "plain": pickle.dumps({"a": [1, 2.5, None, True, "x", b"y", (1,), {2}, frozenset([3]), 10**50, bytearray(b"z")]}),
    "plain 0": pickle.dumps({"a": [1, 2.5, None, True, "x", b"y", (1,), {2}, frozenset([3]), 10**50]}, 0),
}


@pytest.mark.parametrize("data", SAFE.values(), ids=SAFE)
def test_harmless_pickles_are_not_suspected(tmp_path: Path, data: bytes) -> None:
    assert verdict_of(tmp_path, data) == PickleVerdict("safe")


def test_an_import_inside_an_array_of_objects_is_found(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return eval, ("1",)

    joblib.dump([np.array([Bomb()], dtype=object)], tmp_path / "model.joblib")
    model = detect(tmp_path / "model.joblib")
    assert model.pickle is not None and model.pickle.dangerous == ("builtins.eval",)


def wrapper(shape: bytes, dtype: bytes = b"\x8c\x02f8", extra: bytes = b"") -> bytes:
    """The instructions that joblib writes before an array's data; protocol 4 without frames."""
    made = imported("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81"
    made_dtype = imported("numpy", "dtype") + dtype + b"\x89\x88\x87R"
    return made + b"}(" + text("shape") + shape + text("dtype") + made_dtype + extra + b"ub"


@pytest.mark.parametrize(
    "shape",
    [
        b"J\xff\xff\xff\xff\x85",  # negative
        b"\x8a\x09" + bytes(8) + b"\x01\x85",  # 2^64: wraps to nothing in 64 bits
        b"\x8a\x05\x00\x00\x00\x00\x01\x8a\x05\x00\x00\x00\x00\x01\x86",  # 2^32 × 2^32
        b"]",  # no tuple
        b"\x88\x85",  # a bool
        imported("builtins", "int") + b"K\x01\x85R\x85",  # computed
    ],
)
def test_array_data_of_uncertain_size_ends_the_reading(tmp_path: Path, shape: bytes) -> None:
    verdict = verdict_of(tmp_path, b"\x80\x04" + wrapper(shape) + b"cos\nsystem\n.")
    assert verdict.verdict != "safe"
    assert verdict.incomplete is not None and "size of the array data" in verdict.incomplete


@pytest.mark.parametrize("dtype", [b"\x8c\x03<f8", b"\x8c\x05f4,f8", b"\x8c\x01d", b"N", b"\x8c\x03T16"])
def test_array_data_of_an_unusual_type_ends_the_reading(tmp_path: Path, dtype: bytes) -> None:
    verdict = verdict_of(tmp_path, b"\x80\x04" + wrapper(b"K\x01\x85", dtype) + bytes(8) + b".")
    assert verdict.verdict == "unknown" and verdict.incomplete


def test_a_shape_that_is_changed_after_the_fact_does_not_move_the_reader(tmp_path: Path) -> None:
    """The state's dict is kept, changed and put in again empty: joblib still uses what it copied first."""
    state = b"}\x94(" + text("shape") + b"K\x00\x85" + text("dtype")
    state += imported("numpy", "dtype") + b"\x8c\x02f8\x89\x88\x87Ru"
    first = imported("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81\x94" + state + b"b0"
    changed = b"h\x01" + text("shape") + b"K\x0b\x85s0"  # now eleven numbers, 88 bytes
    hidden = imported("os", "system") + b"0"
    data = b"\x80\x04" + first + changed + b"h\x00}b0" + hidden + b"N" * 80 + b"."
    assert verdict_of(tmp_path, data).verdict == "dangerous"


OBJECT = imported("numpy", "dtype") + b"\x8c\x02O8\x89\x88\x87R"


@pytest.mark.parametrize(
    "state",
    [
        b"(K\x03\x8c\x01|NNNK\x07K\x01K\x00t",  # an item size that is not the type's
        b"(K\x03\x8c\x01|N" + text("x") + b"\x85}" + text("x") + OBJECT + b"K\x00\x86sK\x08K\x01K\x00t",  # objects
        b"(K\x03\x8c\x01|N" + text("x") + b"\x85}" + text("x") + OBJECT + b"K\x05\x86sK\x08K\x01K\x3ft",  # beyond
        b"(K\x03\x8c\x01|N" + text("y") + b"\x85}" + text("x") + OBJECT + b"K\x00\x86sK\x08K\x01K\x3ft",  # names
    ],
)
def test_a_type_that_would_make_numpy_read_foreign_memory_is_not_safe(tmp_path: Path, state: bytes) -> None:
    dtype = imported("numpy", "dtype") + b"\x8c\x02V8\x89\x88\x87R" + state + b"b"
    verdict = verdict_of(tmp_path, b"\x80\x04" + dtype + b".")
    assert verdict.verdict == "unknown" and "numpy.dtype" in verdict.unknown[0]


def test_a_type_of_types_of_types_is_judged_in_no_time(tmp_path: Path) -> None:
    """Fields that share one type, which shares one type, and so on: worked out naively, 200^12 steps."""
    names = [f"f{number}" for number in range(200)]
    fields = b"".join(text(name) + b"h\x00K\x00\x86" for name in names)
    state = b"(K\x03\x8c\x01|N(" + b"".join(map(text, names)) + b"t}(" + fields + b"uK\x08K\x01K\x00t"
    inner = imported("numpy", "dtype") + b"\x8c\x02f8\x89\x88\x87Rq\x000"
    outer = imported("numpy", "dtype") + b"\x8c\x02V8\x89\x88\x87R" + state + b"bq\x000"
    assert verdict_of(tmp_path, b"\x80\x04" + inner + outer * 12 + b"h\x00.").verdict == "safe"


def test_array_data_inside_a_frame_is_refused(tmp_path: Path) -> None:
    """joblib would read the data from behind the frame, and then the frame's rest as instructions."""
    inside = wrapper(b"K\x01\x85") + b"cos\nsystem\n."
    path = tmp_path / "model.joblib"
    path.write_bytes(b"\x80\x04\x95" + struct.pack("<Q", len(inside)) + inside + bytes(8))
    with pytest.raises(ProjectError, match="inside a frame"):
        detect(path)


def test_a_foreign_wrapper_ends_the_reading(tmp_path: Path) -> None:
    data = b"\x80\x04" + imported("sklearn.externals.joblib.numpy_pickle", "NDArrayWrapper") + b")\x81}b."
    verdict = verdict_of(tmp_path, data)
    assert verdict.verdict == "unknown" and "very old joblib" in (verdict.incomplete or "")


BROKEN = {
    "no end": b"\x80\x04N",
    "nothing on the stack": b"\x80\x04\x85.",
    "no mark": b"\x80\x04t.",
    "unknown instruction": b"\x80\x04\xff.",
    "text of 2^63 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 63) + b"a.",
    "data of 2^63 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 63) + b"a.",
    "frame of 2^63 bytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"N.",
    "negative number": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "memo that is not there": b"\x80\x04h\x07.",
    "odd dictionary": b"\x80\x04}(Nu.",
    "protocol 9": b"\x80\x09N.",
    "array cut off": b"\x80\x04" + wrapper(b"J\x00\x00\x00\x7f\x85") + b".",
    "text without quotes": b"\x80\x02Sabc\n.",
    "no number": b"\x80\x02Iabc\n.",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_pickles_are_refused_with_the_reason(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    with pytest.raises(ProjectError, match=r"model\.pkl is"):
        detect(path)


GREEDY = {
    "a deep stack": b"\x80\x04" + b"N" * 600_000 + b".",
    "many marks": b"\x80\x04" + b"(" * 2_000_000 + b"N.",
    "tuples in tuples": b"\x80\x04)" + b"\x85" * 3_000_000 + b".",
    "lists in lists": b"\x80\x04](" + b"]" * 400_000 + b"e.",
    "memo without order": b"\x80\x04N" + b"".join(b"r" + struct.pack("<I", i * 7 + 9) for i in range(510_000)) + b".",
    "many names": b"\x80\x04" + b"".join(b"ca\n%d\n0" % i for i in range(20_000)) + b"N.",
}


def test_pickles_that_want_much_memory_get_little(tmp_path: Path) -> None:
    """Measured in a process of its own, as tracing millions of values would take longer than all other tests."""
    for name, data in GREEDY.items():
        (tmp_path / f"{name}.pkl").write_bytes(data)
    program = (
        "import resource, sys, pathlib, lightship.models as models, lightship.errors\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try:\n"
        "        verdict = models.detect(path).pickle\n"
        "        assert verdict.verdict != 'safe' or 'tuples' in path.name or 'lists' in path.name, path\n"
        "    except lightship.errors.ProjectError:\n"
        "        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 << 10  # KiB


# What the verdict has not seen, joblib must not import.


class _Stub:
    """Stands for every class and function: takes any call, any state and any item."""

    def __new__(cls, *arguments: object, **named: object) -> _Stub:
        return super().__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None: ...
    def __setstate__(self, state: object) -> None: ...
    def __setitem__(self, key: object, value: object) -> None: ...
    def append(self, value: object) -> None: ...
    def extend(self, values: object) -> None: ...
    def add(self, value: object) -> None: ...


class _Recorder(NumpyUnpickler):
    """joblib's own reader, which notes what it would import and imports nothing but arrays."""

    def __init__(self, data: bytes) -> None:
        super().__init__("", io.BytesIO(data), ensure_native_byte_order=False)
        self.names: list[Global] = []

    def find_class(self, module: str, name: str) -> object:
        self.names.append(Global(module, name))
        known = {("numpy", "dtype"): np.dtype, ("numpy", "ndarray"): np.ndarray}
        known["joblib.numpy_pickle", "NumpyArrayWrapper"] = NumpyArrayWrapper
        return known.get((module, name), _Stub)


def _sample(protocol: int) -> bytes:
    buffer = io.BytesIO()
    table = np.zeros(2, dtype=[("x", "f4"), ("y", "i8")])
    value = {"a": np.arange(5), "t": table, "s": np.array(["a", "bc"]), "n": [1, "x"], "v": "_sklearn_version"}
    joblib.dump(value, buffer, protocol=protocol)
    return buffer.getvalue()


SAMPLES = [_sample(protocol) for protocol in (2, 4, 5)]


def _assert_nothing_is_hidden(data: bytes) -> None:
    """joblib reads only what was judged safe: other data may well crash NumPy, which is why it is judged."""
    try:
        reading = read_pickle(Stream(io.BytesIO(data), Path("model.joblib"), size=len(data)), joblib=True)
    except ProjectError:
        return
    if judge(reading).verdict != "safe":
        return
    recorder = _Recorder(data)
    with contextlib.suppress(Exception):
        recorder.load()
    assert set(recorder.names) <= set(reading.globals)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_joblib_would_import_from_a_mutated_file_the_verdict_has_seen(data) -> None:
    mutated = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                mutated[position] = data.draw(st.integers(0, 255))
            case 1:
                del mutated[position : position + data.draw(st.integers(1, 8))]
            case _:
                mutated[position:position] = data.draw(st.sampled_from(_PIECES))
        if not mutated:
            return
    _assert_nothing_is_hidden(bytes(mutated))


_PIECES = [
    b"cos\nsystem\n0",
    imported("os", "system") + b"0",
    b"N0",
    b"h\x00",
    b"h\x01",
    b"b",
    b"}b",
    b"\x94",
    b"(",
    b"K\x01",
    b"\x95" + struct.pack("<Q", 20),
    text("shape") + b"K\x01\x85s",
    wrapper(b"K\x01\x85") + bytes(8),
]


@settings(max_examples=400, deadline=None)
@given(
    pieces=st.lists(st.sampled_from([*_PIECES, b".", b"]", b"}", b"R", b"0", b"2", b"\x85", b"1", b"u", b"s", b"N"]))
)
@example(pieces=[wrapper(b"K\x00\x85"), imported("os", "system")])
def test_whatever_joblib_would_import_from_composed_instructions_the_verdict_has_seen(pieces) -> None:
    _assert_nothing_is_hidden(b"\x80\x04" + b"".join(pieces) + b".")
