"""llama.cpp by itself: the server object of xllamacpp, called in its process, without HTTP."""

import json
import sys
import time
from typing import Any

CONTEXT = 4096  # tokens, as many as our server has for each text


def load(path: str, threads: int) -> Any:
    """For one text at a time; what a server needs for others is off."""
    import xllamacpp

    told = xllamacpp.CommonParams()
    told.model.path = path
    told.n_parallel = 1
    told.n_ctx = CONTEXT
    for cpu in (told.cpuparams, told.cpuparams_batch):
        cpu.n_threads = threads
    told.fit_params = False
    told.cache_ram_mib = 0
    told.verbosity = 0
    return xllamacpp.Server(told)


def write(server: Any, message: str, tokens: int) -> dict[str, Any]:
    """One answer, greedy."""
    texts: list[str] = []
    times: list[float] = []
    written = 0

    def take(part: dict[str, Any]) -> bool:
        nonlocal written
        if "error" in part:
            raise SystemExit(str(part["error"]))
        for choice in part["choices"]:
            if text := choice["delta"].get("content"):
                texts.append(text)
                times.append(time.perf_counter() - began)
            if choice["finish_reason"] == "stop":
                written -= 1  # the token that ends a text is counted there
        if usage := part.get("usage"):
            written += usage["completion_tokens"]
        return False

    began = time.perf_counter()
    question = {
        "messages": [{"role": "user", "content": message}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    server.handle_chat_completions(question, take)
    return {"first": times[0], "seconds": times[-1], "tokens": written, "text": "".join(texts)}


def main() -> None:
    """Load, and write as often as it is asked to."""
    path, threads = sys.argv[1:]
    server = load(path, int(threads))
    for line in sys.stdin:
        print(json.dumps(write(server, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
