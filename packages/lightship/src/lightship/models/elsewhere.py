"""Formats that Lightship recognises but does not serve, with the way out of each."""

from __future__ import annotations

from lightship.models.model import Opening

_MAGICS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Load it with Keras, and save it as .keras or export it to ONNX."),
    (4, b"TFL3", "a TensorFlow Lite model", "Convert it to ONNX with tf2onnx."),
    (4, b"ORTM", "a model in ONNX Runtime's own format", "Name the .onnx file that it was made from."),
    (0, b"ZF", "a joblib file from before 2015", "Load it with an old joblib and save it again."),
    (0, b"\x93NUMPY", "a NumPy array", "Write a Python file with load() and predict() that reads it."),
    (0, b"PAR1", "a Parquet table", "Name the model, not the data."),
    (0, b"RDX3", "an R object", "Export the model to ONNX or PMML from R."),
    (0, b"ggml", "a GGML file from before GGUF", "Convert it to GGUF with llama.cpp."),
    (0, b"ggjt", "a GGML file from before GGUF", "Convert it to GGUF with llama.cpp."),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it and name the model inside."),
    (0, b"PK\x03\x04", "a zip archive", "Unpack it and name the model inside."),
    (257, b"ustar", "a tar archive", "Unpack it and name the model inside."),
    (0, b"<!DOCTYPE", "a web page", "The download gave a page instead of the file; it may need a login."),
    (0, b"<html", "a web page", "The download gave a page instead of the file; it may need a login."),
    (0, b"\x7fELF", "a program or shared library", "Name the model that it runs."),
)
_GENERAL = (
    "Save it in one of these formats, or write a Python file with load() and predict() and name it in "
    "lightship.toml: [model] path."
)


def known_elsewhere(opening: Opening) -> tuple[str | None, str]:
    """What a file is, where that can be told, and what to do about it."""
    for offset, magic, what, hint in _MAGICS:
        if opening.head[offset : offset + len(magic)].lower() == magic.lower():
            return what, hint
    return None, _GENERAL
