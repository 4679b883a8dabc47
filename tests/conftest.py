"""What every test may ask for: a session with a cache of its own, and external programs by name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from machine import absent

from lightship.cache import Cache
from lightship.layers import EPOCH, Compression, Layer, TarWriter, materialise, recipe_key
from lightship.oci.image import Image, Settings
from lightship.run.docker import DockerEngine
from lightship.run.podman import PodmanEngine
from lightship.run.ports import free_port
from lightship.session import Session

SERVE = ("httpd", "-f", "-p", "8080", "-h", "/app")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tool(name): needs an external program")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("tool"):
        (name,) = marker.args
        if shutil.which(name) is None:
            absent(f"the program {name!r} is not installed")
    if item.get_closest_marker("gpu") and not Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has no NVIDIA GPU: make test-gpu, on one that has")


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A session with an empty cache and the caller's environment."""
    return Session(cache=Cache(tmp_path / "cache"), environ=dict(os.environ), jobs=2)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that lasts for the whole run, for tests that download real packages."""
    if chosen := os.environ.get("LIGHTSHIP_TEST_CACHE"):
        return Path(chosen)
    return tmp_path_factory.getbasetemp().parent / "shared-cache"


@dataclass(frozen=True)
class FilesRecipe:
    """A layer of small files at hand: `{"bin/sh": (content, mode)}`; a text in place of the pair is a symlink."""

    files: dict[str, tuple[bytes, int] | str]
    kind: str = "app"
    title: str = "files of a test"

    @property
    def key(self) -> str:
        return recipe_key("test-files", 1, repr(sorted(self.files.items())))

    def write(self, tar: TarWriter) -> None:
        for path, what in sorted(self.files.items()):
            if isinstance(what, str):
                tar.symlink(path, what)
            else:
                tar.content(path, what[0], mode=what[1])


@pytest.fixture
def make_layer(session: Session) -> Callable[..., Layer]:
    """`make_layer(files, compression)`: a layer of small files, in the session's cache."""

    def make(files: dict[str, tuple[bytes, int] | str], compression: Compression = Compression.ZSTD) -> Layer:
        return materialise(FilesRecipe(files), session.cache, compression)

    return make


@pytest.fixture
def small_image(make_layer: Callable[..., Layer]) -> Callable[..., Image]:
    """`small_image(text, compression)`: two layers, the second of which holds the text; for looks at documents."""

    def make(text: str = "hello", compression: Compression = Compression.ZSTD) -> Image:
        system = make_layer({"etc/os-release": (b'PRETTY_NAME="A test"\n', 0o644)}, compression)
        app = make_layer({"app/text": (text.encode(), 0o644)}, compression)
        return Image((system, app), Settings(entrypoint=("/bin/true",)))

    return make


@pytest.fixture
def busybox_image(session: Session, request: pytest.FixtureRequest) -> Callable[..., Image]:
    """`busybox_image(compression)`: an image that really runs, serving /app over HTTP with busybox on port 8080.

    Its ID differs from test to test, so that tests can load and remove it side by side.
    """
    program = shutil.which("busybox")
    if program is None or b"ld-linux" in Path(program).read_bytes()[:4096]:  # where ELF's interpreter stands
        absent("a static busybox is not installed")

    test = request.node.nodeid

    def make(compression: Compression = Compression.ZSTD, command: tuple[str, ...] = SERVE) -> Image:
        assert program is not None
        content = Path(program).read_bytes()
        system = {"bin/busybox": (content, 0o755), "bin/sh": "busybox", "tmp/.keep": (b"", 0o644)}
        app = {"app/hello.txt": (b"hello from a container\n", 0o644)}
        layers = [materialise(FilesRecipe(files), session.cache, compression) for files in (system, app)]
        settings = Settings(entrypoint=("/bin/busybox", *command), environment=(("GREETING", "ahoy"), ("TEST", test)))
        return Image(tuple(layers), settings, created=EPOCH)

    return make


@pytest.fixture
def docker(session: Session) -> DockerEngine:
    """A Docker engine that answers (`scripts/with-dockerd make test` starts one)."""
    engine = DockerEngine(session.environ)
    if why := engine.why_not():
        absent(f"Docker cannot be used: {why}")
    return engine


@pytest.fixture
def podman(session: Session) -> PodmanEngine:
    """A Podman engine that can run containers."""
    engine = PodmanEngine(session.environ)
    if why := engine.why_not():
        absent(f"Podman cannot be used: {why}")
    return engine


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`start_registry(settings)`: run docker-registry for the test and return its address on loopback.

    `settings` are environment variables over its configuration; its files are in tmp_path / "registry".
    """
    with ExitStack() as stack:
        yield lambda settings=None: stack.enter_context(_served_registry(tmp_path / "registry", settings or {}))


@pytest.fixture
def registry(start_registry: Callable[..., str]) -> str:
    """The address of an empty registry that everybody may use."""
    return start_registry()


@contextmanager
def _served_registry(directory: Path, settings: Mapping[str, str]) -> Iterator[str]:
    program = shutil.which("docker-registry")
    if program is None:
        absent("the program 'docker-registry' is not installed")
    address = f"127.0.0.1:{free_port()}"
    directory.mkdir()
    configuration = directory / "config.yml"
    configuration.write_text("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s\n" % (directory / "data"))
    environ = {**os.environ, "REGISTRY_HTTP_ADDR": address, "REGISTRY_LOG_LEVEL": "error", **settings}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", configuration], env=environ, stdout=log, stderr=log)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1):
                break
            assert process.poll() is None, (directory / "log").read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait()
