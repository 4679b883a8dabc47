"""OSV, spoken to a server on loopback that answers as the API's documentation says."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lightship.errors import IntegrityError, LightshipError, NetworkError, ProjectError
from lightship.session import Session
from lightship.supply.finding import Finding, Severity
from lightship.supply.osv import API_VARIABLE, scan_wheels

pytest.importorskip("cvss")


def record(name: str, package: str, fixed: str, **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": fixed}] if fixed else [{"introduced": "0"}]
    affected = {
        "package": {"ecosystem": "PyPI", "name": package, "purl": f"pkg:pypi/{package}"},
        "ranges": [{"type": "GIT", "events": [{"fixed": "0" * 40}]}, {"type": "ECOSYSTEM", "events": events}],
    }
    return {"id": name, "modified": "2025-01-01T00:00:00Z", "affected": [affected], **more}


@dataclass
class Database:
    """Records by identifier, and which of them each `name version` has; `page` of them in an answer."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    known: dict[str, list[str]] = field(default_factory=dict)
    page: int = 10
    failures: int = 0  # requests that are answered with 503 at first
    answer: bytes | None = None  # to a batch, in place of the true one
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def batch(self, queries: list[dict[str, Any]]) -> bytes:
        results: list[dict[str, Any]] = []
        for query in queries:
            assert query["package"]["ecosystem"] == "PyPI"
            names = self.known.get(f"{query['package']['name']} {query['version']}", [])
            start = int(query.get("page_token", 0))
            shown = [{"id": name, "modified": "2025-01-01T00:00:00Z"} for name in names[start : start + self.page]]
            result: dict[str, Any] = {"vulns": shown} if shown else {}
            if len(names) > start + self.page:
                result["next_page_token"] = str(start + self.page)
            results.append(result)
        return json.dumps({"results": results}).encode()


@pytest.fixture
def database() -> Iterator[Database]:
    held = Database()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = held.records.get(self.path.removeprefix("/v1/vulns/"))
            self.give(404 if found is None else 200, json.dumps(found).encode())

        def do_POST(self) -> None:
            assert self.path == "/v1/querybatch"
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            self.give(200, held.batch(queries) if held.answer is None else held.answer)

        def give(self, status: int, content: bytes) -> None:
            held.asked.append(f"{self.command} {self.path}")
            if held.failures:
                held.failures -= 1
                status, content = 503, b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        held.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield held
        server.shutdown()


@pytest.fixture
def asking(session: Session, database: Database) -> Session:
    return replace(session, environ={**session.environ, API_VARIABLE: database.url})


def test_records_of_one_vulnerability_are_one_finding(asking: Session, database: Database) -> None:
    same = ["CVE-2024-34064"]
    database.records = {
        "GHSA-h75v-3vvj-5mfj": record(
            "GHSA-h75v-3vvj-5mfj", "Jinja2", "3.1.4", aliases=same, database_specific={"severity": "MODERATE"}
        ),
        "PYSEC-2024-1": record("PYSEC-2024-1", "jinja2", "3.2.0", aliases=[*same, "GHSA-h75v-3vvj-5mfj"]),
    }
    database.known = {"jinja2 3.1.3": list(database.records)}
    found = scan_wheels([("jinja2", "3.1.3"), ("numpy", "2.3.4")], asking)
    assert found == (Finding("CVE-2024-34064", "jinja2", "3.1.3", "3.1.4", Severity.MEDIUM, "OSV"),)


@pytest.mark.parametrize(
    ("rating", "severity"),
    [
        ({"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}, Severity.CRITICAL),
        ({"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}, Severity.LOW),
        (
            {"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"},
            Severity.CRITICAL,
        ),
        ({"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:P/I:P/A:P"}, Severity.HIGH),
        ({"type": "CVSS_V3", "score": "CVSS:3.1/nonsense"}, Severity.UNKNOWN),
        ({"type": "Ubuntu", "score": "high"}, Severity.UNKNOWN),
    ],
)
def test_vectors_are_rated_where_there_is_no_word(
    asking: Session, database: Database, rating: dict[str, str], severity: Severity
) -> None:
    database.records = {"PYSEC-2024-2": record("PYSEC-2024-2", "a", "", severity=[rating])}
    database.known = {"a 1.0": ["PYSEC-2024-2"]}
    assert scan_wheels([("a", "1.0")], asking) == (Finding("PYSEC-2024-2", "a", "1.0", "", severity, "OSV"),)


def test_pages_are_followed_and_what_was_withdrawn_is_left_out(asking: Session, database: Database) -> None:
    names = [f"PYSEC-2024-{number}" for number in range(25)]
    database.records = {name: record(name, "a", "2.0") for name in names}
    database.records[names[3]]["withdrawn"] = "2025-01-01T00:00:00Z"
    database.known = {"a 1.0": names, "b 1.0": names[:1]}
    found = scan_wheels([("a", "1.0"), ("b", "1.0")], asking)
    assert {each.id for each in found if each.package == "a"} == set(names) - {names[3]}
    assert database.asked.count("POST /v1/querybatch") == 3
    assert len([path for path in database.asked if path.startswith("GET")]) == 25


def test_a_server_that_is_busy_is_asked_again(asking: Session, database: Database) -> None:
    database.failures = 1
    database.records = {"PYSEC-2024-2": record("PYSEC-2024-2", "a", "1.1")}
    database.known = {"a 1.0": ["PYSEC-2024-2"]}
    assert [each.fixed for each in scan_wheels([("a", "1.0")], asking)] == ["1.1"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b'{"results": []}',
        b'{"results": [{"vulns": [{"id": "../../etc/passwd"}]}]}',
        b'{"results": [{"vulns": [{"id": "A/B"}]}]}',
        b'{"results": [{"next_page_token": "1"}]}',
        b"[" * 5000,
    ],
)
def test_answers_that_make_no_sense_are_not_taken_for_clean_ones(
    asking: Session, database: Database, answer: bytes
) -> None:
    database.answer = answer
    with pytest.raises(IntegrityError, match="not understood"):
        scan_wheels([("a", "1.0")], asking)


def test_without_the_network_there_is_a_clear_error(asking: Session, database: Database) -> None:
    with pytest.raises(NetworkError, match="--offline forbids"):
        scan_wheels([("a", "1.0")], replace(asking, offline=True))
    assert database.asked == []


def test_plain_http_is_for_this_machine_only(session: Session) -> None:
    for url in ("http://osv.example.org", "file:///etc/passwd", "http://[::1"):
        with pytest.raises(ProjectError, match="not an https URL"):
            scan_wheels([("a", "1.0")], replace(session, environ={API_VARIABLE: url}))


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, asking: Session) -> None:
    monkeypatch.setitem(sys.modules, "cvss", None)
    with pytest.raises(LightshipError, match="No vulnerability scanner") as caught:
        scan_wheels([("a", "1.0")], asking)
    assert "lightship[scan]" in (caught.value.hint or "")
