"""A GGUF file to a Hugging Face folder, and that to two folders of ONNX Runtime GenAI. All of it works offline.

Arguments: the GGUF file; the folder; the folder with 4 bits per weight; the one with 32.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def to_folder(gguf: Path, folder: Path) -> None:
    """Write the weights out in fp32."""
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # a model that says it is GGUF is refused by save_pretrained
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)


def to_genai(folder: Path, precision: str, target: Path) -> None:
    """Run the library's own model builder, for CPUs."""
    with tempfile.TemporaryDirectory() as cache:
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        paths = ["-i", str(folder), "-o", str(target), "-c", cache]
        subprocess.run([*builder, *paths, "-p", precision, "-e", "cpu"], check=True)


if __name__ == "__main__":
    gguf, folder, int4, fp32 = map(Path, sys.argv[1:])
    to_folder(gguf, folder)
    to_genai(folder, "int4", int4)
    to_genai(folder, "fp32", fp32)
