"""Who may ask: API keys, origins, TLS; with a real server."""

import base64
import http.client
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lightship_runtime.errors import ConfigError
from lightship_runtime.front.auth import load_keys

ROW = json.dumps([5.1, 3.5, 1.4, 0.2])
KEY = "correct-horse-battery"
GUARDED = (
    "/predict",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/",
    "/v2",
    "/v2/models/model",
    "/nowhere",
    "/admin/../x",
)
OPEN = ("/livez", "/health", "/readyz", "/startupz", "/v2/health/live", "/v2/health/ready")


def _ask(port: int, method: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def guarded(iris_app: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    import hashlib

    from runtime_servers import Runtime

    digest = hashlib.sha256((iris_app / "model.joblib").read_bytes()).hexdigest()
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# who may ask\nalice:{KEY}\n\nanother-long-key\n")
    config = {"model": {"path": "model.joblib", "format": "joblib", "engine": "sklearn", "sha256": digest}}
    server = Runtime(iris_app, {**config, "cors": ["https://app.example"]}, {"LIGHTSHIP_API_KEYS_FILE": str(keys)})
    try:
        yield server.ready()
    finally:
        server.close()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "wrong-key-altogether"},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + " x"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Cookie": f"key={KEY}"},
    ],
)
def test_every_route_but_health_needs_a_key(guarded: Any, method: str, path: str, headers: dict[str, str]) -> None:
    status, answered, body = _ask(guarded.port, method, path, headers)
    assert status == 401
    assert "Bearer" in answered["www-authenticate"]
    assert KEY not in body.decode()


@pytest.mark.parametrize("path", OPEN)
def test_probes_need_none_and_tell_nothing(guarded: Any, path: str) -> None:
    status, _, body = _ask(guarded.port, "GET", path, {})
    assert status == 200
    assert set(json.loads(body)) <= {"status", "live", "ready"}


@pytest.mark.parametrize(
    "headers", [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"X-API-Key": "another-long-key"}]
)
def test_a_key_opens(guarded: Any, headers: dict[str, str]) -> None:
    assert _ask(guarded.port, "POST", "/predict", headers, ROW)[0] == 200
    assert _ask(guarded.port, "GET", "/metrics", headers)[0] == 200


def _basic(password: str, name: str = "anybody") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", ["/", "/docs", "/assets/try.js", "/openapi.json"])
def test_a_browser_prompts_for_the_key_of_a_page(guarded: Any, path: str) -> None:
    status, headers, _ = _ask(guarded.port, "GET", path, {})
    assert (status, [value.split()[0] for value in headers.get_all("www-authenticate")]) == (401, ["Bearer", "Basic"])
    assert _ask(guarded.port, "GET", path, _basic(KEY))[0] == 200
    for wrong in (
        _basic(KEY + " "),
        _basic(""),
        _basic(KEY, "a:b"),
        {"Authorization": "Basic !"},
        {"Authorization": "Basic"},
    ):
        assert _ask(guarded.port, "GET", path, wrong)[0] == 401
    status, headers, _ = _ask(guarded.port, "GET", path, {"X-Lightship-Page": "1"})  # the page itself: no prompt
    assert (status, headers.get_all("www-authenticate")) == (401, ['Bearer realm="lightship"'])


@pytest.mark.parametrize("path", ["/predict", "/v2/models/model/infer", "/metrics", "/nowhere"])
def test_what_a_browser_sends_by_itself_is_taken_from_our_pages_only(guarded: Any, path: str) -> None:
    for method in ("GET", "POST"):
        status, headers, _ = _ask(guarded.port, method, path, _basic(KEY), ROW)
        assert (status, headers.get_all("www-authenticate")) == (401, ['Bearer realm="lightship"'])
        assert _ask(guarded.port, method, path, {**_basic(KEY), "X-Lightship-Page": "1"}, ROW)[0] != 401
        assert _ask(guarded.port, method, path, {**_basic("wrong-key"), "X-Lightship-Page": "1"}, ROW)[0] == 401


def test_no_other_site_may_add_the_header_of_our_pages(guarded: Any) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    _, headers, _ = _ask(
        guarded.port, "OPTIONS", "/predict", {**asked, "Access-Control-Request-Headers": "x-lightship-page"}
    )
    assert "x-lightship-page" not in headers["access-control-allow-headers"]
    assert "*" not in headers["access-control-allow-headers"]


@pytest.mark.tool("chromium")
def test_the_page_is_used_with_a_key_that_is_typed_once(guarded: Any) -> None:
    from page_site import chromium
    from playwright.sync_api import Error, expect

    expect.set_options(timeout=30_000)  # milliseconds; generous, because the machine may be busy with other tests
    with chromium() as browser:
        with pytest.raises(Error, match="AUTH"):  # prompted, and nothing is typed
            browser.new_page().goto(f"http://127.0.0.1:{guarded.port}/")
        page = browser.new_page(http_credentials={"username": "me", "password": KEY})  # what is typed into the prompt
        page.goto(f"http://127.0.0.1:{guarded.port}/")
        expect(page.get_by_role("status")).to_have_text("Ready")
        page.get_by_role("tab", name="JSON").first.click()
        page.locator("#json").fill(ROW)
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#answer-result")).to_contain_text("setosa")
        expect(page.locator("#code-curl")).to_contain_text("$API_KEY")
        assert KEY not in page.content()
        page.get_by_role("link", name="openapi.json").first.click()
        expect(page.locator("body")).to_contain_text('"openapi"')


def test_a_page_of_an_allowed_origin_may_read_answers_and_no_other(guarded: Any) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    status, headers, _ = _ask(guarded.port, "OPTIONS", "/predict", asked)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert "authorization" in headers["access-control-allow-headers"]
    _, headers, _ = _ask(guarded.port, "POST", "/predict", {"Origin": "https://app.example", "X-API-Key": KEY}, ROW)
    assert headers["access-control-allow-origin"] == "https://app.example"
    _, headers, _ = _ask(guarded.port, "POST", "/predict", {"Origin": "https://evil.example", "X-API-Key": KEY}, ROW)
    assert headers["access-control-allow-origin"] is None
    assert "access-control-allow-credentials" not in headers


def test_by_default_no_origin_is_allowed(iris: Any) -> None:
    _, headers, _ = _ask(iris.port, "POST", "/predict", {"Origin": "https://app.example"}, ROW)
    assert not [name for name in headers if name.startswith("access-control")]


def test_keys_are_named_and_long_and_never_quoted(tmp_path: Path) -> None:
    assert load_keys({"LIGHTSHIP_API_KEYS": "alice:abcdefgh,12345678"}).names == ["alice", "key-2"]
    assert not load_keys({})
    with pytest.raises(ConfigError) as caught:
        load_keys({"LIGHTSHIP_API_KEYS": "bob:s3cret"})
    assert "s3cret" not in caught.value.message
    with pytest.raises(ConfigError, match="Two API keys"):
        load_keys({"LIGHTSHIP_API_KEYS": "bob:12345678,bob:87654321"})
    empty = tmp_path / "keys"
    empty.write_text("# nobody\n")
    with pytest.raises(ConfigError, match="holds no key"):  # and not: everybody may
        load_keys({"LIGHTSHIP_API_KEYS_FILE": str(empty)})
    with pytest.raises(ConfigError, match="Could not read"):
        load_keys({"LIGHTSHIP_API_KEYS_FILE": str(tmp_path / "gone")})


@pytest.mark.tool("openssl")
def test_https_with_a_certificate_of_files(
    start: Any, iris_app: Path, iris_config: dict[str, Any], tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server = start(iris_app, {**iris_config, "tls_certificate": str(certificate), "tls_key": str(key)}).ready()
    context = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)
    for _ in range(2):
        connection.request("POST", "/predict", ROW, {"Content-Type": "application/json"})
        assert json.loads(connection.getresponse().read()) == {"predictions": ["setosa"]}
    connection.close()
    assert server.stop() == 0


def test_a_certificate_that_cannot_be_read_is_named(start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
    code, failed = start(iris_app, {**iris_config, "tls_certificate": "/nowhere/cert.pem"}).failure()
    assert code == 2
    assert "/nowhere/cert.pem" in failed["message"]
