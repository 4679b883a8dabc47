"""Which conversion of a model is taken: the first that answers as the model does, or none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from lightship.optimize.inside.compare import Sample, worst_difference
from lightship.optimize.inside.conversions import conversions
from lightship.optimize.inside.encoders import ENGINES, converted_encoder
from lightship.optimize.inside.golden_request import golden_differences
from lightship.optimize.inside.inputs import inputs_of
from lightship.optimize.inside.load import load_model
from lightship.optimize.inside.refusal import Refusal
from lightship_runtime.config import EngineName, ModelFile
from lightship_runtime.engines import Engine, ModelSource, Options, find_engine, import_packages
from lightship_runtime.golden import load_golden

_OUTPUT = "model.onnx"


class Request(msgspec.Struct, frozen=True):
    """What to convert: the model's file in app/, whether golden.json lies beside, and the tolerance."""

    model: ModelFile
    golden: bool
    tolerance: float


def accepted(request: Request, work: Path) -> dict[str, Any]:
    """Write out/model.onnx. Returns what was compared. Raises `Refusal`."""
    original = _engine(request.model, work / "app")
    golden = load_golden(work / "golden.json") if request.golden else None
    if golden is not None and (wrong := golden_differences(original, golden)):
        raise Refusal(
            f"the model does not give the golden answer even before it is converted: {wrong[0]}",
            "Mend golden.json, or the versions in the requirements.",
        )
    if request.model.engine in ENGINES:
        return converted_encoder(
            original,
            golden,
            request.tolerance,
            taken=partial(_written, work=work, engine="onnxruntime-text"),
            golden_differences=partial(golden_differences, golden=golden) if golden else lambda engine: [],
        )
    model = load_model(request.model, work / "app")
    inputs = inputs_of(model, original.signature, golden)
    sample = Sample.of(original, inputs.rows)
    missing = bool(inputs.missing) and _answers(original, inputs.missing)
    with_missing = Sample.of(original, inputs.missing) if missing else None
    refused: list[str] = []
    for name, content in conversions(model, original.signature, inputs, refused=refused):
        try:
            converted, kept = _written(content(missing), work), missing
            worst = worst_difference(sample, converted, request.tolerance)
            if with_missing and not worst_difference(with_missing, converted, request.tolerance).within:
                # Trained without missing values, some estimators answer them anyhow; the file refuses them.
                converted, kept = _written(content(False), work), False
            if not worst.within:
                refused.append(f"{name}: {worst}")
            elif golden is not None and (wrong := golden_differences(converted, golden)):
                refused.append(f"{name}: the golden answer differs: {wrong[0]}")
            else:
                rows = len(sample.rows) + (len(inputs.missing) if kept else 0)
                return {
                    "precision": name,
                    "rows": rows,
                    "worst": worst.value,
                    "refuses_missing": missing and not kept,
                }
        except Exception as error:  # ONNX Runtime's own errors have no common class
            refused.append(f"{name}: ONNX Runtime cannot run it: {_first_line(error)}")
    raise Refusal(
        "; ".join(refused),
        "Serve the model as it is (leave [optimize] onnx out), or allow more with [optimize] tolerance (and "
        "`tolerance` in golden.json) where the difference does no harm.",
    )


def _engine(model: ModelFile, folder: Path) -> Engine:
    kind = find_engine(model.engine)
    import_packages(kind)
    return kind.load(ModelSource(model, folder / model.path, 1))


def _answers(engine: Engine, rows: list[Any]) -> bool:
    try:
        engine.predict(rows[:1], Options())
    except Exception:
        return False
    return True


def _written(content: bytes, work: Path, engine: EngineName = "onnxruntime") -> Engine:
    (work / "out" / _OUTPUT).write_bytes(content)
    return _engine(ModelFile(_OUTPUT, "onnx", engine), work / "out")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
