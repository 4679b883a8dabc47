"""joblib and pickle files, saved by the real libraries and read without running anything of them."""

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn

from lightship.errors import ProjectError
from lightship.models import detect, propose_requirements


def test_a_joblib_pipeline_tells_its_version_steps_and_packages(saved: Path) -> None:
    model = detect(saved)
    assert (model.format, model.engine, model.dtype) == ("joblib", "sklearn", "float64")
    assert dict(model.details) == {
        "object": "Pipeline of StandardScaler, LogisticRegression",
        "features": "4",
        "classes": "3",
        "pickle": "imports known-safe names alone",
    }
    assert {package.name: package.version for package in model.packages} == {
        "joblib": None,
        "numpy": None,
        "scikit-learn": sklearn.__version__,
    }
    assert model.pickle is not None and model.pickle.verdict == "safe" and model.notes == ()
    assert model.size == saved.stat().st_size and model.files == (saved,)
    assert f"scikit-learn=={sklearn.__version__}" in propose_requirements(model)


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_tells_the_same(tmp_path: Path, pipeline, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(pipeline, protocol))
    model = detect(path)
    assert model.format == "pickle"
    assert dict(model.details)["object"] == "Pipeline of StandardScaler, LogisticRegression"
    assert ("scikit-learn", sklearn.__version__) in [(package.name, package.version) for package in model.packages]
    assert model.pickle is not None and model.pickle.verdict == "safe", model.pickle


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("compression", [0, "zlib", "gzip", "bz2", "lzma", "xz"])
def test_every_compression_and_protocol_of_joblib_is_read(tmp_path: Path, pipeline, compression, protocol) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(pipeline, path, compress=(compression, 3) if compression else 0, protocol=protocol)
    model = detect(path)
    assert model.format == "joblib"
    assert dict(model.details).get("compression") == (compression or None)
    assert model.pickle is not None and model.pickle.verdict == "safe", model.pickle
    assert ("scikit-learn", sklearn.__version__) in [(package.name, package.version) for package in model.packages]


def test_a_file_named_by_nothing_is_recognised_by_its_content(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "weights.dat"
    path.write_bytes(saved.read_bytes())
    assert detect(path).engine == "sklearn"


def _estimators():
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        IsolationForest,
        RandomForestClassifier,
    )
    from sklearn.feature_selection import SelectKBest
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
    from sklearn.svm import SVC

    yield RandomForestClassifier(n_estimators=3)
    yield GradientBoostingClassifier(n_estimators=2)
    yield HistGradientBoostingClassifier(max_iter=2)
    yield IsolationForest(n_estimators=2)
    yield SVC(probability=True)
    yield KNeighborsClassifier(algorithm="kd_tree")
    yield KNeighborsClassifier(algorithm="ball_tree")
    yield MLPClassifier(hidden_layer_sizes=(3,), max_iter=20, random_state=np.random.RandomState(0))
    yield GaussianNB()
    yield GaussianProcessClassifier()
    yield SGDClassifier()
    yield make_pipeline(FunctionTransformer(np.log1p), SelectKBest(k=2), PCA(2), LogisticRegression())
    yield make_pipeline(
        ColumnTransformer([("one", OneHotEncoder(handle_unknown="ignore"), [0]), ("two", StandardScaler(), [1, 2])]),
        SVC(),
    )
    yield GridSearchCV(RandomForestClassifier(n_estimators=2), {"max_depth": [1, 2]}, cv=2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("save", ["joblib", "pickle"])
@pytest.mark.parametrize("estimator", list(_estimators()), ids=lambda estimator: type(estimator).__name__)
def test_what_real_estimators_import_is_found_and_known_to_be_safe(tmp_path: Path, iris, estimator, save) -> None:
    fitted = estimator.fit(*iris)
    path = tmp_path / "model.pkl"
    if save == "joblib":
        joblib.dump(fitted, path)
    else:
        path.write_bytes(pickle.dumps(fitted))
    model = detect(path)
    assert model.pickle is not None
    assert (model.pickle.verdict, model.pickle.unknown, model.pickle.incomplete) == ("safe", (), None)
    assert dict(model.details)["object"].startswith(type(fitted).__name__)
    assert ("scikit-learn", sklearn.__version__) in [(package.name, package.version) for package in model.packages]


def test_a_text_model_with_a_large_vocabulary_and_object_arrays(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    words = [f"word{number}" for number in range(30_000)]
    fitted = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit([" ".join(words), "other"], ["yes", "no"])
    fitted.steps[1][1].classes_ = fitted.steps[1][1].classes_.astype(object)
    path = tmp_path / "model.joblib"
    joblib.dump(fitted, path)
    model = detect(path)
    assert model.pickle is not None and model.pickle.verdict == "safe"
    assert dict(model.details)["object"] == "Pipeline of TfidfVectorizer, MultinomialNB"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 0)),
        np.float64(3.0),
        np.array(5),
        np.asfortranarray(np.ones((3, 4))),
        np.ones((2, 3), dtype=">f4"),
        np.array(["a", "bcd"]),
        np.array([b"a", b"bcd"]),
        np.array(["2020-01-01"], dtype="M8[ns]"),
        np.zeros(3, dtype=[("x", "f4"), ("y", "i8", (2,))]),
        np.zeros(3, dtype=np.dtype([("x", "u1"), ("y", "f8")], align=True)),
        np.zeros(3, dtype="V7"),
        np.array([{"a": 1}, None], dtype=object),
        np.array([np.arange(3), np.arange(4)], dtype=object),
        np.zeros(4, dtype=[("x", object), ("y", "i4")]),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.ma.masked_array([1, 2], mask=[True, False]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_array_data_of_every_type_is_stepped_over_exactly(tmp_path: Path, array) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump([array, {"_sklearn_version": "1.2.3"}, array], path)
    model = detect(path)
    assert model.pickle is not None and model.pickle.incomplete is None
    assert model.pickle.verdict == "safe"


def test_packages_of_an_estimator_of_ones_own_are_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "model.pkl"
    names = (("imblearn.over_sampling", "SMOTE"), ("features", "Encoder"), ("cv2.things", "Thing"), ("_private", "X"))
    instances = [f"c{module}\n{name}\n)\x81".encode("latin-1") for module, name in names]
    path.write_bytes(b"\x80\x02(" + b"".join(instances) + b"l.")
    (tmp_path / "features.py").write_text("class Encoder: ...\n")
    model = detect(path)
    assert [package.name for package in model.packages] == ["imbalanced-learn", "joblib", "opencv-python-headless"]
    assert model.code == (tmp_path / "features.py",)
    assert any("features.Encoder from your features.py" in note for note in model.notes)
    assert model.pickle is not None
    assert model.pickle.unknown == ("_private.X", "cv2.things.Thing", "features.Encoder")


def test_a_class_of_the_training_script_gets_the_advice_that_solves_it(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04\x8c\x08__main__\x8c\x07Encoder\x93)\x81.")
    assert any("Encoder was defined in the script" in note and "__main__" in note for note in detect(path).notes)


def test_a_dictionary_of_models_needs_code(tmp_path: Path, pipeline) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump({"model": pipeline, "labels": ["a", "b"]}, path)
    model = detect(path)
    assert model.needs_code and model.engine == "python"
    assert dict(model.details)["object"] == "dict with 'model', 'labels'"
    assert any("not an object with predict()" in note for note in model.notes)


def test_a_pickle_of_lightgbm_names_its_package(tmp_path: Path, iris) -> None:
    from lightgbm import LGBMClassifier

    path = tmp_path / "model.pkl"
    joblib.dump(LGBMClassifier(n_estimators=2, verbose=-1).fit(*iris), path)
    model = detect(path)
    assert dict(model.details)["object"] == "LGBMClassifier"
    assert "lightgbm" in [package.name for package in model.packages]
    assert model.pickle is not None and model.pickle.verdict == "safe"


def test_parts_saved_with_different_versions_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([{"_sklearn_version": "1.2.0"}, {"_sklearn_version": "1.3.0"}]))
    assert any("different versions of scikit-learn: 1.2.0, 1.3.0" in note for note in detect(path).notes)


def test_lz4_is_recognised_and_never_called_safe(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    path.write_bytes(b"\x04\x22\x4d\x18" + bytes(40))
    model = detect(path)
    assert model.pickle is not None and model.pickle.verdict == "unknown"
    assert "lz4" in [package.name for package in model.packages]


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    data = pickle.dumps({"a": "b" * 1000})
    path = tmp_path / "model.pkl.gz"
    path.write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]))
    model = detect(path)
    assert model.pickle is not None and model.pickle.verdict == "safe"


@pytest.mark.parametrize("shape", ["array", "bytes", "compressed array"])
def test_memory_stays_flat_whatever_the_size(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "model.joblib"
    big = np.zeros(64 << 20, dtype=np.uint8)
    if shape == "array":
        joblib.dump([big, "end"], path)
    elif shape == "bytes":
        path.write_bytes(pickle.dumps([big.tobytes(), "end"]))
    else:
        joblib.dump([big, "end"], path, compress=1)
    del big
    tracemalloc.start()
    try:
        model = detect(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert model.pickle is not None and model.pickle.verdict == "safe"
    assert peak < 4 << 20


def test_memory_is_bounded_for_a_vocabulary_of_a_million_words(tmp_path: Path) -> None:
    """Measured in a process of its own, as tracing a million values would take longer than all other tests."""
    path = tmp_path / "model.pkl"
    path.write_bytes(
        pickle.dumps([{f"{number:07}": number for number in range(1_000_000)}, {"_sklearn_version": "1.2.3"}])
    )
    program = (
        "import resource, sys, pathlib, lightship.models as m\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "verdict = m.detect(pathlib.Path(sys.argv[1])).pickle.verdict\n"
        "print(verdict, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    verdict, grown = done.stdout.split()
    assert verdict == "safe"
    assert int(grown) < 100 << 10  # KiB


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightship.models.decompression.ALWAYS_ALLOWED", 1 << 20)
    path = tmp_path / "model.joblib"
    path.write_bytes(zlib.compress(b"\x80\x04B" + (1 << 28).to_bytes(4, "little") + bytes(1 << 28) + b"."))
    with pytest.raises(ProjectError, match="expands to more than"):
        detect(path)


def test_an_old_zlib_file_of_joblib_gets_advice(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    path.write_bytes(b"ZF0x12" + bytes(100))
    with pytest.raises(ProjectError, match="before 2015"):
        detect(path)
