"""Known vulnerabilities of Python packages by the OSV database, for those who have no scanner.

The API is OSV's v1: one batch of questions gives identifiers, and each is then read as a record of the OSV schema.
Several databases tell of the same vulnerability; records that share a name (an alias) become one finding. Where a
record has no word for how bad it is, its CVSS vector is rated by the `cvss` library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from lightship.download import fetch_bytes
from lightship.errors import IntegrityError, LightshipError, NetworkError, ProjectError
from lightship.oci.name import is_loopback
from lightship.session import Session
from lightship.supply.finding import Finding, Severity, sorted_findings
from lightship.transfer import Retry
from lightship.transport import TransferError, Transport, masked, read_answer

API = "https://api.osv.dev"
API_VARIABLE = "LIGHTSHIP_OSV_URL"  # a mirror of it, within a company
SOURCE = "OSV"
BATCH = 1000  # questions in one request: the API's limit
MAX_PAGES = 100  # of one batch
MAX_ANSWER = 32 << 20  # bytes: the API's limit
MAX_RECORD = 4 << 20  # bytes
_PARALLEL = 8
_CVSS_TYPES = ("CVSS_V4", "CVSS_V3", "CVSS_V2")

_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")]  # it becomes part of a URL


class _Named(msgspec.Struct, frozen=True):
    id: _Id


class _Result(msgspec.Struct, frozen=True):
    vulns: list[_Named] = []
    next_page_token: str = ""


class _Batch(msgspec.Struct, frozen=True):
    results: list[_Result]


class _Rating(msgspec.Struct, frozen=True):
    type: str
    score: str


class _Package(msgspec.Struct, frozen=True):
    name: str = ""
    ecosystem: str = ""


class _Range(msgspec.Struct, frozen=True):
    type: str = ""
    events: list[dict[str, str]] = []


class _Affected(msgspec.Struct, frozen=True):
    package: _Package = _Package()
    ranges: list[_Range] = []
    severity: list[_Rating] = []


class _Record(msgspec.Struct, frozen=True):
    """What is read of a record (ossf.github.io/osv-schema)."""

    id: _Id
    aliases: list[str] = []
    withdrawn: str = ""
    severity: list[_Rating] = []
    affected: list[_Affected] = []
    database_specific: dict[str, Any] = {}


_Document = TypeVar("_Document", _Batch, _Record)


def scan_wheels(wheels: Iterable[tuple[str, str]], session: Session) -> tuple[Finding, ...]:
    """Known vulnerabilities of packages by name and version.

    Raises: `LightshipError` where the `cvss` library is missing, `NetworkError`, `IntegrityError` where the answer is
        not understood.
    """
    _require_library()
    address = _address(session)
    if session.offline:
        raise NetworkError(
            "OSV is asked over the network, and --offline forbids that.",
            hint="Run without --offline, or install trivy or grype, which scan with a database on this machine.",
        )
    asked = sorted(set(wheels))
    with session.progress.task(f"Asking OSV about {len(asked)} packages"):
        found = [
            (wheel, name)
            for start in range(0, len(asked), BATCH)
            for wheel, name in _identifiers(asked[start : start + BATCH], address, session)
        ]
        records = _records(sorted({name for _, name in found}), address, session)
    by_wheel: dict[tuple[str, str], list[_Record]] = {}
    for wheel, name in found:
        if not records[name].withdrawn:
            by_wheel.setdefault(wheel, []).append(records[name])
    return sorted_findings(_finding(wheel, group) for wheel, those in by_wheel.items() for group in _grouped(those))


def _require_library() -> None:
    try:
        import cvss  # noqa: F401
    except ImportError as error:
        raise LightshipError(
            "No vulnerability scanner is installed, and asking OSV needs a library that is not installed: cvss.",
            hint="Install trivy, grype or docker scout; or the extra: pip install 'lightship[scan]'.",
        ) from error


def _address(session: Session) -> str:
    address = session.environ.get(API_VARIABLE) or API
    try:
        split = urlsplit(address)
        secure = split.scheme == "https" or (split.scheme == "http" and is_loopback(split.netloc.rpartition("@")[2]))
    except ValueError:
        secure = False
    if not secure:
        raise ProjectError(
            f"{API_VARIABLE} is {masked(address)!r}, which is not an https URL.",
            hint="What comes over plain HTTP can be changed on the way.",
        )
    return address.rstrip("/")


def _identifiers(
    wheels: Sequence[tuple[str, str]], address: str, session: Session
) -> Iterator[tuple[tuple[str, str], str]]:
    """Which records there are of each package, page by page."""
    waiting = [(wheel, "") for wheel in wheels]
    for _ in range(MAX_PAGES):
        if not waiting:
            return
        queries = [
            {"package": {"name": name, "ecosystem": "PyPI"}, "version": version}
            | ({"page_token": token} if token else {})
            for (name, version), token in waiting
        ]
        content = _post(f"{address}/v1/querybatch", msgspec.json.encode({"queries": queries}), session)
        results = _parsed(content, _Batch, "the answer to a batch").results
        if len(results) != len(waiting):
            raise _nonsense(f"{len(results)} answers to {len(waiting)} questions")
        answered = [(wheel, result) for (wheel, _), result in zip(waiting, results, strict=True)]
        yield from ((wheel, named.id) for wheel, result in answered for named in result.vulns)
        waiting = [(wheel, result.next_page_token) for wheel, result in answered if result.next_page_token]
    raise _nonsense(f"there is no end after {MAX_PAGES} pages")


def _records(names: Sequence[str], address: str, session: Session) -> dict[str, _Record]:
    from concurrent.futures import ThreadPoolExecutor

    def one(name: str) -> _Record:
        content = fetch_bytes(f"{address}/v1/vulns/{name}", session, limit=MAX_RECORD)
        return _parsed(content, _Record, f"the record {name}")

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="osv") as executor:
        return dict(zip(names, executor.map(one, names), strict=True))


def _post(url: str, content: bytes, session: Session) -> bytes:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}

    with closing(Transport(session.environ, 1)) as transport:

        def attempt() -> bytes:
            response = transport.open(url, headers, "POST", body=lambda: [content], accepted=(200,))
            try:
                return read_answer(response, MAX_ANSWER)
            finally:
                response.release_conn()

        try:
            return Retry()(attempt)
        except TransferError as error:
            raise NetworkError(
                f"OSV could not be asked at {masked(url)}: {error.reason}.",
                hint=f"Check the network and the proxy settings, set {API_VARIABLE} to a mirror of it, "
                "or install trivy or grype.",
            ) from error


def _parsed(content: bytes, kind: type[_Document], what: str) -> _Document:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _nonsense(f"{what}: {error}") from error


def _nonsense(why: str) -> IntegrityError:
    return IntegrityError(
        f"What OSV says is not understood: {why}.", hint=f"Check {API_VARIABLE}, and the proxy if there is one."
    )


def _grouped(records: Iterable[_Record]) -> list[list[_Record]]:
    """Records of one vulnerability together: those that share an identifier or an alias."""
    groups: list[tuple[set[str], list[_Record]]] = []
    for record in records:
        names, members = {record.id, *record.aliases}, [record]
        apart = []
        for group in groups:
            if group[0] & names:
                names |= group[0]
                members = group[1] + members
            else:
                apart.append(group)
        groups = [*apart, (names, members)]
    return [members for _, members in groups]


def _finding(wheel: tuple[str, str], records: Sequence[_Record]) -> Finding:
    name, version = wheel
    known = sorted({identifier for record in records for identifier in (record.id, *record.aliases)})
    chosen = next((each for each in known if re.fullmatch(r"CVE-[0-9]{4}-[0-9]{4,}", each)), records[0].id)
    severity = max(_severity(record, name) for record in records)
    return Finding(chosen, name, version, _fixed(records, name, version), severity, SOURCE)


def _severity(record: _Record, package: str) -> Severity:
    if said := Severity.parse(record.database_specific.get("severity")):
        return said
    ratings = [*record.severity]
    for affected in _about(record, package):
        ratings += affected.severity
    return max((_rated(each) for each in ratings if each.type in _CVSS_TYPES), default=Severity.UNKNOWN)


def _rated(rating: _Rating) -> Severity:
    from cvss import CVSS2, CVSS3, CVSS4
    from cvss.exceptions import CVSSError

    kind = {"CVSS_V4": CVSS4, "CVSS_V3": CVSS3, "CVSS_V2": CVSS2}[rating.type]
    try:
        rated = kind(rating.score[:400])
    except CVSSError:
        return Severity.UNKNOWN
    return Severity.parse(rated.severity if rating.type == "CVSS_V4" else rated.severities()[0])


def _about(record: _Record, package: str) -> Iterator[_Affected]:
    from packaging.utils import canonicalize_name

    for affected in record.affected:
        if affected.package.ecosystem == "PyPI" and canonicalize_name(affected.package.name) == package:
            yield affected


def _fixed(records: Iterable[_Record], package: str, installed: str) -> str:
    """The lowest version above the installed one that is said to be without it."""
    from packaging.version import InvalidVersion, Version

    versions = []
    for record in records:
        for affected in _about(record, package):
            events = [event for each in affected.ranges if each.type == "ECOSYSTEM" for event in each.events]
            for event in events:
                try:
                    fixed = Version(event.get("fixed", ""))
                    if fixed > Version(installed):
                        versions.append(fixed)
                except InvalidVersion:
                    continue
    return str(min(versions)) if versions else ""
