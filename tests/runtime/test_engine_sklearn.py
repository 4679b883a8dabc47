"""scikit-learn beyond the plain case: kinds of models and answers, arrays, what the signature says, trust."""

from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest
from engine_checks import load, plain, same
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightship_runtime.engines import BadInstances, Engine, Options, TensorSpec
from lightship_runtime.errors import IntegrityError

X, Y = load_iris(return_X_y=True)
ROWS = X[::20]
BOTH = Options(probabilities=True)


def saved(path: Path, model: Any) -> Engine:
    joblib.dump(model, path / "model.joblib")
    return load(path / "model.joblib", "joblib", "sklearn")


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(20, random_state=0),
        HistGradientBoostingClassifier(max_iter=5),
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        StackingClassifier([("forest", RandomForestClassifier(5, random_state=0, n_jobs=2))], n_jobs=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_classifiers_answer_bit_for_bit(tmp_path: Path, model: Any) -> None:
    model.fit(X, Y)
    engine = saved(tmp_path, model)
    for rows in (ROWS, ROWS.tolist()):
        prediction = engine.predict(rows, BOTH)
        assert same(prediction.predictions, model.predict(ROWS))
        assert same(prediction.probabilities, model.predict_proba(ROWS))
        assert prediction.classes == [0, 1, 2]
    assert engine.signature.classes == (0, 1, 2)
    assert engine.signature.outputs == (
        TensorSpec("predictions", "INT64", (-1,)),
        TensorSpec("probabilities", "FP64", (-1, 3)),
    )


def test_regressors_of_one_and_of_several_values(tmp_path: Path) -> None:
    one = LinearRegression().fit(X, Y)
    engine = saved(tmp_path, one)
    assert same(engine.predict(ROWS, Options()).predictions, one.predict(ROWS))
    assert engine.signature.outputs == (TensorSpec("predictions", "FP64", (-1,)),)
    several = RandomForestRegressor(5, random_state=0).fit(X, X[:, :2])
    engine = saved(tmp_path, several)
    assert same(engine.predict(ROWS, Options()).predictions, several.predict(ROWS))
    assert engine.signature.outputs == (TensorSpec("predictions", "FP64", (-1, 2)),)


def test_probabilities_of_several_outputs_have_the_instances_first(tmp_path: Path) -> None:
    even = RandomForestClassifier(5, random_state=0).fit(X, numpy.stack([Y, 2 - Y], axis=1))
    direct = even.predict_proba(ROWS)
    found = saved(tmp_path, even).predict(ROWS, BOTH).probabilities
    assert same(found, numpy.stack(direct, axis=1)) and len(found) == len(ROWS)
    uneven = RandomForestClassifier(5, random_state=0).fit(X, numpy.stack([Y, Y == 0], axis=1))
    direct = uneven.predict_proba(ROWS)
    prediction = saved(tmp_path, uneven).predict(ROWS, BOTH)
    assert prediction.probabilities == [[part[row].tolist() for part in direct] for row in range(len(ROWS))]
    assert prediction.classes == [[0, 1, 2], [0, 1]]


def test_what_the_model_refuses_is_refused(tmp_path: Path) -> None:
    engine = saved(tmp_path, LogisticRegression(max_iter=1000).fit(X, Y))
    for missing in ([[5.1, None, 1.4, 0.2]], numpy.array([[5.1, numpy.nan, 1.4, 0.2]])):
        with pytest.raises(engine.refused):
            engine.predict(missing, Options())
    takes = saved(tmp_path, HistGradientBoostingClassifier(max_iter=3).fit(X, Y))
    assert len(takes.predict([[5.1, None, 1.4, 0.2]], Options()).predictions) == 1


def test_a_row_gets_one_answer_whatever_its_width(tmp_path: Path) -> None:
    model = KNeighborsClassifier().fit(X, Y)
    engine = saved(tmp_path, model)
    narrow = ROWS.astype(numpy.float32)
    assert same(engine.predict(narrow, BOTH).probabilities, model.predict_proba(narrow.astype(numpy.float64)))
    assert plain(engine.predict(numpy.array([[5, 3, 1, 0]]), Options()).predictions) == [0]


@pytest.mark.parametrize(
    "array",
    [
        numpy.ones((2, 3)),
        numpy.ones(4),
        numpy.ones((2, 2, 4)),
        numpy.ones((1, 4), dtype=complex),
    ],
    ids=str,
)
def test_arrays_that_are_no_rows_are_refused(tmp_path: Path, array: Any) -> None:
    engine = saved(tmp_path, LogisticRegression(max_iter=1000).fit(X, Y))
    with pytest.raises((BadInstances, *engine.refused)):
        engine.predict(array, Options())


def test_named_columns_are_told_with_a_row_that_the_model_can_answer(tmp_path: Path) -> None:
    import pandas
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    frame = pandas.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "colour": ["red", "blue", "red", "blue"]})
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), (StandardScaler(), ["size"]))
    model = make_pipeline(columns, LogisticRegression()).fit(frame, [0, 1, 0, 1])
    signature = saved(tmp_path, model).signature
    assert signature.names == ("size", "colour")
    assert signature.inputs == (TensorSpec("size", "FP64", (-1,)), TensorSpec("colour", "BYTES", (-1,)))
    assert signature.example == [2.5, "blue"]
    assert signature.outputs[0] == TensorSpec("predictions", "INT64", (-1,))


def test_the_example_is_an_average_row_where_the_scaler_remembers_one(tmp_path: Path) -> None:
    engine = saved(tmp_path, make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y))
    assert engine.signature.example == [float(f"{value:.3g}") for value in X.mean(axis=0)]


def test_a_vectorizer_means_texts(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good", "bad"] * 5, ["+", "-"] * 5)
    engine = saved(tmp_path, model)
    assert (engine.signature.kind, engine.signature.classes) == ("text", ("+", "-"))
    assert same(engine.predict(["good good", "bad"], BOTH).probabilities, model.predict_proba(["good good", "bad"]))


def test_every_part_works_in_the_thread_that_asks(tmp_path: Path) -> None:
    forest = RandomForestClassifier(5, random_state=0, n_jobs=-1)
    model = StackingClassifier([("forest", make_pipeline(StandardScaler(), forest))], n_jobs=-1).fit(X, Y)
    engine = saved(tmp_path, model)
    inside = engine._model  # type: ignore[attr-defined]
    assert {inside.n_jobs, inside.estimators_[0].steps[1][1].n_jobs} == {1}


def test_trust_stands_in_for_a_digest_but_never_against_one(tmp_path: Path) -> None:
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    with pytest.raises(IntegrityError, match="no sha256"):
        load(path, "joblib", "sklearn", sha256=None)
    assert load(path, "joblib", "sklearn", sha256=None, trust=True).signature.features == 4
    with pytest.raises(IntegrityError, match="not the file"):
        load(path, "joblib", "sklearn", sha256="0" * 64, trust=True)


def test_the_risk_of_a_pickle_is_named(tmp_path: Path) -> None:
    import hashlib

    from lightship_runtime.config import ModelFile
    from lightship_runtime.engines import ModelSource
    from lightship_runtime.engines.sklearn import SklearnEngine

    path = tmp_path / "model.joblib"
    joblib.dump(LogisticRegression(max_iter=1000).fit(X, Y), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.warns(UserWarning, match="runs whatever code its author put there; its sha256 is the recorded one"):
        SklearnEngine.load(ModelSource(ModelFile("model.joblib", "joblib", "sklearn", digest), path, 1))
    with pytest.warns(UserWarning, match="nothing but trust"):
        SklearnEngine.load(ModelSource(ModelFile("model.joblib", "joblib", "sklearn", trust=True), path, 1))
