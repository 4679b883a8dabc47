"""The file that the builder writes and the runtime reads."""

import socket
from pathlib import Path

import pytest

from lightship_runtime.config import Config, ModelFile, app_directory, encode_config, load_config
from lightship_runtime.errors import ConfigError
from lightship_runtime.listener import bind

MODEL = ModelFile("models/model.joblib", "joblib", "sklearn", "0" * 64)


def _written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / ".lightship" / "serve.json"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "config", [Config(model=MODEL, golden="golden.json"), Config(app="serve:app", health="/healthz", port=9000)]
)
def test_what_the_builder_writes_the_runtime_reads(tmp_path: Path, config: Config) -> None:
    path = _written(tmp_path, encode_config(config))
    assert load_config(path, {}) == config
    assert app_directory(path) == tmp_path


def test_the_environment_overrides_the_port(tmp_path: Path) -> None:
    path = _written(tmp_path, encode_config(Config(app="serve:app")))
    assert load_config(path, {"PORT": "9001"}).port == 9001
    assert load_config(path, {"PORT": "9001", "LIGHTSHIP_PORT": "9002"}).port == 9002
    assert load_config(path, {"PORT": ""}).port == 8080


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "８０"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    path = _written(tmp_path, encode_config(Config(app="serve:app")))
    with pytest.raises(ConfigError, match="PORT"):
        load_config(path, {"PORT": port})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"{}", "exactly one"),
        (b'{"app": "serve:app", "model": {"path": "m", "format": "f", "engine": "sklearn"}}', "exactly one"),
        (b'{"app": "serve:app", "prot": 1}', "prot"),
        (b'{"app": "serve"}', "app"),
        (b'{"app": "serve:app", "golden": "../golden.json"}', "inside"),
        (b'{"model": {"path": "/etc/passwd", "format": "f", "engine": "sklearn"}}', "inside"),
        (b'{"model": {"path": "m", "format": "f", "engine": "magic"}}', "engine"),
        (b'{"model": {"path": "m", "format": "f", "engine": "sklearn", "sha256": "beef"}}', "sha256"),
        (b'{"app": "serve:app", "health": "/x\\r\\nHost: y"}', "health"),
        (b"not json", "serve.json"),
        (b"[" * 100_000, "serve.json"),
        (b" " * (1 << 21), "larger"),
    ],
)
def test_a_faulty_configuration_is_named_with_its_fault(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load_config(_written(tmp_path, content), {})


def test_a_missing_configuration_says_where_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serve\.json") as caught:
        load_config(tmp_path / "serve.json", {})
    assert "LIGHTSHIP_CONFIG" in (caught.value.hint or "")


def test_the_listener_is_one_whose_connections_answer_without_delay() -> None:
    with bind(Config(app="serve:app", host="127.0.0.1", port=_free_port())) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY by it


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_environment_is_stronger_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.json"
    path.write_bytes(encode_config(Config(app="serve:app", workers=2, queue=10)))
    environ = {
        "LIGHTSHIP_WORKERS": "4",
        "LIGHTSHIP_TIMEOUT": "1.5",
        "LIGHTSHIP_METRICS_OPEN": "true",
        "LIGHTSHIP_CORS": "https://a.example,https://b.example",
        "LIGHTSHIP_PORT": "9000",
    }
    config = load_config(path, environ)
    assert (config.workers, config.queue, config.timeout, config.port) == (4, 10, 1.5, 9000)
    assert config.metrics_open
    assert config.cors == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [("LIGHTSHIP_WORKERS", "many"), ("LIGHTSHIP_QUEUE", "-1"), ("LIGHTSHIP_CORS", "example.org")],
)
def test_a_variable_that_cannot_be_is_named(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "serve.json"
    path.write_bytes(encode_config(Config(app="serve:app")))
    with pytest.raises(ConfigError, match=name):
        load_config(path, {name: value})
