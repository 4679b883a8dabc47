"""The model as its library's own object, which the converters take; pickles only as the file that was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightship_runtime.config import ModelFile
from lightship_runtime.engines import ModelSource


def load_model(model: ModelFile, folder: Path) -> Any:
    """An estimator, or a Booster of XGBoost or LightGBM where the file holds one in the library's own format."""
    path = folder / model.path
    if model.engine == "xgboost":
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(str(path))
        return booster
    if model.engine == "lightgbm":
        import lightgbm

        return lightgbm.Booster(model_file=str(path))
    if model.format == "skops":
        from skops import io

        return io.load(path, trusted=list(model.trusted_types))
    import joblib

    with ModelSource(model, path, 1).verified() as file:
        return joblib.load(file)
