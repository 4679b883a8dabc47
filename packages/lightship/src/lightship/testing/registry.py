"""A registry in memory, on loopback: what the distribution specification asks of one, and failures as they are told.

Blobs belong to repositories, digests are checked, a manifest is taken only when all that it names is there.
Everything that was asked is noted, so that a test can tell what travelled.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from lightship.testing.faults import Faults
from lightship.testing.handler import serve
from lightship.testing.messages import Answer, Request
from lightship.testing.referrers import INDEX_TYPE, referrers


@dataclass
class Repository:
    """What one repository holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # digest -> media type, content
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Session:
    """An upload under way."""

    repository: str
    content: bytearray = field(default_factory=bytearray)


class MemoryRegistry:
    """A registry that lives as long as its `with` block.

    Args:
        faults: What goes wrong; nothing, if it is left out.
        account: User name and password; pushes and pulls then need a token, which these buy.
        basic: Whether the account is shown with each request, in place of a token.
        token_uses: Requests that a token is good for; any number where it is None.
        relative_locations: Whether an upload's address is a path with a query, rather than a whole URL.
        takes_patches: Whether uploads may be sent in parts; some registries answer 416 to those.
        lists_referrers: Whether it lists what refers to a manifest, as registries do since distribution-spec 1.1.
        page: Entries of one answer of such a list; all of them where it is None.
    """

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        account: tuple[str, str] | None = None,
        basic: bool = False,
        token_uses: int | None = None,
        relative_locations: bool = False,
        takes_patches: bool = True,
        lists_referrers: bool = True,
        page: int | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.account = account
        self.basic = basic
        self.token_uses = token_uses
        self.relative_locations = relative_locations
        self.takes_patches = takes_patches
        self.lists_referrers = lists_referrers
        self.page = page
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.sessions: dict[str, Session] = {}
        self.lock = threading.RLock()
        self._tokens: dict[str, tuple[set[str], int | None]] = {}  # token -> scopes, uses left
        self._numbers = itertools.count(1)
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> MemoryRegistry:
        self._server = serve(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Host and port, as they stand in the name of an image."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.server_address[1]}"

    def asked(self, method: str) -> list[str]:
        """The paths of all requests of a method, in their order."""
        return [request.path for request in self.requests if request.method == method]

    # Who may

    def refusal(self, request: Request) -> Answer | None:
        """The answer to a request that lacks what it needs; None where it may pass. A token is used up a little."""
        if self.account is None:
            return None
        with self.lock:
            kind, _, shown = request.headers.get("authorization", "").partition(" ")
            if self.basic:
                return None if (kind, shown) == ("Basic", self._secret()) else self._challenge(None)
            repository, _, _ = _parts(request.path)
            scope = f"{repository}:{'pull' if request.method in ('GET', 'HEAD') else 'push'}" if repository else None
            scopes, uses = self._tokens.get(shown, (set(), 0))
            if kind != "Bearer" or uses == 0 or (scope and scope not in scopes):
                return self._challenge(scope)
            self._tokens[shown] = (scopes, None if uses is None else uses - 1)
            return None

    def expire(self, request: Request) -> None:
        """Make the token that came with a request worth nothing."""
        with self.lock:
            self._tokens.pop(request.headers.get("authorization", "").partition(" ")[2], None)

    def token(self, request: Request) -> Answer:
        """Sell a token for what the query wants, to who shows the account."""
        if request.headers.get("authorization") != f"Basic {self._secret()}":
            return _problem(401, "UNAUTHORIZED", "who are you?")
        scopes = set()
        for wanted in parse_qs(urlsplit(request.path).query).get("scope", []):
            _, repository, actions = wanted.split(":")
            scopes |= {f"{repository}:{action}" for action in actions.split(",")}
        with self.lock:
            token = f"token-{next(self._numbers)}"
            self._tokens[token] = (scopes, self.token_uses)
        return Answer(200, {"Content-Type": "application/json"}, json.dumps({"token": token}).encode())

    def _secret(self) -> str:
        return base64.b64encode(":".join(self.account or ("", "")).encode()).decode()

    def _challenge(self, scope: str | None) -> Answer:
        answer = _problem(401, "UNAUTHORIZED", "authentication required")
        if self.basic:
            answer.headers["WWW-Authenticate"] = 'Basic realm="memory"'
        else:
            about = f',scope="repository:{scope}"' if scope else ""
            realm = f'Bearer realm="http://{self.address}/token",service="memory"{about}'
            answer.headers["WWW-Authenticate"] = realm
        return answer

    # What is asked

    def answer(self, request: Request, body: bytes) -> Answer:
        """The answer to a request that may pass."""
        name, kind, target = _parts(request.path)
        if not name:
            return (
                Answer(200) if urlsplit(request.path).path == "/v2/" else _problem(404, "UNSUPPORTED", "no such path")
            )
        with self.lock:
            repository = self.repositories.setdefault(name, Repository())
            if kind == "manifests":
                return self._manifest(repository, target, request, body)
            if kind == "referrers":
                return self._referrers(repository, target, request)
            if kind == "uploads":
                return self._upload(repository, name, target, request, body)
            return self._blob(repository, target, request)

    def _blob(self, repository: Repository, digest: str, request: Request) -> Answer:
        content = repository.blobs.get(digest)
        if content is None:
            return _problem(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {"Docker-Content-Digest": digest}
        start = request.headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        if not start or start == "0":
            return Answer(200, headers, content)
        if int(start) >= len(content):
            return Answer(416)
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Answer(206, headers, content[int(start) :])

    def _manifest(self, repository: Repository, target: str, request: Request, body: bytes) -> Answer:
        if request.method == "PUT":
            digest = _digest(body)
            named = json.loads(body)
            blobs = [named["config"], *named["layers"]] if "layers" in named else []
            if any(blob["digest"] not in repository.blobs for blob in blobs):
                return _problem(400, "MANIFEST_BLOB_UNKNOWN", "the manifest names what is not here")
            if target.startswith("sha256:") and target != digest:
                return _problem(400, "DIGEST_INVALID", "the manifest is another one")
            repository.manifests[digest] = (request.headers.get("content-type", ""), body)
            if not target.startswith("sha256:"):
                repository.tags[target] = digest
            headers = {"Docker-Content-Digest": digest, "Location": urlsplit(request.path).path}
            if self.lists_referrers and (subject := named.get("subject")):
                headers["OCI-Subject"] = subject["digest"]
            return Answer(201, headers)
        digest = repository.tags.get(target, target)
        if digest not in repository.manifests:
            return _problem(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, content = repository.manifests[digest]
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, content)

    def _referrers(self, repository: Repository, digest: str, request: Request) -> Answer:
        if not self.lists_referrers:
            return _problem(404, "UNSUPPORTED", "no such path")
        wanted = request.query.get("artifactType")
        entries = [
            entry for entry in referrers(repository.manifests, digest) if wanted in (None, entry["artifactType"])
        ]
        start = int(request.query.get("start", "0"))
        end = start + (self.page or len(entries))
        headers = {"Content-Type": INDEX_TYPE, **({"OCI-Filters-Applied": "artifactType"} if wanted else {})}
        if end < len(entries):
            path = urlsplit(request.path).path
            filtered = f"&artifactType={quote(wanted, safe='')}" if wanted else ""
            headers["Link"] = f'<{path}?start={end}{filtered}>; rel="next"'
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries[start:end]}
        return Answer(200, headers, json.dumps(index).encode())

    def _upload(self, repository: Repository, name: str, number: str, request: Request, body: bytes) -> Answer:
        if request.method == "POST":
            query = request.query
            source = self.repositories.get(query.get("from", ""), Repository())
            if (digest := query.get("mount")) and digest in source.blobs:
                repository.blobs[digest] = source.blobs[digest]
                return Answer(201, {"Docker-Content-Digest": digest})
            number = str(next(self._numbers))
            self.sessions[number] = Session(name)
            return self._progress(202, name, number)
        return self._continue(repository, name, number, request, body)

    def _continue(self, repository: Repository, name: str, number: str, request: Request, body: bytes) -> Answer:
        session = self.sessions.get(number)
        if session is None or session.repository != name:
            return _problem(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "GET":
            return self._progress(204, name, number)
        start = request.headers.get("content-range", "").partition("-")[0]
        if (start and int(start) != len(session.content)) or (request.method == "PATCH" and not self.takes_patches):
            return Answer(416, self._progress(416, name, number).headers)
        session.content += body
        if request.method == "PATCH":
            return self._progress(202, name, number)
        del self.sessions[number]
        digest = request.query.get("digest", "")
        if _digest(session.content) != digest:
            return _problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        repository.blobs[digest] = bytes(session.content)
        return Answer(201, {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/blobs/{digest}"})

    def keep_part(self, request: Request, body: bytes) -> None:
        """Take what came of a body before the connection broke."""
        name, kind, number = _parts(request.path)
        with self.lock:
            if kind == "uploads" and (session := self.sessions.get(number)) and session.repository == name:
                session.content += body

    def _progress(self, status: int, name: str, number: str) -> Answer:
        size = len(self.sessions[number].content)
        path = f"/v2/{name}/blobs/uploads/{number}?state={size}"
        location = path if self.relative_locations else f"http://{self.address}{path}"
        return Answer(status, {"Location": location, "Range": f"0-{max(size - 1, 0)}"})


def _parts(path: str) -> tuple[str, str, str]:
    """Repository, kind (blobs, manifests, referrers, uploads) and target of a path; empty for any other path."""
    parts = urlsplit(path).path.removeprefix("/v2/").split("/")
    if len(parts) >= 4 and parts[-3:-1] == ["blobs", "uploads"]:
        return "/".join(parts[:-3]), "uploads", parts[-1]
    if len(parts) >= 3 and parts[-2] in ("blobs", "manifests", "referrers"):
        return "/".join(parts[:-2]), parts[-2], parts[-1]
    return "", "", ""


def _digest(content: bytes | bytearray) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _problem(status: int, code: str, message: str) -> Answer:
    content: dict[str, Any] = {"errors": [{"code": code, "message": message}]}
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode())
