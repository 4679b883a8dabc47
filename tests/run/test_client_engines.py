"""Docker and Podman, for real: images go in, servers answer, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lightship.errors import EngineError
from lightship.layers import Compression
from lightship.oci.image import Image
from lightship.run.client import Client
from lightship.run.docker import DockerEngine
from lightship.run.engine import Container, RunOptions
from lightship.run.podman import PodmanEngine
from lightship.session import Session

MakeImage = Callable[..., Image]
ClientEngine = DockerEngine | PodmanEngine


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> ClientEngine:
    engine: ClientEngine = request.getfixturevalue(request.param)
    return engine


@pytest.fixture
def unloaded(engine: ClientEngine, session: Session) -> Iterator[Callable[[Image], Image]]:
    """`unloaded(image)`: make sure that the engine lacks the image, now and after the test."""
    client = Client(engine.name, session.environ)
    images: list[Image] = []

    def remove(image: Image) -> Image:
        images.append(image)
        client.attempt("image", "rm", "--force", image.config_digest.removeprefix("sha256:"))
        return image

    yield remove
    for image in images:
        client.attempt("image", "rm", "--force", image.config_digest.removeprefix("sha256:"))


def answer(container: Container, path: str) -> str:
    """What the server inside says, as soon as it listens."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{container.port}{path}", timeout=5) as response:
                return str(response.read().decode())
        except OSError:
            assert container.wait(0) is None, container.logs()
            time.sleep(0.1)
    raise AssertionError(f"no answer: {container.logs()}")


@pytest.mark.parametrize("compression", list(Compression))
def test_an_image_is_loaded_and_answers(
    engine: ClientEngine,
    session: Session,
    busybox_image: MakeImage,
    unloaded: Callable[[Image], Image],
    compression: Compression,
) -> None:
    image = unloaded(busybox_image(compression))
    container = engine.start(image, session, RunOptions(grace=1))
    try:
        assert answer(container, "/hello.txt") == "hello from a container\n"
        assert container.wait(0.05) is None
    finally:
        container.stop()


def test_loading_gives_the_image_id_and_the_name(
    engine: ClientEngine, session: Session, busybox_image: MakeImage, unloaded: Callable[[Image], Image]
) -> None:
    image = unloaded(busybox_image())
    client = Client(engine.name, session.environ)
    assert engine.load(image, session, name="localhost/lightship-test:first") == image.config_digest
    assert engine.load(image, session, name="localhost/lightship-test:second") == image.config_digest
    for tag in ("first", "second"):
        assert client.image_id(f"localhost/lightship-test:{tag}") == image.config_digest


def test_an_image_that_is_there_is_not_sent_again(
    engine: ClientEngine, session: Session, busybox_image: MakeImage, unloaded: Callable[[Image], Image]
) -> None:
    image = unloaded(busybox_image())
    engine.load(image, session)
    for layer in image.layers:
        session.cache.blob_path(layer.digest).unlink()
    assert engine.load(image, session) == image.config_digest


def test_a_layer_that_has_left_the_cache_stops_the_load(
    engine: ClientEngine, session: Session, make_layer: Callable[..., object], busybox_image: MakeImage
) -> None:
    image = busybox_image(command=("true", "a layer is missing"))
    for layer in image.layers:
        session.cache.blob_path(layer.digest).unlink()
    with pytest.raises(Exception, match="cache"):
        engine.load(image, session)


def test_environment_logs_exit_status_and_removal(
    engine: ClientEngine, session: Session, busybox_image: MakeImage, unloaded: Callable[[Image], Image]
) -> None:
    script = 'echo "$GREETING $NAME"; echo problem >&2; exit 7'
    image = unloaded(busybox_image(command=("sh", "-c", script)))
    options = RunOptions(environment=(("NAME", "two words"),), name=f"lightship-test-{os.getpid()}")
    container = engine.start(image, session, options)
    assert container.wait(30) == 7
    assert container.wait() == 7
    assert sorted(container.logs().splitlines()) == ["ahoy two words", "problem"]
    assert container.stop() == 7
    assert container.stop() == 7
    assert "ahoy" in container.logs()
    client = Client(engine.name, session.environ)
    assert client.attempt("container", "inspect", str(options.name)).returncode != 0


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace_period(
    engine: ClientEngine, session: Session, busybox_image: MakeImage, unloaded: Callable[[Image], Image]
) -> None:
    image = unloaded(busybox_image(command=("sh", "-c", "trap '' TERM; while true; do sleep 1; done")))
    container = engine.start(image, session, RunOptions(grace=1))
    assert container.wait(0) is None
    assert container.stop() == 137


def test_a_taken_port_is_said_to_be_taken(
    engine: ClientEngine, session: Session, busybox_image: MakeImage, unloaded: Callable[[Image], Image]
) -> None:
    image = unloaded(busybox_image())
    first = engine.start(image, session, RunOptions(grace=1))
    name = f"lightship-test-{os.getpid()}"
    try:
        with pytest.raises(EngineError) as caught:
            engine.start(image, session, RunOptions(port=first.port, name=name))
        assert caught.value.hint is not None
        assert "--port" in caught.value.hint
        assert Client(engine.name, session.environ).attempt("container", "inspect", name).returncode != 0
    finally:
        first.stop()


@pytest.mark.parametrize("kind", [DockerEngine, PodmanEngine])
def test_an_engine_that_is_not_installed_says_so(kind: type[ClientEngine], tmp_path: Path) -> None:
    why = kind({"PATH": str(tmp_path)}).why_not()
    assert why is not None
    assert "is not installed" in why


@pytest.mark.tool("docker")
def test_a_daemon_that_does_not_answer_is_a_reason(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    why = DockerEngine(environ).why_not()
    assert why is not None
    assert "no Docker daemon answers" in why


def test_no_error_shows_the_values_of_variables(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Error: it is broken' >&2\nexit 1\n")
    program.chmod(0o755)
    client = Client("docker", {"PATH": f"{tmp_path}:/bin:/usr/bin"})
    with pytest.raises(EngineError) as caught:
        client.call("create", "--env", "TOKEN=secret", "image")
    assert "it is broken" in caught.value.message
    assert "secret" not in str(caught.value) + str(caught.value.hint)
    assert subprocess.run([program], check=False, capture_output=True).returncode == 1
