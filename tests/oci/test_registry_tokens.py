"""Registries that want tokens, send their users elsewhere, or mean harm: a small server on loopback plays them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lightship.errors import IntegrityError, LightshipError, NetworkError, ProjectError
from lightship.oci.credentials import find_account
from lightship.oci.image import Image, Platform
from lightship.oci.name import Reference
from lightship.oci.published import read_image
from lightship.oci.registry import RegistrySource
from lightship.session import Session

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Server:
    """Answers by path (the query excluded); a function decides from the request's headers. Notes what was asked."""

    answers: dict[str, Answer | Callable[[dict[str, str]], Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def headers_of(self, path: str) -> list[dict[str, str]]:
        return [headers for asked, headers in self.asked if asked.partition("?")[0] == path]


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append((self.path, headers))
            answer = server.answers.get(self.path.partition("?")[0], (404, {}, b""))
            status, sent, body = answer(headers) if callable(answer) else answer
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | sent).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"{host}:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def storage() -> Iterator[Server]:
    """Another origin, as the object storage behind a registry is."""
    with serving("localhost") as server:
        yield server


def with_token(answer: Answer, server: Server, realm: str | None = None) -> Callable[[dict[str, str]], Answer]:
    """The answer, for those who bring the token."""
    challenge = f'Bearer realm="{realm or f"http://{server.address}/token?a=b"}",service="the service",scope="x"'

    def decide(headers: dict[str, str]) -> Answer:
        if headers.get("authorization") == "Bearer the-token":
            return answer
        return 401, {"WWW-Authenticate": challenge}, b""

    return decide


def offer(server: Server, image: Image, session: Session) -> None:
    """Let a server offer the image under `base:1`, to those who bring a token."""
    server.answers["/v2/"] = with_token((200, {}, b"{}"), server)
    server.answers["/token"] = (200, {}, b'{"access_token": "the-token", "expires_in": 300}')
    blobs = {image.config_digest: image.config}
    for layer in image.layers:
        blobs[layer.digest] = session.cache.blob_path(layer.digest).read_bytes()
        session.cache.blob_path(layer.digest).unlink()
    server.answers["/v2/base/manifests/1"] = with_token((200, {}, image.manifest), server)
    for digest, content in blobs.items():
        server.answers[f"/v2/base/blobs/{digest}"] = with_token((200, {}, content), server)


def source(server: Server, session: Session, tmp_path: Path) -> RegistrySource:
    user = base64.b64encode(b"harbour:quay-side").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {server.address: {"auth": user}}}))
    session = replace(session, environ={"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
    return RegistrySource(Reference.parse(f"{server.address}/base:1"), session)


def test_a_token_is_fetched_with_the_account_and_used(
    server: Server, session: Session, small_image: Callable[..., Image], tmp_path: Path
) -> None:
    image = small_image()
    offer(server, image, session)
    base = source(server, session, tmp_path)
    base.pull(read_image(base, Platform()).manifest.layers, session)
    assert all(session.cache.has_blob(layer.digest, layer.size) for layer in image.layers)
    path, headers = next((path, headers) for path, headers in server.asked if path.startswith("/token"))
    assert path == "/token?a=b&service=the%20service&scope=repository%3Abase%3Apull"
    assert headers["authorization"] == "Basic " + base64.b64encode(b"harbour:quay-side").decode()


def test_a_redirect_to_another_origin_loses_the_token(
    server: Server, storage: Server, session: Session, small_image: Callable[..., Image], tmp_path: Path
) -> None:
    image = small_image()
    first = image.layers[0].digest
    content = session.cache.blob_path(first).read_bytes()
    offer(server, image, session)
    location = {"Location": f"http://{storage.address}/object?signature=1"}
    server.answers[f"/v2/base/blobs/{first}"] = with_token((307, location, b""), server)
    storage.answers["/object"] = (200, {}, content)
    base = source(server, session, tmp_path)
    base.pull(read_image(base, Platform()).manifest.layers, session)
    assert session.cache.has_blob(first)
    (headers,) = storage.headers_of("/object")
    assert "authorization" not in headers


def test_a_body_that_is_cut_short_is_fetched_again(
    server: Server, session: Session, small_image: Callable[..., Image], tmp_path: Path
) -> None:
    image = small_image()
    first = image.layers[0].digest
    content = session.cache.blob_path(first).read_bytes()
    offer(server, image, session)
    cut = [(200, {"Content-Length": str(len(content))}, content[:20]), (200, {}, content), (200, {}, content)]
    server.answers[f"/v2/base/blobs/{first}"] = lambda headers: cut.pop(0)
    base = source(server, session, tmp_path)
    base.pull(read_image(base, Platform()).manifest.layers, session)
    assert session.cache.has_blob(first, len(content))


def test_a_body_without_an_end_is_cut_off(
    server: Server, session: Session, small_image: Callable[..., Image], tmp_path: Path
) -> None:
    image = small_image()
    first = image.layers[0].digest
    offer(server, image, session)
    server.answers[f"/v2/base/blobs/{first}"] = (200, {}, bytes(1 << 20))
    base = source(server, session, tmp_path)
    layers = read_image(base, Platform()).manifest.layers
    with pytest.raises(IntegrityError, match="more than"):
        base.pull(layers, session)
    server.answers["/v2/base/manifests/1"] = (200, {}, b" " * (9 << 20))
    with pytest.raises(LightshipError, match="more than the 8388608 bytes"):
        base.top()


def test_a_manifest_that_is_not_the_pinned_one_is_refused(
    server: Server, session: Session, small_image: Callable[..., Image], tmp_path: Path
) -> None:
    image, other = small_image("one"), small_image("two")
    offer(server, image, session)
    server.answers[f"/v2/base/manifests/{other.digest}"] = server.answers["/v2/base/manifests/1"]
    base = source(server, session, tmp_path)
    base.reference = base.reference.at(other.digest)
    with pytest.raises(IntegrityError, match="another manifest"):
        base.top()


@pytest.mark.parametrize(
    "realm",
    [
        "http://example.org/token",
        "file:///etc/passwd",
        "",
        "//x",
        "http://[::1",
        "https:///token",
        "http://127.0.0.1@example.org/",
    ],
)
def test_no_password_is_sent_in_the_clear_or_to_nowhere(
    server: Server, session: Session, tmp_path: Path, realm: str
) -> None:
    server.answers["/v2/"] = (401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}, b"")
    with pytest.raises(NetworkError, match="no password is sent there"):
        source(server, session, tmp_path).top()


@pytest.mark.parametrize(
    "reply", [b"", b"[]", b"{}", b'{"token": ""}', b'{"token": 5}', b'{"token": "a\\r\\nX: y"}', b"x" * (65 << 10)]
)
def test_a_reply_without_a_token_is_an_error(server: Server, session: Session, tmp_path: Path, reply: bytes) -> None:
    server.answers["/v2/"] = with_token((200, {}, b"{}"), server)
    server.answers["/token"] = (200, {}, reply)
    with pytest.raises(LightshipError) as caught:
        source(server, session, tmp_path).top()
    assert "quay-side" not in str(caught.value) + str(caught.value.hint)


def test_an_unknown_kind_of_credentials_is_named(server: Server, session: Session, tmp_path: Path) -> None:
    server.answers["/v2/"] = (401, {"WWW-Authenticate": "Negotiate abc"}, b"")
    with pytest.raises(NetworkError, match="'Negotiate'"):
        source(server, session, tmp_path).top()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"auths": 5}', b'{"credsStore": "../../bin/sh"}'])
def test_a_broken_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ProjectError, match=r"config\.json"):
        find_account(Reference.parse("example.org/a"), {"DOCKER_CONFIG": str(tmp_path)})


def test_entries_of_other_tools_do_not_disturb(tmp_path: Path) -> None:
    config = {
        "auths": {"example.org": {}, "https://example.org": {"auth": "%%%"}},
        "psFormat": "table",
        "credHelpers": {},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_account(Reference.parse("example.org/a"), {"DOCKER_CONFIG": str(tmp_path)}) is None


def test_the_default_registry_has_its_own_key(tmp_path: Path) -> None:
    entry = {"https://index.docker.io/v1/": {"username": "harbour", "password": "secret"}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": entry}))
    account = find_account(Reference.parse("python:3.12"), {"DOCKER_CONFIG": str(tmp_path)})
    assert account is not None
    assert account.user == "harbour"
    assert "secret" not in repr(account)
