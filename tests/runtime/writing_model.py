"""A small model in a Python file that writes text: the words of its prompt again and again, each with a number."""

from pathlib import Path
from typing import Any

SOURCE = """
import threading
import time

context = 2000
slots = 4
running = []


def load():
    return {"pause": 0.0}


def apply_chat_template(messages, tools=None):
    if messages[0]["role"] == "tool":
        raise ValueError("a conversation does not begin with a tool's answer")
    names = " ".join(tool["function"]["name"] for tool in tools or ())
    return " ".join(message["role"] + " " + message["content"] for message in messages) + " " + names


def generate(model, prompt, max_tokens, seed=None, temperature=None):
    words = prompt.split() or ["nothing"]
    if words[0] == "refuse":
        raise ValueError("no")
    running.append(threading.get_ident())
    try:
        for number in range(100000):
            if words[0] == "slow":
                time.sleep(0.02)
            if words[0] == "fail" and number == 3:
                raise RuntimeError("broken")
            if words[0] == "broken":
                raise RuntimeError("broken")
            if words[0] == "running":
                yield f"{len(running)} "
                return
            yield f"{words[number % len(words)]}{number} "
    finally:
        running.remove(threading.get_ident())
"""
MODEL = {"path": "writer.py", "format": "python", "engine": "python"}


def config(**settings: Any) -> dict[str, Any]:
    return {"model": MODEL, "name": "writer", **settings}


def write_app(folder: Path, source: str = SOURCE) -> Path:
    (folder / "writer.py").write_text(source)
    return folder
