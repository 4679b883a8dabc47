"""What each engine says about forks is true: loaded, asked, forked, and asked again in the children."""

from pathlib import Path
from typing import Any

import numpy
import pytest
from engine_checks import answers_after_fork, load
from sklearn.datasets import load_iris

X, Y = load_iris(return_X_y=True)
ROWS = X[::10].tolist()


def check_sklearn(path: Path, model: Any, rows: Any) -> None:
    import joblib

    joblib.dump(model.fit(X, Y), path / "model.joblib")
    answers_after_fork(path / "model.joblib", "joblib", "sklearn", rows)


def test_sklearn_with_openmp_loops(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    check_sklearn(tmp_path, HistGradientBoostingClassifier(max_iter=5), ROWS * 50)


def test_sklearn_with_trees_and_jobs(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    check_sklearn(tmp_path, RandomForestClassifier(20, random_state=0, n_jobs=2), ROWS)


def test_sklearn_with_blas(tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    check_sklearn(tmp_path, KNeighborsClassifier(algorithm="brute"), ROWS * 50)


def test_lightgbm(tmp_path: Path) -> None:
    import lightgbm

    settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    lightgbm.train(settings, lightgbm.Dataset(X, Y), num_boost_round=5).save_model(tmp_path / "model.txt")
    answers_after_fork(tmp_path / "model.txt", "lightgbm", "lightgbm", ROWS * 50)


def test_catboost(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostClassifier(iterations=5, verbose=False, thread_count=1, allow_writing_files=False)
    model.fit(X, Y).save_model(str(tmp_path / "model.cbm"))
    answers_after_fork(tmp_path / "model.cbm", "catboost", "catboost", ROWS * 50)


def test_xgboost_says_never(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(X, Y), 3)
    booster.save_model(tmp_path / "model.ubj")
    assert load(tmp_path / "model.ubj", "xgboost-ubj", "xgboost").forking() == "never"


@pytest.mark.parametrize("size", [1 << 4, 3 << 23])  # numbers: a child makes its own session, or shares a large one
def test_onnxruntime(tmp_path: Path, size: int) -> None:
    import onnx
    from onnx import TensorProto, helper

    weights = numpy.linspace(-1, 1, size, dtype=numpy.float32).reshape(4, -1)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["wide"]), helper.make_node("ReduceMax", ["wide"], ["y"], axes=[1])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    answers_after_fork(tmp_path / "model.onnx", "onnx", "onnxruntime", ROWS[:2])


def test_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(4, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))
    torch.jit.script(net).save(tmp_path / "model.pt")
    answers_after_fork(tmp_path / "model.pt", "torchscript", "torch", ROWS * 50)


def test_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tiny_transformers import text_classifier

    answers_after_fork(
        text_classifier(tmp_path / "model"), "huggingface", "transformers", ["good good bad", "bad"] * 20
    )


def test_sentence_transformers(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from tiny_transformers import sentence_encoder

    answers_after_fork(
        sentence_encoder(tmp_path / "model"), "huggingface", "sentence-transformers", ["good good bad", "bad"] * 20
    )
