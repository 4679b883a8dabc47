"""Every member that OpenAI's API has is known here, and documented: none is ignored by accident."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from runtime_servers import Runtime
from writing_model import config, write_app

openai = pytest.importorskip("openai")
from openai.types import completion_create_params, embedding_create_params  # noqa: E402
from openai.types.chat import completion_create_params as chat_params  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
FORMS = {
    "/v1/completions": (completion_create_params.CompletionCreateParamsBase, {"prompt": "a"}),
    "/v1/chat/completions": (
        chat_params.CompletionCreateParamsBase,
        {"messages": [{"role": "user", "content": "x"}]},
    ),
    "/v1/embeddings": (embedding_create_params.EmbeddingCreateParams, {"input": "a"}),
}
VECTORS = """
kind = "text"
dimensions = 2
example = "a text"
def load(): return None
def predict(model, instances): return [[1.0, 2.0] for text in instances]
"""
# What asks for something that this server does not have, by name; all others are taken.
REFUSED: dict[str, Any] = {
    "frequency_penalty": 1,
    "presence_penalty": 1,
    "logit_bias": {"1": 2},
    "suffix": "x",
    "best_of": 2,
    "logprobs": 1,
    "audio": {"voice": "x"},
    "functions": [{"name": "x"}],
    "function_call": {"name": "x"},
    "modalities": ["audio"],
    "moderation": {"model": "x"},
    "web_search_options": {"a": 1},
    "response_format": {"type": "json_object"},
    "dimensions": 7,
}
TAKEN: dict[str, Any] = {
    "echo": True,
    "encoding_format": "base64",
    "max_tokens": 3,
    "max_completion_tokens": 3,
    "metadata": {"a": "b"},
    "model": "writer",
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "x",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "safety_identifier": "x",
    "seed": 1,
    "service_tier": "flex",
    "stop": ["x"],
    "store": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "x"}}],
    "top_logprobs": 0,
    "top_p": 0.5,
    "user": "x",
    "verbosity": "low",
}
CASES = [(path, name) for path, (form, _) in FORMS.items() for name in sorted(form.__annotations__)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Runtime]]:
    writing = write_app(tmp_path_factory.mktemp("writer"))
    vectors = write_app(tmp_path_factory.mktemp("vectors"), VECTORS)
    with closing(Runtime(writing, config(), {})) as one, closing(Runtime(vectors, config(), {})) as other:
        yield {False: one.ready(), True: other.ready()}


@pytest.mark.parametrize(("path", "name"), CASES)
def test_each_member_is_heeded_taken_or_refused_by_its_name(
    servers: dict[bool, Runtime], path: str, name: str
) -> None:
    body = dict(FORMS[path][1])
    if name not in body:
        body[name] = REFUSED[name] if name in REFUSED else TAKEN[name]  # a new one is to be decided on
        if name == "logprobs" and "messages" in body:
            body[name] = True
        if name == "stream_options":
            body["stream"] = True
    if "input" not in body:
        body.setdefault("max_tokens", 2)
    server = servers["input" in body]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if name not in REFUSED:
        assert response.status == 200, content
        return
    error = json.loads(content)["error"]
    assert (response.status, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == name
    assert error["code"] == "unsupported_parameter"


PENALISED = """
def generate(prompt, max_tokens, presence_penalty=0, **more):
    yield f"{presence_penalty} {sorted((name, more[name]) for name in more if more[name])}"
"""


def test_a_python_file_gets_what_it_takes(start: Any, tmp_path: Path) -> None:
    server = start(write_app(tmp_path, PENALISED), config()).ready()
    body = {"prompt": "a", "presence_penalty": 0.5, "frequency_penalty": -1, "logit_bias": {"7": 3}}
    status, answer = server.ask("POST", "/v1/completions", json.dumps(body).encode())
    assert (status, answer["choices"][0]["text"]) == (
        200,
        "0.5 [('frequency_penalty', -1.0), ('logit_bias', {7: 3.0})]",
    )


def test_each_member_is_documented() -> None:
    text = DOCS.read_text()
    table = text[text.index("### Members") : text.index("### Engines")]
    named = set(re.findall(r"`([a-z_]+)`", table))
    assert {name for _, name in CASES} <= named


def test_models_are_looked_up_by_their_name(servers: dict[bool, Runtime]) -> None:
    for server in servers.values():
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="x", max_retries=0)
        (listed,) = client.models.list().data
        assert client.models.retrieve("writer") == listed
        assert (listed.id, listed.object) == ("writer", "model")
        for unknown in ("gpt-4", "org/name", "writer/x", "wri ter", "%00"):
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve(unknown)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/writer"])
def test_other_methods(servers: dict[bool, Runtime], path: str) -> None:
    for method, status in (("HEAD", 200), ("OPTIONS", 405), ("DELETE", 405), ("POST", 405)):
        connection = http.client.HTTPConnection("127.0.0.1", servers[False].port, timeout=60)
        connection.request(method, path)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        assert response.status == status
        if method == "HEAD":
            assert (content, int(response.headers["content-length"]) > 50) == (b"", True)
        else:
            assert response.headers["allow"] == "GET"
            assert json.loads(content)["error"]["type"] == "invalid_request_error"


def test_a_request_for_another_model_is_not_answered_by_this_one(servers: dict[bool, Runtime]) -> None:
    for path, (_, body) in FORMS.items():
        server = servers["input" in body]
        for model, expected in (("gpt-4", 404), ("", 404), ("writer", 200), (None, 200)):
            more = {} if "input" in body else {"max_tokens": 1}
            status, answer = server.ask("POST", path, json.dumps({**body, **more, "model": model}).encode())
            assert status == expected
            if status == 404:
                assert (answer["error"]["code"], answer["error"]["param"]) == ("model_not_found", "model")
