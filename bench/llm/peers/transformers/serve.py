"""The textbook server: the model loaded at start-up, `model.generate` for each request, its text streamed.

As the documentation of TextIteratorStreamer shows it, behind FastAPI. BENCH_MODEL is the folder, BENCH_DTYPE the type
that the weights are computed in.
"""

import json
import os
from collections.abc import Iterator
from threading import Thread

import torch
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

tokenizer = AutoTokenizer.from_pretrained(os.environ["BENCH_MODEL"])
model = AutoModelForCausalLM.from_pretrained(
    os.environ["BENCH_MODEL"], dtype=getattr(torch, os.environ["BENCH_DTYPE"])
)
app = FastAPI()


class Prompt(BaseModel):
    message: str
    max_new_tokens: int = 64


@app.post("/generate")
def generate(prompt: Prompt) -> StreamingResponse:
    messages = [{"role": "user", "content": prompt.message}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    options = {"max_new_tokens": prompt.max_new_tokens, "do_sample": False}
    written = []

    def work() -> None:
        output = model.generate(**inputs, **options, streamer=streamer)
        written.append(output.shape[1] - inputs["input_ids"].shape[1])

    thread = Thread(target=work)
    thread.start()

    def events() -> Iterator[str]:
        for text in streamer:
            yield f"data: {json.dumps({'text': text})}\n\n"
        thread.join()
        yield f"data: {json.dumps({'usage': {'completion_tokens': written[0]}})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
