"""The health check's program against real servers, and how little it imports."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightship_runtime.healthcheck import check


def _run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightship_runtime.healthcheck"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_follows_the_server(start: Any, iris_app: Path, iris_config: dict[str, Any]) -> None:
    server = start(iris_app, iris_config).ready()
    assert _run(server.environment).returncode == 0
    server.stop()
    result = _run(server.environment)
    assert result.returncode == 1
    assert str(server.port) in result.stderr


def test_it_asks_the_configured_path_on_the_port_of_the_environment(start: Any, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "from fastapi import FastAPI\n"
        "app = FastAPI()\n"
        "@app.get('/well')\n"
        "def well(): return 'yes'\n"
        "@app.get('/ill', status_code=503)\n"
        "def ill(): return 'no'\n"
    )
    server = start(tmp_path, {"app": "web:app", "health": "/well", "port": 1}, PORT="0")
    assert server.failure()[0] == 2  # PORT=0 is no port
    server = start(tmp_path, {"app": "web:app", "health": "/well"}).ready()
    assert _run({**server.environment, "LIGHTSHIP_PORT": str(server.port)}).returncode == 0
    assert check("127.0.0.1", server.port, "/ill") == "/ill answers 503"


@pytest.mark.parametrize("content", [None, "", "[]", '{"port": "x"}'])
def test_a_configuration_that_cannot_be_read_is_unhealthy(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "serve.json"
    if content is not None:
        path.write_text(content)
    result = _run({**os.environ, "LIGHTSHIP_CONFIG": str(path)})
    assert result.returncode == 1
    assert result.stderr.startswith("not healthy: could not read the configuration")


@pytest.mark.parametrize("module", ["lightship_runtime.healthcheck", "lightship_runtime.__main__"])
def test_it_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, json; import {module}; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-S", "-c", code]
    path = str(Path(__file__).parents[2] / "packages" / "lightship-runtime" / "src")
    found = json.loads(subprocess.run(command, capture_output=True, env={"PYTHONPATH": path}, check=True).stdout)
    assert not {"asyncio", "http.client", "email", "ssl", "msgspec", "numpy", "uvicorn"} & set(found)


def test_the_server_imports_no_machine_learning_library_before_a_model_asks_for_it() -> None:
    code = (
        "import sys, lightship_runtime.serve, lightship_runtime.front.server, lightship_runtime.host.host, "
        "lightship_runtime.engines.registry as r\n"
        "for name in r._CLASSES: r.find_engine(name)\n"
        "print([name for name in ('numpy', 'sklearn', 'pandas', 'onnxruntime', 'lightgbm') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
