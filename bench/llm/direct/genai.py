"""ONNX Runtime GenAI by itself."""

import json
import os
import sys
import time
from typing import Any


def write(model: Any, tokenizer: Any, message: str, tokens: int) -> dict[str, Any]:
    """One answer, greedy."""
    import onnxruntime_genai as genai

    began = time.perf_counter()
    messages = json.dumps([{"role": "user", "content": message}])
    prompt = tokenizer.encode(tokenizer.apply_chat_template(messages, add_generation_prompt=True))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(prompt) + tokens)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(prompt)
    stream, ends = tokenizer.create_stream(), set(tokenizer.eos_token_ids)
    texts: list[str] = []
    times: list[float] = []
    while len(times) < tokens:
        generator.generate_next_token()
        token = int(generator.get_next_tokens()[0])
        if token in ends:
            break
        texts.append(stream.decode(token))
        times.append(time.perf_counter() - began)
    return {"first": times[0], "seconds": times[-1], "tokens": len(times), "text": "".join(texts)}


def main() -> None:
    """Load, and write as often as it is asked to."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime_genai as genai

    folder, threads = sys.argv[1:]
    config = genai.Config(folder)
    options = {"intra_op_num_threads": int(threads)}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = genai.Model(config)
    tokenizer = genai.Tokenizer(model)
    for line in sys.stdin:
        print(json.dumps(write(model, tokenizer, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
