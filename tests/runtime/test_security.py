"""Lessons of other servers' holes, each as a check of the sources or of a whole server."""

import ast
import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from runtime_servers import family

import lightship_runtime

SOURCES = Path(lightship_runtime.__file__).parent
# Where something that can run code is read: files of the image, each checked by its sha256 before.
MAY_UNPICKLE = {"engines"}
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FETCHING = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "urllib3", "ftplib"}


def _imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _files() -> list[Path]:
    files = sorted(SOURCES.rglob("*.py"))
    assert len(files) > 40
    return files


def test_nothing_that_a_request_reaches_can_unpickle() -> None:
    reaching = {
        str(file.relative_to(SOURCES)): sorted(_imports(file) & UNPICKLING)
        for file in _files()
        if file.relative_to(SOURCES).parts[0] not in MAY_UNPICKLE and _imports(file) & UNPICKLING
    }
    assert reaching == {}


def test_numpy_is_never_allowed_to_unpickle() -> None:
    for file in _files():
        text = file.read_text()
        assert "allow_pickle=True" not in text.replace(" ", ""), file
        if file.relative_to(SOURCES).parts[0] == "payload":
            assert "numpy.load(" not in text, file


def test_no_url_is_ever_fetched() -> None:
    found = {str(file.relative_to(SOURCES)): found for file in _files() if (found := _imports(file) & FETCHING)}
    # llama.cpp's own server, on loopback behind a random key, makes tokens of texts: no address comes from a request.
    assert found == {"engines/llamacpp.py": {"http.client"}}


@pytest.mark.parametrize(
    "content_type", ["application/vnd.bentoml+pickle", "application/x-pickle", "application/octet-stream"]
)
def test_a_pickle_in_a_body_is_refused_and_not_run(iris: Any, tmp_path: Path, content_type: str) -> None:
    import pickle

    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (touched,)

    for name, value in {"Payload-Container": "NdarrayContainer", "X-Other": "1"}.items():
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", iris.port, timeout=60)
        connection.request("POST", "/predict", pickle.dumps(Evil()), {"Content-Type": content_type, name: value})
        assert connection.getresponse().status in (400, 415)
        connection.close()
    assert not touched.exists()


def test_a_url_in_a_request_brings_nobody_a_visit(iris: Any) -> None:
    visits = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1.0)

        def accept() -> None:
            with contextlib.suppress(TimeoutError):
                visits.append(listener.accept())

        watcher = threading.Thread(target=accept)
        watcher.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.png"
        for body in ([url], {"instances": [{"url": url}]}, {"inputs": url}, {"instances": [{"b64": url}]}):
            assert iris.predict(body)[0] == 400
        watcher.join()
    assert visits == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/model/load",
        "/v2/systemsharedmemory/region/x/register",
        "/models",
        "/api/jobs/",
        "/load_model",
        "/admin",
        "/v2/models/..%2f..%2fetc%2fpasswd",
        "/assets/../config.py",
        "/assets/..%2f..%2fconfig.py",
        "/assets/%252e%252e/config.py",
        "//etc/passwd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_is_nothing_to_manage_and_no_file_to_read(iris: Any, method: str, path: str) -> None:
    assert iris.ask(method, path, b"{}" if method == "POST" else None)[0] in (404, 405)


def test_answers_name_no_product_and_no_version(iris: Any) -> None:
    with socket.create_connection(("127.0.0.1", iris.port), 60) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]")
        received = b""
        while data := connection.recv(65536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert names == {b"content-type", b"content-length", b"connection"}
    assert lightship_runtime.__version__.encode() not in received
    assert set(json.loads(body)) == {"error"}


def test_processes_speak_over_sockets_that_nobody_else_can_open(iris: Any) -> None:
    """Between the processes there are socket pairs only: no port, no path, no abstract name."""
    mine = {str(pid) for pid in [iris.process.pid, *family(iris.process.pid)]}
    inodes = set()
    for pid in mine:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] in inodes:
            assert len(fields) == 7, f"a named socket: {line}"
    listening = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[9] in inodes and line.split()[3] == "0A"
    ]
    assert [int(fields[1].split(":")[1], 16) for fields in listening] == [iris.port]


def test_a_compressed_body_is_refused_before_anything_is_unpacked(iris: Any) -> None:
    import gzip
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", iris.port, timeout=60)
    connection.request("POST", "/predict", gzip.compress(b" " * 1_000_000), {"Content-Encoding": "gzip"})
    assert connection.getresponse().status == 415
    connection.close()
