"""A language model as a folder of ONNX Runtime GenAI: its model builder makes it, its engine has to write with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from lightship_runtime.config import EngineName, ModelFile
from lightship_runtime.engines import ModelSource, find_engine, import_packages
from lightship_runtime.generation.engine import GenerationEngine
from lightship_runtime.generation.request import Finish, GenerationRequest, Piece

_LAST_LINES = 15
_ENGINE: EngineName = "onnxruntime-genai"


class Refusal(Exception):
    """Why a model is not converted."""


class Request(msgspec.Struct, frozen=True):
    """What to make of model/: numbers of which precision; and what to ask for to see that it writes."""

    precision: str
    gguf: str | None
    first_text: GenerationRequest


def converted(request: Request, work: Path) -> dict[str, object]:
    """Write out/. Returns its files and what the model wrote. Raises `Refusal`."""
    source = work / "model"
    if request.gguf is not None:
        source = _unpacked(source, request.gguf, work / "tmp" / "unpacked")
    _build(source, work / "out", request.precision, work / "tmp")
    text = _written(work / "out", request)
    if not text.strip():
        raise Refusal(f"the converted model wrote nothing after {request.first_text.prompt!r}")
    return {"files": sorted(path.name for path in (work / "out").iterdir()), "text": text}


def _unpacked(folder: Path, name: str, target: Path) -> Path:
    """The model of a GGUF file as a Hugging Face folder, every weight in single precision."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(target)
        read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    except (ValueError, KeyError, NotImplementedError, OSError, AttributeError) as error:
        raise Refusal(f"transformers cannot read the GGUF file: {_first_line(error)}") from error
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    # What was read from a GGUF file refuses to be saved; a model that was made anew does not.
    made = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    made.load_state_dict(read.state_dict(), assign=True)
    made.generation_config = read.generation_config
    made.save_pretrained(target)
    return target


def _build(source: Path, target: Path, precision: str, temporary: Path) -> None:
    """Run the model builder, whose modules have names that only a program of its own can have."""
    # Without prune_lm_head, which would save the scores of all tokens but the last: the Engine, which writes several
    # texts at once, fails on such graphs (0.18).
    options = ["hf_token=false"]
    program = [sys.executable, "-s", "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(target)]
    program += ["-p", precision, "-e", "cpu", "-c", str(temporary / "builder"), "--extra_options", *options]
    done = subprocess.run(program, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = "\n".join(line[:300] for line in done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise Refusal(f"ONNX Runtime GenAI's model builder ended with the status {done.returncode}:\n{lines}")


def _written(folder: Path, request: Request) -> str:
    kind = find_engine(_ENGINE)
    import_packages(kind)
    engine = kind.load(ModelSource(ModelFile(folder.name, "onnx-genai", _ENGINE, context=512), folder, 1))
    assert isinstance(engine, GenerationEngine)
    parts = list(engine.generate(request.first_text))
    if hasattr(engine, "close"):  # it has a thread, which must not outlive the library
        engine.close()
    if not isinstance(end := parts[-1], Finish) or end.reason == "error":
        raise Refusal("the engine fails when the converted model is asked for a text")
    return "".join(part.text for part in parts if isinstance(part, Piece))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
