"""Downloads: what real networks do, done by a server on loopback."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from loopback_server import LoopbackServer

from lightship.cache import Cache
from lightship.download import Download, GoneError, content_sizes, download_all, fetch_bytes
from lightship.errors import IntegrityError, NetworkError, StorageError
from lightship.progress import Silent
from lightship.session import Session
from lightship.transport import masked, origin_of, proxy_for

CONTENT = bytes(range(256)) * 8000  # about 2 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(files={"/a.whl": CONTENT}) as running:
        yield running


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(Cache(tmp_path / "cache"), environ={"HOME": str(tmp_path)})


def wanted(*urls: str, sha256: str = SHA256, size: int | None = len(CONTENT)) -> Download:
    return Download(urls, sha256, size, "a 1.0")


def left_over(session: Session) -> list[Path]:
    """What lies in the cache besides blobs that are whole."""
    temporary = session.cache.root / "tmp"
    return list(temporary.iterdir()) if temporary.exists() else []


class Watched(Silent):
    """Counts what the progress was told."""

    def __init__(self) -> None:
        self.totals: list[int | None] = []
        self.done = 0

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Watched]:
        self.totals.append(total)
        yield self

    def advance(self, amount: int) -> None:
        self.done += amount


def test_a_file_is_fetched_once_and_found_in_the_cache_from_then_on(server: LoopbackServer, session: Session) -> None:
    download = wanted(f"{server.url}/a.whl")
    paths = download_all([download, download], session)
    assert paths[SHA256].read_bytes() == CONTENT
    assert download_all([download], replace(session, offline=True)) == paths
    assert server.asked() == ["/a.whl"]


def test_a_blob_of_the_wrong_size_is_fetched_again(server: LoopbackServer, session: Session) -> None:
    download = wanted(f"{server.url}/a.whl")
    path = download_all([download], session)[SHA256]
    os.truncate(path, 10)
    assert download_all([download], session)[SHA256].read_bytes() == CONTENT


def test_a_cut_connection_is_resumed_where_it_broke(server: LoopbackServer, session: Session) -> None:
    server.cuts["/a.whl"] = [700_000, 300_000]
    progress = Watched()
    download_all([wanted(f"{server.url}/a.whl")], replace(session, progress=progress))
    ranges = [request.headers.get("Range") for request in server.requests]
    assert ranges[0] is None
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in ranges[1:] if asked]
    assert starts == [700_000, 1_000_000]
    assert server.requests[1].headers["If-Range"] == '"one"'
    assert progress.totals == [len(CONTENT)]
    assert progress.done == len(CONTENT)


def test_a_server_without_ranges_is_read_from_the_start_again(server: LoopbackServer, session: Session) -> None:
    server.ranges = False
    server.cuts["/a.whl"] = [700_000]
    progress = Watched()
    paths = download_all([wanted(f"{server.url}/a.whl")], replace(session, progress=progress))
    assert paths[SHA256].read_bytes() == CONTENT
    assert progress.done == len(CONTENT)


def test_a_file_that_was_complete_when_the_connection_broke_is_kept(server: LoopbackServer, session: Session) -> None:
    """A server that tells no length ends a file by closing; the second request then asks beyond the end."""
    server.tells_size = False
    assert download_all([wanted(f"{server.url}/a.whl", size=None)], session)[SHA256].read_bytes() == CONTENT


def test_two_versions_of_a_file_are_never_joined_into_one(server: LoopbackServer, session: Session) -> None:
    """A file that changed between two requests gives wrong bytes once, and is then read as a whole."""
    first = b"old" * 300_000
    server.files["/a.whl"] = first.ljust(len(CONTENT), b"x")
    server.cuts["/a.whl"] = [700_000]
    pieces = iter([server.files["/a.whl"], CONTENT, CONTENT])
    server.pages = lambda path: ("application/zip", next(pieces))
    assert download_all([wanted(f"{server.url}/a.whl")], session)[SHA256].read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again(server: LoopbackServer, session: Session, status: int) -> None:
    server.statuses["/a.whl"] = [status]
    download_all([wanted(f"{server.url}/a.whl")], session)
    assert server.asked() == ["/a.whl", "/a.whl"]


def test_a_refusal_is_final(server: LoopbackServer, session: Session) -> None:
    server.statuses["/a.whl"] = [403, 403]
    with pytest.raises(NetworkError, match="HTTP 403"):
        download_all([wanted(f"{server.url}/a.whl")], session)
    assert len(server.requests) == 1


def test_the_next_url_is_tried_where_one_fails(server: LoopbackServer, session: Session) -> None:
    server.files["/wrong"] = b"not it"
    download = wanted(f"{server.url}/missing", f"{server.url}/wrong", f"{server.url}/a.whl")
    assert download_all([download], session)[SHA256].read_bytes() == CONTENT


def test_everything_that_is_gone_is_named_in_one_error(server: LoopbackServer, session: Session) -> None:
    gone = [Download((f"{server.url}/{name}",), name * 64, None, f"package {name}") for name in "abc"]
    with pytest.raises(GoneError) as caught:
        download_all([*gone, wanted(f"{server.url}/a.whl")], session)
    assert {download.title for download in caught.value.downloads} == {"package a", "package b", "package c"}
    assert all(f"package {name}" in caught.value.message for name in "abc")
    assert "404" in caught.value.message


@pytest.mark.parametrize(
    ("served", "size"),
    [(CONTENT[:-1] + b"!", len(CONTENT)), (CONTENT + b"more", len(CONTENT)), (CONTENT[:-5], len(CONTENT)), (b"", 7)],
)
def test_bytes_that_are_not_those_expected_are_never_kept(
    server: LoopbackServer, session: Session, served: bytes, size: int
) -> None:
    server.files["/a.whl"] = served
    with pytest.raises(IntegrityError, match=r"a 1\.0"):
        download_all([wanted(f"{server.url}/a.whl", size=size)], session)
    assert not session.cache.has_blob(f"sha256:{SHA256}")
    assert left_over(session) == []


def test_one_failure_does_not_wait_for_a_server_that_has_fallen_silent(
    server: LoopbackServer, session: Session
) -> None:
    server.files |= {"/slow": CONTENT, "/wrong": b"not it"}
    server.stalls["/slow"] = threading.Event()
    downloads = [wanted(f"{server.url}/slow"), Download((f"{server.url}/wrong",), "0" * 64, None, "wrong")]
    with pytest.raises(IntegrityError, match="wrong"):
        download_all(downloads, session)
    server.stalls["/slow"].set()
    assert not server.waited_in_vain
    assert left_over(session) == []


def test_offline_says_so(server: LoopbackServer, session: Session) -> None:
    with pytest.raises(NetworkError, match="offline and not in the cache"):
        download_all([wanted(f"{server.url}/a.whl")], replace(session, offline=True))
    assert server.requests == []


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_files_on_disk_work_offline(tmp_path: Path, session: Session, form: str) -> None:
    path = tmp_path / "a.whl"
    path.write_bytes(CONTENT)
    url = form.format(path)
    assert content_sizes([url], session) == {url: len(CONTENT)}
    assert download_all([wanted(url)], replace(session, offline=True))[SHA256].read_bytes() == CONTENT


def test_a_missing_file_on_disk_is_gone(tmp_path: Path, session: Session) -> None:
    with pytest.raises(GoneError, match="no such file"):
        download_all([wanted(str(tmp_path / "none.whl"))], session)


def test_a_host_that_refuses_connections_is_a_network_error(session: Session) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://ship:secret@127.0.0.1:{unused.getsockname()[1]}/a.whl?token=abc"
        with pytest.raises(NetworkError) as caught:
            fetch_bytes(url, session, limit=10)
    assert "refused" in caught.value.message
    assert "secret" not in caught.value.message and "abc" not in caught.value.message


def test_a_cache_that_cannot_be_written_is_a_storage_error(server: LoopbackServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    session = Session(Cache(tmp_path / "file"), environ={})
    with pytest.raises(StorageError):
        download_all([wanted(f"{server.url}/a.whl")], session)


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(server: LoopbackServer, session: Session) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(StorageError, match="Could not write"):
            download_all([wanted(f"{server.url}/a.whl")], session)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert left_over(session) == []


# Small content


def test_small_content_is_bounded(server: LoopbackServer, session: Session) -> None:
    assert fetch_bytes(f"{server.url}/a.whl", session, limit=len(CONTENT)) == CONTENT
    with pytest.raises(IntegrityError, match="more than"):
        fetch_bytes(f"{server.url}/a.whl", session, limit=1000)


def test_small_content_survives_a_cut(server: LoopbackServer, session: Session) -> None:
    server.cuts["/a.whl"] = [1000]
    assert fetch_bytes(f"{server.url}/a.whl", session, limit=len(CONTENT)) == CONTENT


@pytest.mark.parametrize("head", [True, False])
def test_sizes_are_asked_for_without_reading(server: LoopbackServer, session: Session, head: bool) -> None:
    server.head = head
    url = f"{server.url}/a.whl"
    assert content_sizes([url], session) == {url: len(CONTENT)}


def test_a_size_that_nobody_tells_is_left_out(server: LoopbackServer, session: Session) -> None:
    server.tells_size = False
    assert content_sizes([f"{server.url}/a.whl"], session) == {}


# Credentials


def test_credentials_of_the_url_are_sent_and_never_shown(server: LoopbackServer, session: Session) -> None:
    server.login = ("ship", "s3cret/@")
    address = f"http://ship:s3cret%2F%40@127.0.0.1:{server.port}"
    assert fetch_bytes(f"{address}/a.whl", session, limit=len(CONTENT)) == CONTENT
    with pytest.raises(GoneError) as caught:
        fetch_bytes(f"{address}/none", session, limit=10)
    assert "s3cret" not in caught.value.message


def test_credentials_come_from_the_callers_table_and_from_netrc(
    server: LoopbackServer, session: Session, tmp_path: Path
) -> None:
    server.login = ("ship", "secret")
    known = {origin_of(server.url): ("ship", "secret")}
    assert fetch_bytes(f"{server.url}/a.whl", session, limit=len(CONTENT), credentials=known)
    with pytest.raises(NetworkError, match="credentials"):
        fetch_bytes(f"{server.url}/a.whl", session, limit=10)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ship password secret\n")
    assert fetch_bytes(f"{server.url}/a.whl", session, limit=len(CONTENT))


def test_a_redirect_to_another_host_does_not_take_the_credentials_along(
    server: LoopbackServer, session: Session
) -> None:
    with LoopbackServer(redirects={"/a.whl": f"{server.url}/a.whl"}, login=("ship", "secret")) as first:
        url = f"http://ship:secret@127.0.0.1:{first.port}/a.whl"
        headers = {"X-Ours": "1"}
        assert fetch_bytes(url, session, limit=len(CONTENT), headers=headers) == CONTENT
    assert "Authorization" not in server.requests[0].headers


def test_a_redirect_within_the_host_keeps_the_credentials(server: LoopbackServer, session: Session) -> None:
    server.login = ("ship", "secret")
    server.redirects["/moved"] = "/a.whl"
    url = f"http://ship:secret@127.0.0.1:{server.port}/moved"
    assert fetch_bytes(url, session, limit=len(CONTENT)) == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/loop"])
def test_redirects_lead_to_http_only_and_not_in_circles(
    server: LoopbackServer, session: Session, target: str
) -> None:
    server.redirects["/loop"] = target
    with pytest.raises(NetworkError, match="redirected"):
        fetch_bytes(f"{server.url}/loop", session, limit=1000)


# Proxies and certificates


def test_the_proxy_of_the_environment_is_used(server: LoopbackServer, session: Session) -> None:
    through = replace(session, environ={"http_proxy": f"http://user:pass@127.0.0.1:{server.port}"})
    assert fetch_bytes("http://packages.invalid/a.whl", through, limit=len(CONTENT)) == CONTENT
    request = server.requests[0]
    assert request.path == "http://packages.invalid/a.whl"
    assert request.headers["Proxy-Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("no_proxy", "expected"),
    [
        ("", "http://proxy:1"),
        ("*", None),
        ("example.org", None),
        (".example.org", None),
        ("ample.org", "http://proxy:1"),
        ("other, packages.example.org:443", None),
        ("packages.example.org:80", "http://proxy:1"),
    ],
)
def test_no_proxy_lists_names_and_domains(no_proxy: str, expected: str | None) -> None:
    environ = {"HTTPS_PROXY": "proxy:1", "no_proxy": no_proxy}
    assert proxy_for(urlsplit("https://packages.example.org/simple"), environ) == expected


def test_no_proxy_lists_networks() -> None:
    environ = {"http_proxy": "http://proxy:1", "no_proxy": "10.0.0.0/8"}
    assert proxy_for(urlsplit("http://10.1.2.3/"), environ) is None
    assert proxy_for(urlsplit("http://11.1.2.3/"), environ) == "http://proxy:1"


def test_certificates_that_cannot_be_read_are_named(session: Session) -> None:
    strange = replace(session, environ={"SSL_CERT_FILE": "/nowhere/ca.pem"})
    with pytest.raises(NetworkError, match="SSL_CERT_FILE"):
        fetch_bytes("https://127.0.0.1:1/", strange, limit=1)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ship:secret@example.org/a?sig=1#f", "https://***@example.org/a"),
        ("https://example.org:8443/a", "https://example.org:8443/a"),
        ("/folder/a.whl", "/folder/a.whl"),
        ("http://[bad", "(a malformed URL)"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert masked(url) == shown
