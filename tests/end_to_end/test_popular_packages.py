"""The packages that most inference servers are made of work in their images, pruned at the level `safe`.

Each gets an image of its own, so that no neighbour brings a library that it forgot. In the image, as its user, the
package and the parts of it that servers use are imported and asked for something small; the golden answer proves it.
Two lines of each container's log (`LIGHTSHIP_TEST_REPORT` names a file) tell version and seconds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lightship.build import build
from lightship.cache import Cache
from lightship.oci import Image, Platform, image_for
from lightship.progress import Silent
from lightship.project.project import load_project
from lightship.run.embedded import EmbeddedEngine
from lightship.session import Session
from lightship.verify import prove

pytestmark = [pytest.mark.network, pytest.mark.slow]

ROOM = 15 << 30  # bytes that the cache may keep after a test


@dataclass(frozen=True)
class Package:
    """A distribution, the modules that a server would import, and a small call whose value is known.

    Attributes:
        name: What stands in the requirements.
        modules: What is imported, in this order; the seconds are those of all of them.
        call: The body of a function that returns a JSON value.
        answer: That value; floats may differ by a millionth.
        with_: What else the requirements must name, because the package leaves it to its user.
        packages: Debian packages for what the package leaves to the system.
    """

    name: str
    modules: tuple[str, ...]
    call: str
    answer: Any
    with_: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


PACKAGES = (
    Package(
        "numpy",
        ("numpy", "numpy.linalg", "numpy.random", "numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.testing"),
        "return [float(numpy.linalg.det(numpy.eye(3) * 2)), numpy.fft.fft([1, 0]).real.tolist()]",
        [8.0, [1.0, 1.0]],
    ),
    Package(
        "scipy",
        (
            "scipy.linalg",
            "scipy.stats",
            "scipy.sparse.linalg",
            "scipy.sparse.csgraph",
            "scipy.optimize",
            "scipy.signal",
            "scipy.spatial",
            "scipy.special",
            "scipy.interpolate",
            "scipy.integrate",
            "scipy.ndimage",
            "scipy.cluster.hierarchy",
            "scipy.io",
            "scipy.fft",
        ),
        "return [float(scipy.stats.norm.cdf(0)), float(scipy.linalg.det([[2, 0], [0, 3]])),"
        " float(scipy.integrate.quad(lambda x: x, 0, 2)[0])]",
        [0.5, 6.0, 2.0],
    ),
    Package(
        "scikit-learn",
        (
            "sklearn.linear_model",
            "sklearn.ensemble",
            "sklearn.svm",
            "sklearn.pipeline",
            "sklearn.neighbors",
            "sklearn.cluster",
            "sklearn.decomposition",
            "sklearn.feature_extraction.text",
            "sklearn.neural_network",
            "sklearn.impute",
            "sklearn.compose",
            "sklearn.calibration",
            "sklearn.utils.estimator_checks",
        ),
        "from sklearn.datasets import load_iris\n"
        "x, y = load_iris(return_X_y=True)\n"
        "forest = sklearn.ensemble.RandomForestClassifier(5, random_state=0, n_jobs=2).fit(x, y)\n"
        "return forest.predict(x[[0, 60, 120]]).tolist()",
        [0, 1, 2],
    ),
    Package(
        "pandas",
        ("pandas", "pandas.api.types", "pandas.testing", "pandas.plotting"),
        "frame = pandas.DataFrame({'k': ['a', 'b', 'a'], 'v': [1, 2, 3]})\n"
        "at = pandas.Timestamp('2026-03-29', tz='Europe/Berlin') + pandas.Timedelta(hours=3)\n"
        "return [frame.groupby('k').v.sum().to_dict(), str(at)]",
        [{"a": 4, "b": 2}, "2026-03-29 04:00:00+02:00"],
    ),
    Package(
        "pyarrow",
        (
            "pyarrow",
            "pyarrow.compute",
            "pyarrow.parquet",
            "pyarrow.dataset",
            "pyarrow.csv",
            "pyarrow.json",
            "pyarrow.feather",
            "pyarrow.fs",
            "pyarrow.flight",
        ),
        "sink = pyarrow.BufferOutputStream()\n"
        "pyarrow.parquet.write_table(pyarrow.table({'x': [1, 2, 3]}), sink, compression='zstd')\n"
        "return pyarrow.compute.sum(pyarrow.parquet.read_table(sink.getvalue())['x']).as_py()",
        6,
    ),
    Package(
        "xgboost",
        ("xgboost",),
        "import numpy\n"
        "x = numpy.array([[0.0], [1.0]] * 20)\n"
        "trees = xgboost.train({'objective': 'reg:squarederror', 'base_score': 0.0, 'eta': 1.0, 'lambda': 0.0},"
        " xgboost.DMatrix(x, x[:, 0]), 1)\n"
        "return [round(float(y), 3) for y in trees.predict(xgboost.DMatrix([[0.0], [1.0]]))]",
        [0.0, 1.0],
    ),
    Package(
        "lightgbm",
        ("lightgbm",),
        "import numpy\n"
        "x = numpy.array([[0.0], [1.0]] * 50)\n"
        "trees = lightgbm.train({'objective': 'regression', 'learning_rate': 1.0, 'verbose': -1},"
        " lightgbm.Dataset(x, x[:, 0]), 1)\n"
        "return [round(float(y), 3) for y in trees.predict([[0.0], [1.0]])]",
        [0.0, 1.0],
    ),
    Package(
        "catboost",
        ("catboost", "catboost.utils"),
        "trees = catboost.CatBoostRegressor(iterations=1, learning_rate=1, depth=1, l2_leaf_reg=0, verbose=False,"
        " allow_writing_files=False).fit([[0.0], [1.0]] * 20, [0.0, 1.0] * 20)\n"
        "return [round(float(y), 3) for y in trees.predict([[0.0], [1.0]])]",
        [0.0, 1.0],
    ),
    Package(
        "onnxruntime",
        ("onnxruntime", "onnxruntime.capi.onnxruntime_pybind11_state"),
        "import numpy\n"
        "value = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.arange(3))\n"
        "return ['CPUExecutionProvider' in onnxruntime.get_available_providers(), value.numpy().tolist()]",
        [True, [0, 1, 2]],
    ),
    Package(
        "torch",
        (
            "torch",
            "torch.nn.functional",
            "torch.utils.data",
            "torch.jit",
            "torch.distributed",
            "torch.fx",
            "torch.export",
        ),
        "layer = torch.nn.Linear(2, 1)\n"
        "torch.nn.init.ones_(layer.weight), torch.nn.init.zeros_(layer.bias)\n"
        "scripted = torch.jit.script(layer)\n"
        "exported = torch.export.export(layer, (torch.ones(1, 2),)).module()\n"
        "with torch.inference_mode():\n"
        "    return [each(torch.tensor([[3.0, 4.0]])).tolist() for each in (layer, scripted, exported)]",
        [[[7.0]]] * 3,
    ),
    Package(
        "transformers",
        (
            "transformers",
            "transformers.pipelines",
            "transformers.models.bert.modeling_bert",
            "transformers.generation",
        ),
        "import torch\n"
        "config = transformers.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,"
        " intermediate_size=8)\n"
        "model = transformers.AutoModelForSequenceClassification.from_config(config).eval()\n"
        "with torch.inference_mode():\n"
        "    return list(model(torch.tensor([[1, 2, 3]])).logits.shape)",
        [1, 2],
        ("torch",),
    ),
    Package(
        "tokenizers",
        (
            "tokenizers",
            "tokenizers.models",
            "tokenizers.pre_tokenizers",
            "tokenizers.decoders",
            "tokenizers.trainers",
        ),
        "words = tokenizers.Tokenizer(tokenizers.models.WordLevel({'hello': 0, 'ship': 1}, unk_token='hello'))\n"
        "words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()\n"
        "return words.encode('hello ship').ids",
        [0, 1],
    ),
    Package(
        "sentencepiece",
        ("sentencepiece",),
        "import io\n"
        "model = io.BytesIO()\n"
        "sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(['a ship', 'a light'] * 50),"
        " model_writer=model, vocab_size=15, minloglevel=2, hard_vocab_limit=False)\n"
        "pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())\n"
        "return pieces.decode(pieces.encode('a ship'))",
        "a ship",
    ),
    Package(
        "spacy",
        ("spacy", "spacy.lang.en", "spacy.lang.de", "spacy.pipeline", "spacy.matcher", "spacy.displacy"),
        "return [token.text for token in spacy.blank('en')(\"It's a ship.\")]",
        ["It", "'s", "a", "ship", "."],
    ),
    Package(
        "opencv-python-headless",
        ("cv2",),
        "import numpy\n"
        "picture = cv2.resize(numpy.full((4, 4, 3), 7, numpy.uint8), (2, 2))\n"
        "return cv2.imdecode(cv2.imencode('.png', picture)[1], cv2.IMREAD_COLOR).tolist()",
        [[[7, 7, 7]] * 2] * 2,
    ),
    Package(
        "pillow",
        ("PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "PIL.ImageFilter", "PIL.ImageOps", "PIL.ImageCms"),
        "import io\n"
        "found = []\n"
        "for kind in ('PNG', 'JPEG', 'WEBP', 'TIFF', 'GIF', 'BMP', 'AVIF', 'JPEG2000'):\n"
        "    file = io.BytesIO()\n"
        "    PIL.Image.new('RGB', (8, 8), (9, 9, 9)).save(file, kind)\n"
        "    found.append(PIL.Image.open(file).size == (8, 8))\n"
        "PIL.ImageDraw.Draw(PIL.Image.new('L', (20, 20))).text((0, 0), 'A', font=PIL.ImageFont.load_default(12))\n"
        "return found",
        [True] * 8,
    ),
    Package(
        "librosa",
        ("librosa", "librosa.feature", "librosa.effects", "librosa.display", "soundfile"),
        "import io, numpy, soundfile\n"
        "file = io.BytesIO()\n"
        "soundfile.write(file, numpy.sin(numpy.arange(22050) / 10.0), 22050, format='FLAC')\n"
        "file.seek(0)\n"
        "sound, rate = librosa.load(file, sr=11025)\n"
        "return [rate, list(librosa.feature.mfcc(y=sound, sr=rate, n_mfcc=5).shape)]",
        [11025, [5, 22]],
        ("matplotlib",),
        ("libsndfile1",),  # soundfile brings its own in some wheels, and in the pure one of some indexes it does not
    ),
    Package(
        "faiss-cpu",
        ("faiss", "faiss.contrib.inspect_tools"),
        "import numpy\n"
        "index = faiss.IndexFlatL2(2)\n"
        "index.add(numpy.array([[0, 0], [1, 1]], 'float32'))\n"
        "return index.search(numpy.array([[0.9, 0.9]], 'float32'), 1)[1].tolist()",
        [[1]],
    ),
    Package(
        "numba",
        ("numba", "numba.typed", "numba.np.ufunc.parallel"),
        "import numpy\n"
        "@numba.njit(parallel=True)\n"
        "def total(values):\n"
        "    result = 0.0\n"
        "    for i in numba.prange(len(values)):\n"
        "        result += values[i]\n"
        "    return result\n"
        "@numba.vectorize(['float64(float64)'], target='parallel')\n"
        "def double(value):\n"
        "    return 2 * value\n"
        "return [total(numpy.arange(5.0)), double(numpy.arange(3.0)).tolist()]",
        [10.0, [0.0, 2.0, 4.0]],
    ),
    Package(
        "polars",
        ("polars", "polars.testing", "polars.selectors"),
        "frame = polars.DataFrame({'k': ['a', 'b', 'a'], 'v': [1, 2, 3]})\n"
        "return frame.lazy().group_by('k').agg(polars.col('v').sum()).sort('k').collect().rows()",
        [["a", 4], ["b", 2]],
    ),
    Package(
        "tensorflow-cpu",
        ("tensorflow", "keras"),
        "layer = tensorflow.keras.layers.Dense(1, kernel_initializer='ones')\n"
        "traced = tensorflow.function(lambda x: layer(x) + 1.0)\n"
        "return traced(tensorflow.constant([[3.0, 4.0]])).numpy().tolist()",
        [[8.0]],
    ),
    Package(
        "jax",
        ("jax", "jax.numpy", "jax.scipy.linalg", "jax.scipy.stats", "jax.experimental.pallas", "jax.export"),
        "step = jax.jit(jax.vmap(jax.grad(lambda x: x**2)))\n"
        "return [step(jax.numpy.arange(3.0)).tolist(), float(jax.scipy.stats.norm.cdf(0.0))]",
        [[0.0, 2.0, 4.0], 0.5],
    ),
    Package(
        "mlflow-skinny",
        ("mlflow", "mlflow.models", "mlflow.pyfunc", "mlflow.tracking"),
        "import tempfile\n"
        "folder = tempfile.mkdtemp() + '/double'\n"
        "class Double(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return [2 * value for value in model_input]\n"
        "mlflow.pyfunc.save_model(folder, python_model=Double(), pip_requirements=[])\n"
        "return mlflow.pyfunc.load_model(folder).predict([1, 2])",
        [2, 4],
        ("pandas", "numpy", "cloudpickle"),
    ),
    Package(
        "shap",
        ("shap", "shap.explainers", "shap.maskers"),
        "import numpy\n"
        "explainer = shap.explainers.Exact(lambda x: x[:, 0] + 2 * x[:, 1], numpy.zeros((1, 2)))\n"
        "return explainer(numpy.array([[3.0, 4.0]])).values.tolist()",
        [[3.0, 8.0]],
    ),
    Package(
        "statsmodels",
        ("statsmodels.api", "statsmodels.formula.api", "statsmodels.tsa.api", "statsmodels.tsa.statespace.sarimax"),
        "import numpy\n"
        "x = numpy.arange(5.0)\n"
        "fitted = statsmodels.formula.api.ols('y ~ x', {'x': x, 'y': 2 * x + 1}).fit()\n"
        "return [float(value) for value in fitted.params]",
        [1.0, 2.0],
    ),
)

SERVER = """\
import importlib, importlib.metadata, json, time


def load():
    began = time.perf_counter()
    for name in {modules!r}:
        importlib.import_module(name)
    seconds = time.perf_counter() - began
    for name in {modules!r}:
        top = name.partition(".")[0]
        globals()[top] = importlib.import_module(top)
    print("imported", json.dumps([importlib.metadata.version({name!r}), seconds]), flush=True)


def predict(model, instances):
    return [answer()]


def answer():
{call}"""


@pytest.fixture
def roomy(shared_cache: Path) -> Iterator[Session]:
    """A session on a cache of these tests' own, which loses what was used longest ago: the packages take 30 GB."""
    session = Session(Cache(shared_cache / "popular"), Silent(), dict(os.environ), jobs=2)
    yield session
    session.cache.prune(keep_bytes=ROOM)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_popular_package_works_in_its_image(package: Package, roomy: Session, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "requirements.txt").write_text("\n".join((package.name, *package.with_)) + "\n")
    (folder / "lightship.toml").write_text(f"[base]\npackages = {json.dumps(package.packages)}\n")
    call = "".join(f"    {line}\n" for line in package.call.splitlines())
    (folder / "model.py").write_text(SERVER.format(modules=package.modules, name=package.name, call=call))
    golden = {"request": [0], "response": {"predictions": [package.answer]}, "tolerance": 1e-6}
    (folder / "golden.json").write_text(json.dumps(golden))

    built = build(load_project(folder), roomy)
    image = image_for(built.image, Platform.of_this_machine())
    proof = prove(image, EmbeddedEngine(), roomy, golden=folder / "golden.json", timeout=300)
    try:
        assert proof.golden
        report(package.name, image, proof.container.logs())
    finally:
        proof.container.stop()


def report(name: str, image: Image, logs: str) -> None:
    """A line of the table: package, version, MB to pull, MB on disk, seconds of the imports."""
    found = re.search(r"^imported (.*)$", logs, re.MULTILINE)
    assert found, logs
    version, seconds = json.loads(found[1])
    stored, unpacked = (
        sum(sizes) / 1e6 for sizes in zip(*((e.size, e.unpacked_size) for e in image.layers), strict=True)
    )
    row = f"| {name} | {version} | {stored:.0f} | {unpacked:.0f} | {seconds:.2f} |\n"
    print(row)
    if file := os.environ.get("LIGHTSHIP_TEST_REPORT"):
        with Path(file).open("a") as table:
            table.write(row)
