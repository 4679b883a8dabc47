"""joblib and pickle files: what most scikit-learn models are saved as.

Both are read as `joblib.load` would read them, which is how the runtime loads either.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from lightship.errors import ProjectError
from lightship.models.damage import readable
from lightship.models.decompression import Decompressed, compression_of
from lightship.models.distributions import distribution_of, local_module
from lightship.models.model import Format, Model, Opening, Package, PickleVerdict, dominant
from lightship.models.pickle_machine import ARRAY_WRAPPER, Reading
from lightship.models.pickle_reader import read_pickle
from lightship.models.pickle_values import Dictionary, Global, Instance, Sequence
from lightship.models.pickle_verdict import judge
from lightship.models.stream import Stream

_PROTOCOLS = (2, 3, 4, 5)
_WEIGHTS = ("bool", "float", "int", "uint", "complex")  # beginnings of the dtypes that say something
# The first NumPy in which pickles of NumPy 2 can be read: it has the module `numpy._core`.
_NUMPY_WITH_CORE = "1.26"
ADVICE = "loading a pickle can run code: load only your own; skops and ONNX files cannot"


def _recognises(opening: Opening) -> bool:
    head = opening.head
    if (compression := compression_of(head)) is None:
        return _starts_pickle(head)
    if compression == "lz4":
        return opening.path.name.endswith(FORMAT.suffixes)
    try:
        with opening.path.open("rb", buffering=0) as file:
            return _starts_pickle(Decompressed(file, compression, opening.path).read(16))
    except ProjectError:
        return opening.path.name.endswith(FORMAT.suffixes)


def _starts_pickle(head: bytes) -> bool:
    return len(head) > 2 and head[0] == 0x80 and head[1] in _PROTOCOLS


def _read(path: Path) -> Model:
    with readable(path), path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        file.seek(0)
        compression = compression_of(file.read(16))
        file.seek(0)
        if compression == "lz4":
            return _unread_lz4(path, size)
        stream = Stream(Decompressed(file, compression, path), path) if compression else Stream.of_file(file, path)
        reading = read_pickle(stream, joblib=True)
    is_joblib = compression is not None or ARRAY_WRAPPER in reading.globals or ".joblib" in path.suffixes
    return model_of(reading, path, size, "joblib" if is_joblib else "pickle", compression)


def model_of(reading: Reading, path: Path, size: int, name: str, compression: str | None) -> Model:
    """The model that a pickle's reading tells of."""
    verdict = judge(reading)
    packages, code = needed(reading, path)
    packages.setdefault("joblib", Package("joblib", None, "loads the file"))
    weights = {dtype: size for dtype, size in reading.arrays.items() if dtype.startswith(_WEIGHTS)}
    has_predict = not isinstance(reading.value, Dictionary | Sequence | tuple | str | int | None)
    return Model(
        path=path,
        format=name,
        engine="sklearn" if has_predict else "python",
        size=size,
        dtype=dominant(weights),
        files=(path,),
        packages=tuple(packages[key] for key in sorted(packages)),
        details=tuple(_details(reading, verdict, compression)),
        pickle=verdict,
        notes=tuple(_notes(reading, verdict, code, has_predict)),
        needs_code=not has_predict,
        code=tuple(sorted(code.values())),
    )


def needed(reading: Reading, path: Path) -> tuple[dict[str, Package], dict[str, Path]]:
    """The distributions that a pickle imports, by name, and the project's own modules that it does."""
    packages: dict[str, Package] = {}
    code: dict[str, Path] = {}
    for name in reading.globals:
        distribution = distribution_of(name.module)
        if distribution is None or distribution in packages:
            continue
        if own := local_module(name.module, path.parent):
            code[str(name)] = own
            continue
        packages[distribution] = Package(distribution, None, f"the model imports {name}")
    if "scikit-learn" in packages and (versions := reading.sklearn_versions):
        version = Counter(versions).most_common(1)[0][0]
        packages["scikit-learn"] = Package(
            "scikit-learn", version, f"the model was saved with scikit-learn {version}"
        )
    if any(name.module.startswith("numpy._core") for name in reading.globals):
        reason = "the model was saved with NumPy 2, whose names older ones do not have"
        packages["numpy"] = Package("numpy", None, reason, minimum=_NUMPY_WITH_CORE)
    return packages, code


def _details(reading: Reading, verdict: PickleVerdict, compression: str | None) -> list[tuple[str, str]]:
    details = [("object", describe(reading.value))]
    if (features := _attribute(reading.value, "n_features_in_")) is not None:
        details.append(("features", str(features)))
    classes = _attribute(reading.value, "classes_")
    if isinstance(classes, Instance) and isinstance(classes.arguments, tuple) and len(classes.arguments) == 1:
        details.append(("classes", str(classes.arguments[0])))
    if compression:
        details.append(("compression", compression))
    if verdict.verdict == "safe":
        details.append(("pickle", "imports known-safe names alone"))
    return details


def describe(value: object) -> str:
    """An object for people: `Pipeline of StandardScaler, LogisticRegression`."""
    if isinstance(value, Dictionary):
        keys = ", ".join(repr(key) for key in list(value.items)[:6])
        return f"dict with {keys}" if keys else "dict"
    if isinstance(value, Sequence):
        return "list"
    if isinstance(value, tuple):
        return f"tuple of {len(value)}"
    if isinstance(value, Instance) and isinstance(value.maker, Global):
        parts = [_short(step) for step in _steps(value)]
        if inner := _state(value).get("best_estimator_") or _state(value).get("estimator"):
            parts.append(_short(inner))
        name = _short(value)
        return f"{name} of {', '.join(parts)}" if parts else name
    return "unknown"


def _short(value: object) -> str:
    if isinstance(value, Instance) and isinstance(value.maker, Global):
        return value.maker.name
    return value if isinstance(value, str) else "?"


def _state(value: object) -> dict[str, object]:
    return value.state.items if isinstance(value, Instance) and value.state else {}


def _steps(value: object) -> list[object]:
    steps = _state(value).get("steps")
    if not isinstance(steps, Sequence):
        return []
    return [step[1] for step in steps.items[:8] if isinstance(step, tuple) and len(step) == 2]


def _attribute(value: object, name: str) -> object:
    """An attribute of an estimator; a pipeline has it from its first or last step."""
    if (own := _state(value).get(name)) is not None:
        return own
    steps = _steps(value)
    ends = [steps[0], steps[-1]] if steps else []
    return next((found for end in ends if (found := _state(end).get(name)) is not None), None)


def _notes(reading: Reading, verdict: PickleVerdict, code: dict[str, Path], has_predict: bool) -> list[str]:
    notes = []
    if verdict.verdict == "dangerous":
        notes.append(f"DANGEROUS: loading this file would use {listed(verdict.dangerous)}")
    elif verdict.incomplete:
        notes.append(f"the pickle could not be read to its end: {verdict.incomplete}")
    if verdict.unknown:
        notes.append(f"the pickle uses names that are not known to be safe: {listed(verdict.unknown)}")
    main = sorted({name.name for name in reading.globals if name.module == "__main__"})
    if main:
        notes.append(
            f"{listed(tuple(main))} was defined in the script that saved the model (__main__), so a server cannot "
            "load it: move it into a module of its own, import it from there and save the model again"
        )
    for name, file in sorted(code.items()):
        notes.append(f"the model imports {name} from your {file.name}, which must be in the image")
    versions = sorted(reading.sklearn_versions)
    if len(versions) > 1:
        notes.append(f"its parts were saved with different versions of scikit-learn: {', '.join(versions)}")
    if not has_predict:
        notes.append(
            f"it holds a {describe(reading.value)}, not an object with predict(): write a Python file with load() "
            "and predict(), or save the estimator alone"
        )
    elif _short(reading.value) == "Booster":
        notes.append(
            "it is a bare Booster, which takes its library's own matrices: save it with save_model() instead"
        )
    if verdict.verdict != "safe":
        notes.append(ADVICE)
    return notes


def listed(names: tuple[str, ...], most: int = 5) -> str:
    """Names for a sentence, the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _unread_lz4(path: Path, size: int) -> Model:
    why = "it is compressed with LZ4, which Python cannot read by itself"
    return Model(
        path=path,
        format="joblib",
        engine="sklearn",
        size=size,
        dtype=None,
        files=(path,),
        packages=(Package("joblib", None, "loads the file"), Package("lz4", None, "the file is compressed with LZ4")),
        details=(("object", "unknown"), ("compression", "lz4")),
        pickle=PickleVerdict("unknown", incomplete=why),
        notes=(f"the pickle could not be read: {why}; save it with compress=('zlib', 3) to have it checked", ADVICE),
    )


FORMAT = Format(
    "joblib or pickle", (".joblib", ".pkl", ".pickle", ".sav", ".pkl.gz", ".joblib.gz"), _recognises, _read
)
