"""The user's own application: served unchanged, and explained where it cannot be."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightship_runtime.golden import load_golden

EXAMPLE = Path(__file__).parents[2] / "examples" / "iris-fastapi"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the FastAPI example, with its model trained by its own script."""
    app = tmp_path_factory.mktemp("example") / "app"
    shutil.copytree(EXAMPLE, app, ignore=shutil.ignore_patterns("models", ".lightship", "__pycache__"))
    subprocess.run([sys.executable, str(app / "train.py")], check=True, stdout=subprocess.DEVNULL)
    return app


def test_the_fastapi_example_is_served_unchanged(start: Any, example: Path) -> None:
    server = start(example, {"app": "serve:app"}).ready()
    assert server.ask("GET", "/health") == (200, {"status": "ok"})
    golden = load_golden(example / "golden.json")
    status, answer = server.ask("POST", golden.path, golden.body)
    assert status == 200
    assert golden.differences(answer) == []
    assert server.predict("no list")[0] == 422  # FastAPI's own validation
    assert server.ask("GET", "/openapi.json")[0] == 200
    assert server.stop() == 0
    assert server.event("import")["app"] == "serve:app"


def test_a_wsgi_application_is_served_too(start: Any, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'application/json')])\n"
        "    return [b'{\"path\": \"' + environ['PATH_INFO'].encode() + b'\"}']\n"
    )
    server = start(tmp_path, {"app": "web:app"}).ready()
    assert server.ask("GET", "/x") == (200, {"path": "/x"})
    assert server.stop() == 0


def test_a_factory_is_called(start: Any, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "from fastapi import FastAPI\n"
        "def make():\n"
        "    app = FastAPI()\n"
        "    @app.get('/')\n"
        "    def root(): return 'made'\n"
        "    return app\n"
    )
    server = start(tmp_path, {"app": "web:make"}).ready()
    assert server.ask("GET", "/") == (200, "made")


def test_the_port_opens_after_the_applications_own_start_up(start: Any, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "import contextlib, pathlib, time\n"
        "from fastapi import FastAPI\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
        "    yield\n"
        "    pathlib.Path('ended').touch()\n"
        "app = FastAPI(lifespan=lifespan)\n"
    )
    server = start(tmp_path, {"app": "web:app"})
    server.wait_for("import")
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/")
    (tmp_path / "go").touch()
    server.ready()
    assert server.ask("GET", "/openapi.json")[0] == 200
    assert server.stop() == 0
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize(
    ("source", "app", "message"),
    [
        ("", "nothing:app", "no module 'nothing'"),
        ("", "web:app", "has no 'app'"),
        ("app = 1", "web:app", "of the type int"),
        ("import no_such_package\napp = 1", "web:app", "no_such_package"),
        ("raise RuntimeError('no weights')", "web:app", "no weights"),
        ("def app(:", "web:app", "SyntaxError"),
    ],
)
def test_an_application_that_cannot_be_imported_is_explained(
    start: Any, tmp_path: Path, source: str, app: str, message: str
) -> None:
    (tmp_path / "web.py").write_text(source)
    code, failed = start(tmp_path, {"app": app}).failure()
    assert code == 1
    assert message in failed["message"]
    assert failed["hint"]


def test_a_start_up_that_fails_ends_the_process(start: Any, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "import contextlib\n"
        "from fastapi import FastAPI\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    raise RuntimeError('no database')\n"
        "    yield\n"
        "app = FastAPI(lifespan=lifespan)\n"
    )
    server = start(tmp_path, {"app": "web:app"})
    code, failed = server.failure()
    assert code == 1
    assert "start-up failed" in failed["message"]
    assert any("no database" in str(event) for event in server.events)
