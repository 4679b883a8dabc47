"""The operator sets that graphs are written in: fixed, so that another converter's default changes no image."""

from __future__ import annotations

STANDARD = 18  # of ONNX 1.13; the newest that skl2onnx 1.14 writes
_MACHINE_LEARNING = 3  # the newest that onnxmltools writes for XGBoost and LightGBM
BOOSTERS = 15  # the newest standard operators that onnxmltools writes for boosters of XGBoost and LightGBM


def target_opset() -> dict[str, int]:
    """By domain, as the converters take it."""
    return {"": STANDARD, "ai.onnx.ml": _MACHINE_LEARNING}
