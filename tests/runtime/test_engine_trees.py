"""XGBoost and CatBoost: bit for bit what the libraries' own classes give."""

from pathlib import Path

import numpy
import pytest
from engine_checks import load, plain, same
from sklearn.datasets import load_iris

from lightship_runtime.engines import BadInstances, Options, TensorSpec

X, Y = load_iris(return_X_y=True)
ROWS = X[::20]
BOTH = Options(probabilities=True)


class TestXGBoost:
    @pytest.mark.parametrize("ending", ["ubj", "json"])
    @pytest.mark.parametrize("classes", [2, 3])
    def test_a_classifier(self, tmp_path: Path, ending: str, classes: int) -> None:
        xgboost = pytest.importorskip("xgboost")
        chosen = classes > Y
        model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(X[chosen], Y[chosen])
        path = tmp_path / f"model.{ending}"
        model.save_model(path)
        engine = load(path, f"xgboost-{ending}", "xgboost")
        for rows in (ROWS, ROWS.tolist()):
            prediction = engine.predict(rows, BOTH)
            assert plain(prediction.predictions) == model.predict(ROWS).tolist()
            assert same(prediction.probabilities, model.predict_proba(ROWS))
        assert engine.signature.classes == tuple(range(classes))
        assert engine.signature.outputs[1] == TensorSpec("probabilities", "FP32", (-1, classes))

    def test_a_regressor_that_stopped_early(self, tmp_path: Path) -> None:
        xgboost = pytest.importorskip("xgboost")
        model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=2, n_jobs=1)
        model.fit(X[::2], Y[::2], eval_set=[(X[1::2], Y[1::2])], verbose=False)
        model.save_model(tmp_path / "model.ubj")
        engine = load(tmp_path / "model.ubj", "xgboost-ubj", "xgboost")
        assert same(engine.predict(ROWS, Options()).predictions, model.predict(ROWS))
        assert engine.signature.outputs == (TensorSpec("predictions", "FP32", (-1,)),)


class TestCatBoost:
    @pytest.mark.parametrize("classes", [2, 3])
    def test_a_classifier(self, tmp_path: Path, classes: int) -> None:
        catboost = pytest.importorskip("catboost")
        names = numpy.array(["setosa", "versicolor", "virginica"])
        chosen = classes > Y
        model = catboost.CatBoostClassifier(iterations=5, thread_count=1, allow_writing_files=False, verbose=False)
        model.fit(X[chosen], names[Y[chosen]])
        model.save_model(str(tmp_path / "model.cbm"))
        engine = load(tmp_path / "model.cbm", "catboost", "catboost")
        for rows in (ROWS, ROWS.tolist()):
            prediction = engine.predict(rows, BOTH)
            assert plain(prediction.predictions) == model.predict(ROWS).ravel().tolist()
            assert same(prediction.probabilities, model.predict_proba(ROWS))
        assert engine.signature.classes == tuple(names[:classes])
        assert engine.signature.outputs[1] == TensorSpec("probabilities", "FP64", (-1, classes))

    def test_a_regressor(self, tmp_path: Path) -> None:
        catboost = pytest.importorskip("catboost")
        model = catboost.CatBoostRegressor(iterations=5, thread_count=1, allow_writing_files=False, verbose=False)
        model.fit(X, Y)
        model.save_model(str(tmp_path / "model.cbm"))
        engine = load(tmp_path / "model.cbm", "catboost", "catboost")
        assert same(engine.predict(ROWS, Options()).predictions, model.predict(ROWS))

    def test_categories_stay_texts_or_whole_numbers(self, tmp_path: Path) -> None:
        catboost = pytest.importorskip("catboost")
        rows = [["red", 1, 0.5], ["blue", 2, 1.5], ["red", 2, 2.5], ["blue", 1, 3.5]] * 5
        model = catboost.CatBoostRegressor(iterations=5, thread_count=1, allow_writing_files=False, verbose=False)
        model.fit(rows, list(range(20)), cat_features=[0, 1])
        model.save_model(str(tmp_path / "model.cbm"))
        engine = load(tmp_path / "model.cbm", "catboost", "catboost")
        assert same(engine.predict(rows[:4], Options()).predictions, model.predict(rows[:4]))
        assert [one.datatype for one in engine.signature.inputs] == ["BYTES", "BYTES", "FP64"]
        assert engine.signature.example is not None
        for wrong in (["red", 1.5, 0.5], [None, 1, 0.5], [True, 1, 0.5]):
            with pytest.raises(BadInstances, match="the category"):
                engine.predict([wrong], Options())
        with pytest.raises(engine.refused):
            engine.predict([["red", 1, "much"]], Options())
