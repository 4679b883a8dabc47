"""The pages as the runtime itself serves them: over its own HTTP, while the model loads and after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from jsonschema import Draft202012Validator
from page_site import chromium
from writing_model import config as writing_config
from writing_model import write_app

MODEL = """
import pathlib, time

def load():
    while not pathlib.Path("go").exists():
        time.sleep(0.02)

def predict(model, instance):
    if not isinstance(instance, str):
        raise ValueError("a text is wanted")
    for word in instance.split():
        yield word
"""

WRITER = """
context = 64
slots = 2

def generate(prompt, max_tokens, temperature=None):
    for number, word in enumerate(prompt.split()):
        yield word + " "
"""
TEMPLATE = """
def apply_chat_template(messages, tools=None):
    return " ".join(message["content"] for message in messages)
"""
EMBEDDER = """
kind = "text"
dimensions = 3

def predict(texts):
    return [[float(len(text)), 0.5, -1.0] for text in texts]
"""


def got(server: Any, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, body."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, {name.lower(): value for name, value in response.headers.items()}, response.read()
    except HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


@pytest.fixture
def loading(start: Any, tmp_path: Path) -> Any:
    """A server whose model is loaded once there is a file `go`."""
    (tmp_path / "model.py").write_text(MODEL)
    server = start(
        tmp_path, {"model": {"path": "model.py", "format": "python", "engine": "python"}, "name": "speller"}
    )
    server.wait_for("listening")
    return server


def test_the_page_is_there_before_the_model(loading: Any) -> None:
    status, headers, body = got(loading, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"assets/try.js" in body
    assert got(loading, "/assets/try.js")[1]["content-type"] == "text/javascript; charset=utf-8"
    assert got(loading, "/", **{"If-None-Match": headers["etag"]})[::2] == (304, b"")
    for path in ("/assets/none.js", "/assets/../settings.py", "/assets/..%2fsettings.py", "/assets/"):
        assert got(loading, path)[0] == 404
    status, headers, body = got(loading, "/openapi.json")
    assert (status, "retry-after" in headers, list(json.loads(body))) == (503, True, ["error"])
    (loading.app / "go").touch()
    loading.ready()
    status, _, body = got(loading, "/openapi.json")
    assert (status, json.loads(body)["info"]["title"]) == (200, "speller")


@pytest.mark.parametrize("library", ["pyarrow", "numpy"])
def test_only_formats_whose_library_is_there_are_promised(start: Any, tmp_path: Path, library: str) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(f"import sys\nsys.modules[{library!r}] = None\n")
    app = tmp_path / "app"
    app.mkdir()
    (app / "model.py").write_text(
        "kind = 'rows'\nfeatures = 2\ndef predict(instances): return [1] * len(instances)\n"
    )
    config = {"model": {"path": "model.py", "format": "python", "engine": "python"}}
    forms = {"pyarrow": "application/vnd.apache.arrow.stream", "numpy": "application/x-npy"}
    paths = os.pathsep.join(filter(None, [str(hidden), os.environ.get("PYTHONPATH")]))
    for lacking, promised in (
        ({}, set(forms.values())),
        ({"PYTHONPATH": paths}, set(forms.values()) - {forms[library]}),
    ):
        server = start(app, config, **lacking).ready()
        asked = json.loads(got(server, "/openapi.json")[2])["paths"]["/predict"]["post"]
        taken = asked["requestBody"]["content"].keys()
        assert taken & set(forms.values()) == promised
        assert asked["responses"]["200"]["content"].keys() & set(forms.values()) == promised
        status, _ = server.ask("POST", "/predict", b"?", forms[library])
        assert status == (415 if lacking else 400)


@pytest.mark.tool("chromium")
def test_it_is_used_from_the_first_moment_to_the_last_word(loading: Any) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)  # milliseconds; generous, because the machine may be busy with other tests
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{loading.port}/")
        expect(page.get_by_role("status")).to_contain_text("Loading the model")
        (loading.app / "go").touch()
        expect(page.get_by_role("status")).to_have_text("Ready")
        page.locator("#json").fill('["once upon a time"]')
        for form in ("events", "lines"):
            page.get_by_label("Stream").select_option(form)
            page.get_by_role("button", name="Predict").click()
            expect(page.locator("#facts")).to_contain_text("4 parts")
            expect(page.locator(".streamed")).to_have_text("onceuponatime")


CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "unsupported_method"),
)


def holds(server: Any, folder: Path, checks: tuple[str, ...] = CHECKS) -> None:
    """Whether every route does what /openapi.json says, whatever is sent to it."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"),
        *("--checks", ",".join(checks), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "30", "--seed", "4", "--no-color"),
    ]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_the_description_of_a_real_server_holds(
    start: Any, iris_app: Path, iris_config: dict[str, Any], tmp_path: Path
) -> None:
    (iris_app / "known.json").write_text('{"request": [5.1, 3.5, 1.4, 0.2], "response": {"predictions": ["setosa"]}}')
    server = start(iris_app, {**iris_config, "name": "iris", "golden": "known.json"}).ready()
    api = json.loads(got(server, "/openapi.json")[2])
    assert {"/v2", "/v2/models/iris", "/v2/models/iris/infer", "/v2/health/ready", "/predict"} <= api["paths"].keys()
    example = api["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]["known"]
    assert example["value"] == {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    holds(server, tmp_path)


def test_the_description_of_a_server_that_streams_holds(loading: Any) -> None:
    (loading.app / "go").touch()
    api = json.loads(got(loading.ready(), "/openapi.json")[2])
    answers = api["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    assert {"application/json", "text/event-stream", "application/x-ndjson"} <= answers.keys()
    # OpenAPI 3.1 has no words for one event of a stream: the tool holds each against the schema of the whole text.
    holds(loading, loading.app, tuple(check for check in CHECKS if check != "response_schema_conformance"))


@pytest.mark.parametrize("chats", [True, False])
def test_the_description_of_a_model_that_writes_holds(start: Any, tmp_path: Path, chats: bool) -> None:
    write_app(tmp_path, WRITER + (TEMPLATE if chats else ""))
    server = start(tmp_path, writing_config()).ready()
    api = json.loads(got(server, "/openapi.json")[2])
    routes = {"/generate", "/v1/completions", "/v1/models", "/v1/models/{model}"}
    assert routes <= api["paths"].keys()
    assert ("/v1/chat/completions" in api["paths"]) == ("ChatRequest" in api["components"]["schemas"]) == chats
    assert "/v1/embeddings" not in api["paths"]
    assert ("tools" in api["components"]["schemas"]["ChatRequest"]["properties"]) if chats else True
    examples_are_answered(server, api)
    holds(server, tmp_path, tuple(check for check in CHECKS if check != "response_schema_conformance"))


def test_the_description_of_a_model_that_gives_vectors_holds(start: Any, tmp_path: Path) -> None:
    write_app(tmp_path, EMBEDDER)
    server = start(tmp_path, writing_config()).ready()
    api = json.loads(got(server, "/openapi.json")[2])
    assert {"/v1/embeddings", "/v1/models", "/v1/models/{model}"} <= api["paths"].keys()
    assert {"/generate", "/v1/completions", "/v1/chat/completions"}.isdisjoint(api["paths"])
    examples_are_answered(server, api)
    holds(server, tmp_path)


def test_a_model_that_does_neither_has_none_of_their_routes(loading: Any) -> None:
    (loading.app / "go").touch()
    api = json.loads(got(loading.ready(), "/openapi.json")[2])
    assert not [path for path in api["paths"] if path.startswith(("/v1/", "/generate"))]


def examples_are_answered(server: Any, api: Any) -> None:
    """Every example of the document, with an answer that fits its schema."""
    asked = 0
    for path, item in api["paths"].items():
        body = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in body.get("examples", {}).values():
            status, answer = server.predict(example["value"], path)
            assert status == 200, (path, answer)
            content = item["post"]["responses"]["200"]["content"]["application/json"]
            for schema, value in ((body["schema"], example["value"]), (content["schema"], answer)):
                Draft202012Validator({**schema, "components": api["components"]}).validate(value)
            asked += 1
    assert asked
