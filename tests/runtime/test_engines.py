"""Each engine gives exactly what its library gives when called directly, with small real models."""

import pickle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy
import pytest
from engine_checks import load, plain
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from lightship_runtime.engines import (
    BadInstances,
    Engine,
    Options,
    Signature,
    TensorSpec,
    find_engine,
    import_packages,
)
from lightship_runtime.engines.arrays import matrix, table, tensor
from lightship_runtime.errors import IntegrityError, StartError

IRIS = load_iris()
ROWS = IRIS.data[::20].tolist()


@pytest.fixture(scope="module")
def classifier() -> LogisticRegression:
    return LogisticRegression(max_iter=1000).fit(IRIS.data, IRIS.target_names[IRIS.target])


class TestSklearn:
    @pytest.mark.parametrize("kind", ["joblib", "pickle", "skops"])
    def test_every_format_predicts_as_the_estimator(
        self, tmp_path: Path, classifier: LogisticRegression, kind: str
    ) -> None:
        import joblib
        from skops import io

        path = tmp_path / "model"
        if kind == "joblib":
            joblib.dump(classifier, path, compress=3)
        elif kind == "pickle":
            path.write_bytes(pickle.dumps(classifier))
        else:
            io.dump(classifier, path)
        engine = load(path, kind, "sklearn")
        assert engine.signature == Signature(
            "rows",
            features=4,
            probabilities=True,
            classes=("setosa", "versicolor", "virginica"),
            inputs=(TensorSpec("input", "FP64", (-1, 4)),),
            outputs=(TensorSpec("predictions", "BYTES", (-1,)), TensorSpec("probabilities", "FP64", (-1, 3))),
            example=[0.0] * 4,
        )
        prediction = engine.predict(ROWS, Options(probabilities=True))
        assert plain(prediction.predictions) == classifier.predict(ROWS).tolist()
        assert plain(prediction.probabilities) == classifier.predict_proba(ROWS).tolist()
        assert prediction.classes == ["setosa", "versicolor", "virginica"]

    def test_a_pickle_that_is_not_the_recorded_one_is_not_loaded(self, tmp_path: Path) -> None:
        touched = tmp_path / "touched"

        class Evil:
            def __reduce__(self) -> Any:
                return Path.touch, (touched,)

        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps(Evil()))
        with pytest.raises(IntegrityError, match="not the file that the image was built with"):
            load(path, "pickle", "sklearn", sha256="0" * 64)
        with pytest.raises(IntegrityError, match="no sha256 was recorded"):
            load(path, "pickle", "sklearn", sha256=None)
        assert not touched.exists()

    def test_a_file_without_predict_is_explained(self, tmp_path: Path) -> None:
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps({"model": 1}))
        with pytest.raises(StartError, match="holds a dict"):
            load(path, "pickle", "sklearn")

    def test_a_class_that_is_missing_is_explained(self, tmp_path: Path) -> None:
        path = tmp_path / "model.pkl"
        path.write_bytes(b"cno_such_module\nThing\n.")
        with pytest.raises(StartError, match="no_such_module"):
            load(path, "pickle", "sklearn")

    def test_skops_types_beyond_its_own_list_must_be_named(self, tmp_path: Path) -> None:
        from skops import io

        path = tmp_path / "model.skops"
        io.dump(UserModel(), path)
        with pytest.raises(StartError, match="UserModel"):
            load(path, "skops", "sklearn")
        engine = load(path, "skops", "sklearn", trusted_types=(f"{__name__}.UserModel",))
        assert plain(engine.predict([["a", 1.0]], Options()).predictions) == [1]

    def test_named_columns_reach_the_model_by_name(self, tmp_path: Path) -> None:
        import joblib
        import pandas
        from sklearn.compose import make_column_transformer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        frame = pandas.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "colour": ["red", "blue", "red", "blue"]})
        model = make_pipeline(
            make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough"), LogisticRegression()
        ).fit(frame, [0, 1, 0, 1])
        path = tmp_path / "model.joblib"
        joblib.dump(model, path)
        engine = load(path, "joblib", "sklearn")
        assert engine.signature.names == ("size", "colour")
        wanted = model.predict(frame[:2]).tolist()
        assert plain(engine.predict([[1.0, "red"], [2.0, "blue"]], Options()).predictions) == wanted
        records = [{"colour": "red", "size": 1.0}, {"size": 2.0, "colour": "blue"}]
        assert plain(engine.predict(records, Options()).predictions) == wanted
        with pytest.raises(BadInstances, match="lacks the column 'colour'"):
            engine.predict([{"size": 1.0}], Options())

    def test_texts_reach_a_vectorizer(self, tmp_path: Path) -> None:
        import joblib
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline

        model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good", "bad"] * 5, ["+", "-"] * 5)
        path = tmp_path / "model.joblib"
        joblib.dump(model, path)
        engine = load(path, "joblib", "sklearn")
        assert engine.signature.rows is False
        assert plain(engine.predict(["good good", "bad"], Options()).predictions) == ["+", "-"]


class UserModel:
    """A model of the user's own, which skops does not know."""

    def predict(self, rows: Any) -> numpy.ndarray:
        return numpy.ones(len(rows), dtype=int)


class TestLightGBM:
    def test_it_predicts_as_the_booster(self, tmp_path: Path) -> None:
        import lightgbm

        data = lightgbm.Dataset(IRIS.data, IRIS.target)
        settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
        booster = lightgbm.train(settings, data, num_boost_round=5)
        path = tmp_path / "model.txt"
        booster.save_model(path)
        engine = load(path, "lightgbm", "lightgbm")
        assert engine.signature.features == 4
        direct = lightgbm.Booster(model_file=str(path)).predict(numpy.array(ROWS))
        assert plain(engine.predict(ROWS, Options()).predictions) == numpy.asarray(direct).tolist()

    def test_null_is_a_missing_value(self, tmp_path: Path) -> None:
        import lightgbm

        data = lightgbm.Dataset(IRIS.data, IRIS.target)
        booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, data, num_boost_round=5)
        path = tmp_path / "model.txt"
        booster.save_model(path)
        row = [5.1, None, 1.4, 0.2]
        (got,) = plain(load(path, "lightgbm", "lightgbm").predict([row], Options()).predictions)
        assert got == numpy.asarray(booster.predict(numpy.array([row], dtype=float)))[0]


class TestOnnx:
    def test_one_input_and_output(self, tmp_path: Path) -> None:
        import onnxruntime
        from onnx import TensorProto, helper

        weights = numpy.arange(8, dtype=numpy.float32).reshape(4, 2)
        path = self._saved(
            tmp_path,
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
            [helper.make_tensor("w", TensorProto.FLOAT, (4, 2), weights.ravel())],
        )
        engine = load(path, "onnx", "onnxruntime")
        assert (engine.signature.kind, engine.signature.features) == ("rows", 4)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        direct = session.run(None, {"x": numpy.array(ROWS, dtype=numpy.float32)})[0].tolist()
        assert plain(engine.predict(ROWS, Options()).predictions) == direct
        for wrong in ([[1, 2, 3]], [["a", "b", "c", "d"]], [[[1, 2, 3, 4]]], [[1, 2], [1]], [1.0]):
            with pytest.raises(BadInstances):
                engine.predict(wrong, Options())

    def test_several_inputs_and_outputs(self, tmp_path: Path) -> None:
        from onnx import TensorProto, helper

        path = self._saved(
            tmp_path,
            [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])],
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "any"]) for name in "ab"],
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "any"]) for name in ("sum", "product")],
        )
        engine = load(path, "onnx", "onnxruntime")
        prediction = engine.predict([{"a": [1, 2], "b": [3, 4]}], Options())
        assert prediction.predictions == [{"sum": [4, 6], "product": [3, 8]}]
        for wrong in ([{"a": [1]}], [[1]], [{"a": [1.5], "b": [1]}], [{"a": [2**63], "b": [1]}]):
            with pytest.raises(BadInstances):
                engine.predict(wrong, Options())

    def test_a_classifier_gives_labels_and_probabilities(self, tmp_path: Path) -> None:
        from onnx import TensorProto, helper

        path = self._saved(
            tmp_path,
            [
                helper.make_node("Softmax", ["x"], ["probabilities"]),
                helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
            ],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
            [
                helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
            ],
        )
        engine = load(path, "onnx", "onnxruntime")
        prediction = engine.predict([[0.0, 0.0], [0.0, 9.0]], Options(probabilities=True))
        assert plain(prediction.predictions) == [0, 1]
        assert prediction.probabilities is not None
        assert plain(prediction.probabilities[0]) == [0.5, 0.5]

    @staticmethod
    def _saved(tmp_path: Path, nodes: Any, inputs: Any, outputs: Any, constants: Any = ()) -> Path:
        import onnx
        from onnx import helper

        graph = helper.make_graph(nodes, "test", inputs, outputs, list(constants))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path


class TestPython:
    def _engine(self, tmp_path: Path, code: str) -> Engine:
        path = tmp_path / "user_model.py"
        path.write_text(code)
        return load(path, "python", "python")

    @pytest.mark.parametrize(
        "code",
        [
            "def load(): return 2\ndef predict(model, instances): return [model * x for x in instances]",
            "def predict(instances): return [2 * x for x in instances]",
            "def load():\n  global m\n  m = 2\ndef predict(instances): return tuple(m * x for x in instances)",
            "import numpy\ndef predict(instances): return 2 * numpy.array(instances)",
        ],
    )
    def test_load_and_predict_in_their_forms(self, tmp_path: Path, code: str) -> None:
        assert plain(self._engine(tmp_path, code).predict([1, 2], Options()).predictions) == [2, 4]

    @pytest.mark.parametrize(
        ("code", "fault"),
        [
            ("x = 1", "no function predict"),
            ("def predict(): return 1", "takes no instances"),
            ("kind = 'tables'\ndef predict(instances): return instances", "kind must be one of"),
        ],
    )
    def test_what_is_missing_is_said(self, tmp_path: Path, code: str, fault: str) -> None:
        with pytest.raises(StartError, match=fault):
            self._engine(tmp_path, code)


class TestArrays:
    @pytest.mark.parametrize(
        "rows",
        [[["1"]], [[True]], [[[1]]], ["abc"], [1.0], [None], [{}], [[1, 2], [1]], [[]], [[1, 2, 3]], [[10**400, 1]]],
    )
    def test_what_is_no_row_of_numbers_is_refused(self, rows: list[Any]) -> None:
        with pytest.raises(BadInstances):
            matrix(rows, Signature("rows", features=2))

    def test_numbers_and_null_become_floats(self) -> None:
        array = matrix([[1, 2.5], [None, -3]], Signature("rows", features=2))
        assert array.dtype == numpy.float64
        assert numpy.isnan(array[1, 0])

    def test_text_among_numbers_becomes_objects(self) -> None:
        assert table([["a", 1]], Signature("rows")).tolist() == [["a", 1.0]]

    @pytest.mark.parametrize(
        ("values", "kind"),
        [([[300]], "uint8"), ([[-1]], "uint8"), ([1.5], "int64"), (["a"], "float32"), ([1], "bool")],
    )
    def test_numbers_that_do_not_fit_are_refused(self, values: list[Any], kind: str) -> None:
        with pytest.raises(BadInstances):
            tensor(values, kind)


def test_an_engine_that_is_not_there_yet_is_said_so() -> None:
    with pytest.raises(StartError, match="tensorflow"):
        find_engine("tensorflow")


def test_a_missing_package_is_named() -> None:
    class Needy:
        packages = ("no_such_package_at_all",)
        environment = MappingProxyType({})

    with pytest.raises(StartError, match="no_such_package_at_all") as caught:
        import_packages(Needy)  # type: ignore[arg-type]
    assert "requirements" in (caught.value.hint or "")
