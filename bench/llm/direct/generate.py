"""transformers by itself: `model.generate` with a streamer."""

import json
import os
import sys
import time
from typing import Any


class Streamer:
    """What `generate` hands the tokens to: each becomes text at once."""

    def __init__(self, tokenizer: Any, ends: set[int], began: float) -> None:
        self.times: list[float] = []
        self.tokens: list[int] = []
        self._tokenizer = tokenizer
        self._ends = ends
        self._began = began
        self._prompt = True

    def put(self, tokens: Any) -> None:
        """The prompt, and then one token after the other."""
        if self._prompt:
            self._prompt = False
            return
        token = int(tokens.flatten()[0])
        if token not in self._ends:
            self._tokenizer.decode([token])
            self.tokens.append(token)
            self.times.append(time.perf_counter() - self._began)

    def end(self) -> None:
        """Nothing is left to be done."""


def write(model: Any, tokenizer: Any, message: str, tokens: int) -> dict[str, Any]:
    """One answer, greedy."""
    began = time.perf_counter()
    messages = [{"role": "user", "content": message}]
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ends = model.generation_config.eos_token_id
    streamer = Streamer(tokenizer, set(ends if isinstance(ends, list) else [ends]), began)
    model.generate(**prompt, max_new_tokens=tokens, do_sample=False, streamer=streamer)
    text = tokenizer.decode(streamer.tokens, skip_special_tokens=True)
    return {"first": streamer.times[0], "seconds": streamer.times[-1], "tokens": len(streamer.tokens), "text": text}


def main() -> None:
    """Load, and write as often as it is asked to."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    for line in sys.stdin:
        print(json.dumps(write(model, tokenizer, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
