"""How vLLM is started: its engine's arguments, its variables, and what is said when it does not start.

Nothing is fetched and nothing is told to anybody. Whatever `vllm serve` takes as a flag about the engine can be set
with the variable LIGHTSHIP_VLLM_ARGS: "--gpu-memory-utilization 0.8 --tensor-parallel-size 2".
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightship_runtime.engines.engine import ModelSource
from lightship_runtime.engines.gpu import gpu_is_there
from lightship_runtime.engines.transformers import TransformersEngine
from lightship_runtime.environment import VLLM_ARGS
from lightship_runtime.errors import StartError

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        **TransformersEngine.environment,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # by default it forks, and this process has threads
        "VLLM_LOGGING_LEVEL": "ERROR",  # else some hundred lines that are no JSON
    }
)
# Where its compilers keep what they have made, each below the first one's folder.
_CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
}
# 8 bits by vLLM itself; 4 bits by its plugin for bitsandbytes, whose loader reads safetensors where there are any.
_QUANTIZED: Mapping[str, Mapping[str, str]] = {
    "8bit": {"quantization": "fp8_per_channel"},
    "4bit": {"quantization": "bitsandbytes", "load_format": "bitsandbytes"},
}


async def start(source: ModelSource) -> Any:
    """vLLM's AsyncLLM, ready to write; for the event loop that it will run in. Raises StartError."""
    _give_caches()
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = _arguments(source)
    try:
        return AsyncLLM.from_engine_args(arguments)
    except (RuntimeError, ValueError) as error:
        raise StartError(
            f"vLLM does not start with {source.model.path}: {type(error).__name__}: {str(error)[:500]}",
            hint=_way_out(),
        ) from error


def _arguments(source: ModelSource) -> Any:
    """The engine's arguments: ours, then what LIGHTSHIP_VLLM_ARGS says of anything but which model it is."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    path = str(source.path)
    ours: dict[str, Any] = {
        "model": path,
        "tokenizer": path,
        "max_model_len": source.model.context,  # None for the model's own
        "disable_log_stats": True,
        "use_tqdm_on_load": False,  # bars that would go between the lines of the log
        # One library for schemas, whose limits are known (generation/schemas.py), instead of one after another.
        "structured_outputs_config": {"backend": "guidance"},
        # For CPUs it would compile with a C++ compiler, which an image has not.
        "enforce_eager": not gpu_is_there(),
    }
    if source.model.trust:
        ours["trust_remote_code"] = True
    else:
        ours["load_format"] = "safetensors"  # never a pickle
    if source.model.quantize is not None:
        ours |= _QUANTIZED[source.model.quantize]
    given = os.environ.get(VLLM_ARGS, "")
    return _parsed(given, path, ours) if given else AsyncEngineArgs(**ours)


def _parsed(given: str, path: str, ours: Mapping[str, Any]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser(prog=VLLM_ARGS, add_help=False))
    parser.set_defaults(**ours)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            words = [*shlex.split(given), "--model", path, "--tokenizer", path]
            return AsyncEngineArgs.from_cli_args(parser.parse_args(words))
    except (SystemExit, ValueError) as error:
        why = said.getvalue().strip().splitlines()
        raise StartError(
            f"{VLLM_ARGS} is not understood: {why[-1] if why else error}",
            hint="It takes the flags of `vllm serve` that are about the engine.",
        ) from error


def _way_out() -> str:
    if not gpu_is_there():
        return "There is no GPU here: start the container with one (`docker run --gpus all`)."
    return (
        "The lines above are vLLM's own. Where the GPU's memory is too small, take a shorter [model] context, or set "
        f'{VLLM_ARGS}="--gpu-memory-utilization 0.95"; where another process has some of it, a smaller share.'
    )


def _give_caches() -> None:
    """Where the user that this runs as has no home to write to, what its compilers make is kept elsewhere.

    That is loaded as code: a folder of a known name in a /tmp that others write to as well could be theirs. So it is
    below XDG_CACHE_HOME, which images set, or else in a new folder that nobody else can read.
    """
    if os.access(Path.home(), os.W_OK):
        return
    chosen = os.environ.get("XDG_CACHE_HOME")
    folder = Path(chosen or tempfile.mkdtemp(prefix="vllm-"))
    for name, below in _CACHES.items():
        os.environ.setdefault(name, str(folder / below))
