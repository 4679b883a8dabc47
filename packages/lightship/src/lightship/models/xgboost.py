"""XGBoost's own files: JSON, universal binary JSON, and the binary format of older versions."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import msgspec

from lightship.models.damage import damaged, readable
from lightship.models.documents import MAX_DOCUMENT, read_document
from lightship.models.model import Format, Model, Opening, Package
from lightship.models.stream import U64, Stream
from lightship.models.ubjson import walk

_JSON_START = re.compile(rb'\s*\{\s*"(learner|version|Config)"\s*:')
_UBJ_START = re.compile(rb"\{[iUIlL].{0,8}learner\{", re.DOTALL)
_MAGIC = b"binf"
# LearnerModelParamLegacy: base score, features, classes, attributes?, metrics?, major, minor, and reserved words.
_LEGACY = struct.Struct("<fIiiiII108x")
_TAIL = 1 << 20  # bytes at the end of a large JSON file, where the learner's parameters lie


class _Objective(msgspec.Struct):
    name: str = ""


class _Booster(msgspec.Struct):
    name: str = ""


class _Learner(msgspec.Struct):
    learner_model_param: dict[str, str]
    gradient_booster: _Booster = msgspec.field(default_factory=_Booster)
    objective: _Objective = msgspec.field(default_factory=_Objective)


class _Document(msgspec.Struct):
    learner: _Learner
    version: list[int] = msgspec.field(default_factory=list)


def _recognises(opening: Opening) -> bool:
    head = opening.head
    if _UBJ_START.match(head) or (head.startswith(_MAGIC) and len(head) > len(_MAGIC) + _LEGACY.size):
        return True
    if not _JSON_START.match(head):
        return False
    return head.lstrip()[1:].lstrip().startswith(b'"learner"') or b'"learner"' in _tail(opening.path) + head


def _read(path: Path) -> Model:
    with readable(path), path.open("rb", buffering=0) as file:
        head = file.read(256)
        if head.startswith(_MAGIC):
            file.seek(len(_MAGIC))
            return _binary(path, Stream.of_file(file, path))
        if head[:1] == b"{" and head[1:2] in (b"i", b"U", b"I", b"l", b"L"):
            file.seek(0)
            return _universal(path, Stream.of_file(file, path))
        size = file.seek(0, 2)
    return _json(path) if size <= MAX_DOCUMENT else _large_json(path)


def _json(path: Path) -> Model:
    document = read_document(path, _Document)
    learner = document.learner
    version = ".".join(map(str, document.version))
    return _model(
        path,
        "xgboost-json",
        version,
        learner.objective.name,
        learner.gradient_booster.name,
        learner.learner_model_param,
    )


def _large_json(path: Path) -> Model:
    """XGBoost writes keys in order, so what is of interest follows the trees: the last bytes tell it."""
    tail = _tail(path)
    if not tail.rstrip().endswith(b"}"):
        raise damaged(path, "it ends in the middle of its JSON")
    version = re.search(rb'"version"\s*:\s*\[([\d,\s]+)\]\s*\}\s*$', tail)
    objective = re.search(rb'"objective"\s*:\s*\{\s*"name"\s*:\s*"([\w:.-]{1,100})"', tail)
    parameters = dict(re.findall(rb'"(num_class|num_feature|num_target)"\s*:\s*"(\d{1,12})"', tail)[-3:])
    return _model(
        path,
        "xgboost-json",
        re.sub(r"\s*,\s*", ".", version[1].decode().strip()) if version else "",
        objective[1].decode() if objective else "",
        "",
        {key.decode(): value.decode() for key, value in parameters.items()},
    )


def _universal(path: Path, stream: Stream) -> Model:
    version: list[str] = []
    told: dict[str, str] = {}
    parameters: dict[str, str] = {}

    def tell(where: tuple[str, ...], value: object) -> None:
        match where:
            case ("version", _) if len(version) < 3:
                version.append(str(value))
            case ("learner", "objective" | "gradient_booster" as part, "name"):
                told[part] = str(value)
            case ("learner", "learner_model_param", key) if len(parameters) < 50:
                parameters[key] = str(value)

    walk(stream, tell)
    if not parameters:
        raise damaged(path, "it is universal binary JSON, but has no learner")
    return _model(
        path,
        "xgboost-ubj",
        ".".join(version),
        told.get("objective", ""),
        told.get("gradient_booster", ""),
        parameters,
    )


def _binary(path: Path, stream: Stream) -> Model:
    _, features, classes, _, _, major, minor = _LEGACY.unpack(stream.read(_LEGACY.size))
    names = []
    for _ in range(2):
        size = stream.number(U64)
        if not 0 < size <= 100:
            raise damaged(path, "it starts like a binary XGBoost model, but does not go on like one")
        names.append(stream.read(size).decode("ascii", "replace"))
    parameters = {"num_feature": str(features), "num_class": str(classes)}
    return _model(path, "xgboost-binary", f"{major}.{minor}" if major else "", names[0], names[1], parameters)


def _model(path: Path, name: str, version: str, objective: str, booster: str, parameters: dict[str, str]) -> Model:
    known = re.fullmatch(r"\d{1,4}\.\d{1,4}(\.\d{1,4})?", version)
    reason = f"the model was saved with XGBoost {version}" if known else "runs XGBoost models"
    facts = [
        ("objective", objective),
        ("booster", booster),
        ("features", parameters.get("num_feature")),
        ("classes", parameters.get("num_class")),
        ("saved with", f"XGBoost {version}" if known else None),
    ]
    notes: tuple[str, ...] = ()
    if name == "xgboost-binary":
        notes = (
            "XGBoost 3.1 and newer cannot read this format: load it with the version that saved it, and save .ubj",
        )
    return Model(
        path=path,
        format=name,
        engine="xgboost",
        size=path.stat().st_size,
        dtype="float32",
        files=(path,),
        packages=(Package("xgboost", version if known else None, reason),),
        details=tuple((key, value) for key, value in facts if value and value != "0"),
        notes=notes,
    )


def _tail(path: Path) -> bytes:
    with readable(path), path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        return file.read(_TAIL)


FORMAT = Format("XGBoost", (".ubj", ".xgb"), _recognises, _read)
LOOSE = Format("XGBoost", (".json", ".model", ".deprecated"), _recognises, _read, certain=False)
