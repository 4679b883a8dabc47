"""A model that was converted to ONNX answers as it did before, or is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy
import own_estimators
import pandas
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC

from lightship.optimize.inside.accept import Request, accepted
from lightship.optimize.inside.landmarks import landmarks
from lightship.optimize.inside.refusal import Refusal
from lightship_runtime.config import ModelFile
from lightship_runtime.engines import BadInstances, Engine, ModelSource, Options, find_engine
from lightship_runtime.payload import Call, ServedModel, encode, parse

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries about small data; the runtime about pickles
IRIS, DIABETES = load_iris(), load_diabetes()
X, NUMBERS, NAMES = IRIS.data, IRIS.target, IRIS.target_names[IRIS.target]
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]
NAMED = pandas.DataFrame(X, columns=COLUMNS)
UNEVEN = X + numpy.random.default_rng(0).normal(scale=1e-3, size=X.shape)  # no two distances are equal
MIXED = NAMED.assign(colour=numpy.array(["red", "blue", "green"])[numpy.arange(len(X)) % 3])


def encoder() -> ColumnTransformer:
    texts = OneHotEncoder(handle_unknown="ignore")
    return ColumnTransformer([("numbers", StandardScaler(), COLUMNS), ("texts", texts, ["colour"])])


def boosted(library: str, kind: str) -> Any:
    module = pytest.importorskip(library)
    found = getattr(module, kind)
    return found(n_estimators=20, n_jobs=1, **({"verbose": -1} if library == "lightgbm" else {}))


MODELS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: LogisticRegression(max_iter=1000).fit(X, NAMES),
    "labels true and false": lambda: LogisticRegression(max_iter=1000).fit(X, NUMBERS == 1),
    "labels 0.0, 1.0, 2.0": lambda: LogisticRegression(max_iter=1000).fit(X, NUMBERS.astype(float)),
    "labels whole": lambda: LogisticRegression(max_iter=1000).fit(X, NUMBERS),
    "named columns": lambda: LogisticRegression(max_iter=1000).fit(NAMED, NAMES),
    "forest": lambda: RandomForestClassifier(30, random_state=0).fit(X, NAMES),
    "forest of named columns": lambda: RandomForestClassifier(10, random_state=0).fit(NAMED, NAMES),
    "scaled": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, NAMES),
    "scaled forest": lambda: make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)).fit(
        X, NAMES
    ),
    "texts among numbers": lambda: make_pipeline(encoder(), LogisticRegression()).fit(MIXED, NAMES),
    "imputed": lambda: make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)).fit(X, NAMES),
    "components": lambda: make_pipeline(PCA(2), LogisticRegression()).fit(X, NAMES),
    "linear regression": lambda: LinearRegression().fit(DIABETES.data, DIABETES.target),
    "two targets": lambda: LinearRegression().fit(X[:, :2], X[:, 2:]),
    "polynomial": lambda: make_pipeline(PolynomialFeatures(2), Ridge()).fit(DIABETES.data, DIABETES.target),
    "forest of numbers": lambda: RandomForestRegressor(20, random_state=0).fit(DIABETES.data, DIABETES.target),
    "gradient boosting": lambda: GradientBoostingClassifier(n_estimators=20).fit(X, NAMES),
    "gradient boosting of numbers": lambda: GradientBoostingRegressor().fit(DIABETES.data, DIABETES.target),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=20).fit(X, NAMES),
    "histograms of numbers": lambda: HistGradientBoostingRegressor(max_iter=20).fit(DIABETES.data, DIABETES.target),
    "vectors": lambda: make_pipeline(StandardScaler(), SVC()).fit(X, NAMES),
    "linear vectors": lambda: LinearSVC().fit(X, NAMES),
    "vectors of numbers": lambda: SVR().fit(X, X[:, 0] * 3),
    "neighbours": lambda: KNeighborsClassifier().fit(UNEVEN, NAMES),
    "network": lambda: make_pipeline(StandardScaler(), MLPClassifier(max_iter=50, random_state=0)).fit(X, NAMES),
    "bayes": lambda: GaussianNB().fit(X, NAMES),
    "calibrated": lambda: CalibratedClassifierCV(LinearSVC()).fit(X, NAMES),
    "a vote": lambda: VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft").fit(
        X, NAMES
    ),
    "XGBoost": lambda: boosted("xgboost", "XGBClassifier").fit(X, NUMBERS),
    "XGBoost of two classes": lambda: boosted("xgboost", "XGBClassifier").fit(NAMED, NUMBERS == 1),
    "XGBoost of numbers": lambda: boosted("xgboost", "XGBRegressor").fit(DIABETES.data, DIABETES.target),
    "XGBoost in a pipeline": lambda: make_pipeline(StandardScaler(), boosted("xgboost", "XGBClassifier")).fit(
        X, NUMBERS
    ),
    "LightGBM": lambda: boosted("lightgbm", "LGBMClassifier").fit(X, NAMES),
    "LightGBM of two classes": lambda: boosted("lightgbm", "LGBMClassifier").fit(NAMED, NUMBERS == 1),
    "LightGBM of numbers": lambda: boosted("lightgbm", "LGBMRegressor").fit(DIABETES.data, DIABETES.target),
}
BOOSTERS: dict[str, Callable[[], Any]] = {
    "xgboost classifier.json": lambda: boosted("xgboost", "XGBClassifier").fit(NAMED, NUMBERS),
    "xgboost two.ubj": lambda: boosted("xgboost", "XGBClassifier").fit(X, NUMBERS == 1),
    "xgboost numbers.json": lambda: boosted("xgboost", "XGBRegressor").fit(X, X[:, 0] * 3),
    "lightgbm classes.txt": lambda: boosted("lightgbm", "LGBMClassifier").fit(X, NUMBERS).booster_,
    "lightgbm two.txt": lambda: boosted("lightgbm", "LGBMClassifier").fit(X, NUMBERS == 1).booster_,
    "lightgbm numbers.txt": lambda: boosted("lightgbm", "LGBMRegressor").fit(X, X[:, 0] * 3).booster_,
}


def loaded(model: ModelFile, folder: Path) -> Engine:
    return find_engine(model.engine).load(ModelSource(model, folder / model.path, 1))


def converted(work: Path, model: ModelFile, tolerance: float = 1e-5, golden: bytes | None = None) -> dict[str, Any]:
    (work / "out").mkdir(exist_ok=True)
    if golden is not None:
        (work / "golden.json").write_bytes(golden)
    return accepted(Request(model, golden is not None, tolerance), work)


def answered(engine: Engine, rows: list[Any], *, probabilities: bool = False) -> bytes:
    """As the server would."""
    model = ServedModel("model", engine.signature)
    body = msgspec.json.encode({"instances": rows, "predict_proba": probabilities})
    asked = parse(Call("predict", body), model)
    return encode(asked, engine.predict(asked.instances, asked.options), model).body


def saved(model: Any, work: Path) -> ModelFile:
    path = work / "app" / "model.joblib"
    path.parent.mkdir(exist_ok=True)
    joblib.dump(model, path)
    return ModelFile(path.name, "joblib", "sklearn", hashlib.sha256(path.read_bytes()).hexdigest())


def result(work: Path) -> Engine:
    return loaded(ModelFile("model.onnx", "onnx", "onnxruntime"), work / "out")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_as_before(name: str, tmp_path: Path) -> None:
    before = saved(MODELS[name](), tmp_path)
    report = converted(tmp_path, before)
    assert report["rows"] >= 1000
    original, now = loaded(before, tmp_path / "app"), result(tmp_path)
    assert now.signature == original.signature
    data = MIXED if name == "texts among numbers" else DIABETES.data if original.signature.features == 10 else X
    rows = numpy.asarray(data)[::7, : original.signature.features].tolist()
    options = Options(probabilities=original.signature.probabilities)
    expected, got = original.predict(rows, options), now.predict(rows, options)
    assert got.classes == expected.classes
    assert [type(each) for each in got.classes or ()] == [type(each) for each in expected.classes or ()]
    if expected.probabilities is not None:
        assert numpy.abs(numpy.array(expected.probabilities) - numpy.array(got.probabilities)).max() <= 1e-5
    plain = [answered(engine, rows) for engine in (original, now)]
    if original.signature.classes:
        assert plain[0] == plain[1]
    assert numpy.shape(got.predictions) == numpy.shape(expected.predictions)
    assert numpy.asarray(got.predictions).dtype.kind == numpy.asarray(expected.predictions).dtype.kind


@pytest.mark.parametrize("name", BOOSTERS)
def test_a_booster_in_its_library_s_own_format_answers_as_before(name: str, tmp_path: Path) -> None:
    library, _, file = name.partition(" ")
    (tmp_path / "app").mkdir()
    BOOSTERS[name]().save_model(tmp_path / "app" / file)
    before = ModelFile(file, library, library)  # type: ignore[arg-type]
    converted(tmp_path, before)
    original, now = loaded(before, tmp_path / "app"), result(tmp_path)
    assert now.signature == original.signature
    options = Options(probabilities=original.signature.probabilities)
    expected, got = original.predict(X.tolist(), options), now.predict(X.tolist(), options)
    assert got.classes == expected.classes
    assert numpy.allclose(got.predictions, expected.predictions, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["forest", "scaled forest", "histograms", "XGBoost", "LightGBM", "gradient boosting"]
)
def test_trees_take_the_same_turns_where_a_value_is_a_threshold(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    before = saved(model, tmp_path)
    converted(tmp_path, before)
    known = landmarks(model, 4)
    exact = [list(row) for row in zip(*[(values * 200)[:200] for values in known], strict=True)]
    # The measurements have one decimal, and halves of that are where most thresholds lie.
    halves = numpy.round(numpy.random.default_rng(1).integers(0, 160, (2000, 4)) / 20, 2).tolist()
    original, now = loaded(before, tmp_path / "app"), result(tmp_path)
    for rows in (exact, halves):
        expected, got = (engine.predict(rows, Options(probabilities=True)) for engine in (original, now))
        assert numpy.abs(numpy.array(expected.probabilities) - numpy.array(got.probabilities)).max() <= 1e-5


def test_records_and_texts_are_taken_by_column(tmp_path: Path) -> None:
    converted(tmp_path, saved(MODELS["texts among numbers"](), tmp_path))
    engine = result(tmp_path)
    record = dict(zip([*COLUMNS, "colour"], [5.1, 3.5, 1.4, 0.2, "red"], strict=True))
    shuffled = dict(sorted(record.items()))
    assert engine.predict([record, shuffled, [*record.values()]], Options()).predictions.tolist() == ["setosa"] * 3
    for wrong in (
        {**record, "colour": 7},
        {**record, "petal width": "wide"},
        {**record, "colour": None},
        {**record, "petal width": True},
    ):
        with pytest.raises(BadInstances, match=r"takes|missing"):
            engine.predict([wrong], Options())
    with pytest.raises(BadInstances, match="lacks the column 'colour'"):
        engine.predict([dict.fromkeys(COLUMNS, 1.0)], Options())


def test_missing_values_are_taken_where_the_model_learned_them_and_refused_elsewhere(tmp_path: Path) -> None:
    rows = [[5.1, None, 1.4, 0.2]]
    for name, refused in (("imputed", None), ("XGBoost", False), ("logistic regression", True), ("forest", True)):
        work = tmp_path / name
        work.mkdir()
        before = saved(MODELS[name](), work)
        report = converted(work, before)
        assert report["refuses_missing"] == (name == "forest")
        if refused:
            with pytest.raises(BadInstances, match="missing"):
                result(work).predict(rows, Options())
        else:
            expected = loaded(before, work / "app").predict(rows, Options()).predictions
            assert result(work).predict(rows, Options()).predictions.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["forest", "texts among numbers", "histograms", "LightGBM", "network"])
def test_the_same_model_becomes_the_same_bytes(name: str, tmp_path: Path) -> None:
    before = saved(MODELS[name](), tmp_path)
    files = set()
    for _ in range(2):
        converted(tmp_path, before)
        files.add((tmp_path / "out" / "model.onnx").read_bytes())
    (content,) = files
    assert b"skl2onnx" not in content
    assert b"lightship.missing_values" in content


def test_an_estimator_that_no_converter_knows_is_refused_by_name(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), own_estimators.Majority()).fit(X, NAMES)
    with pytest.raises(Refusal, match=r"no converter to ONNX for own_estimators\.Majority") as refusal:
        converted(tmp_path, saved(model, tmp_path))
    assert refusal.value.hint.startswith("Leave [optimize] onnx out")


def test_a_conversion_that_answers_otherwise_is_refused_with_the_worst_difference(tmp_path: Path) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes
    from skl2onnx.operator_converters.linear_regressor import convert_sklearn_linear_regressor

    update_registered_converter(
        own_estimators.Doubled,
        "Doubled",
        calculate_linear_regressor_output_shapes,
        convert_sklearn_linear_regressor,
    )
    model = own_estimators.Doubled().fit(X, X[:, 0])
    with pytest.raises(Refusal, match=r"a prediction is .* where the model says .*: a difference of .*, allowed is"):
        converted(tmp_path, saved(model, tmp_path))


def test_neighbours_at_equal_distances_are_a_difference(tmp_path: Path) -> None:
    model = KNeighborsClassifier().fit(X, NAMES)  # several flowers have the same measurements
    with pytest.raises(Refusal, match="a probability is 0"):
        converted(tmp_path, saved(model, tmp_path))


def test_the_tolerance_decides(tmp_path: Path) -> None:
    before = saved(MODELS["forest"](), tmp_path)
    assert 1e-12 < converted(tmp_path, before, tolerance=1e-5)["worst"] < 1e-5
    with pytest.raises(Refusal, match=r"a probability is .* allowed is 1e-12"):
        converted(tmp_path, before, tolerance=1e-12)


def test_the_golden_answer_has_to_be_given_too(tmp_path: Path) -> None:
    before = saved(MODELS["logistic regression"](), tmp_path)
    right = b'{"request": [5.1, 3.5, 1.4, 0.2], "response": {"predictions": ["setosa"]}}'
    assert converted(tmp_path, before, golden=right)["rows"] == 1001
    with pytest.raises(Refusal, match="even before it is converted"):
        converted(tmp_path, before, golden=right.replace(b"setosa", b"virginica"))


def test_a_golden_answer_beyond_its_own_tolerance_is_a_difference(tmp_path: Path) -> None:
    before = saved(MODELS["forest"](), tmp_path)
    engine = loaded(before, tmp_path / "app")
    answer = answered(engine, [[5.9, 3.0, 5.1, 1.8]], probabilities=True)
    golden = b'{"request": {"inputs": [5.9, 3.0, 5.1, 1.8], "predict_proba": true}, "response": %s%s}'
    assert converted(tmp_path, before, golden=golden % (answer, b""))["rows"] == 1001
    with pytest.raises(Refusal, match="the golden answer differs"):
        converted(tmp_path, before, golden=golden % (answer, b', "tolerance": 0'))


def test_a_pickle_is_loaded_only_as_the_file_that_was_recorded(tmp_path: Path) -> None:
    from lightship_runtime.errors import IntegrityError

    before = saved(MODELS["logistic regression"](), tmp_path)
    joblib.dump(MODELS["forest"](), tmp_path / "app" / "model.joblib")
    with pytest.raises(IntegrityError):
        converted(tmp_path, before)


def test_a_model_of_texts_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["a good film", "a bad film"], [1, 0])
    with pytest.raises(Refusal, match="takes texts, and ONNX Runtime cuts them into words in another way"):
        converted(tmp_path, saved(model, tmp_path))
