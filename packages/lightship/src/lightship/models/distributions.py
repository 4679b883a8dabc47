"""From the name that code imports to the name of the distribution that brings it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

# Where the two differ. Headless OpenCV: a server has no windows, and the full one needs libGL in the image.
_BY_IMPORT = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "Levenshtein": "python-Levenshtein",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "_loss": "scikit-learn",  # its compiled losses call themselves so
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "category_encoders": "category-encoders",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "google.protobuf": "protobuf",
    "imblearn": "imbalanced-learn",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "llama_cpp": "llama-cpp-python",
    "magic": "python-magic",
    "multipart": "python-multipart",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "pytorch_lightning": "pytorch-lightning",
    "sentence_transformers": "sentence-transformers",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "sklearn_crfsuite": "sklearn-crfsuite",
    "skopt": "scikit-optimize",
    "sksurv": "scikit-survival",
    "umap": "umap-learn",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
# Modules of Python 2 that old protocols name; Python's own reader maps them to today's.
_FORMER = frozenset({"__builtin__", "copy_reg", "cPickle", "cStringIO", "StringIO", "exceptions", "UserDict"})
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_standard(module: str) -> bool:
    """Whether Python itself brings the module."""
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names or top in _FORMER or top == "__main__"


def distribution_of(module: str) -> str | None:
    """The distribution that brings a module; None for Python's own and for what is no module name.

    >>> distribution_of("sklearn.linear_model._logistic")
    'scikit-learn'
    """
    top = module.partition(".")[0]
    if is_standard(top) or not _WORD.fullmatch(top):
        return None
    two = ".".join(module.split(".")[:2])
    if known := _BY_IMPORT.get(two) or _BY_IMPORT.get(top):
        return known
    return None if top.startswith("_") else top.replace("_", "-")


def local_module(module: str, near: Path) -> Path | None:
    """The project's own file for a module: beside the model, or in the folder above it."""
    top = module.partition(".")[0]
    if not _WORD.fullmatch(top):
        return None
    for folder in (near, near.parent):
        for candidate in (folder / f"{top}.py", folder / top / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None
