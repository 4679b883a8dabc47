"""Who the user is to a registry, by the files that Docker and Podman keep, and the token that this is worth.

Looked up in the order of those tools: `$DOCKER_CONFIG/config.json` (by default in `~/.docker`), then
`$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`; in each file a
credential helper for the registry first, then its `auths`, then the general credential store. Nothing found means
that the registry is asked without a name, which is enough for public images.
"""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from lightship.download import fetch_bytes
from lightship.errors import NetworkError, ProjectError
from lightship.oci.name import Reference, is_loopback
from lightship.session import Session
from lightship.transfer import LONG_PATIENCE, Retry
from lightship.transport import TransferError, masked

HELPER_TIMEOUT = 30  # seconds; a helper may ask a key ring, and the user that key ring's password
MAX_TOKEN_REPLY = 64 << 10  # bytes
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"]*)"|([A-Za-z_]+)=([^\s,"]+)')


@dataclass(frozen=True)
class Account:
    """A user name and password, or an identity token that stands for both. Never shown."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class _Entry(msgspec.Struct, frozen=True):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None


class _ConfigFile(msgspec.Struct, frozen=True, rename="camel"):
    auths: dict[str, _Entry | None] | None = None
    cred_helpers: dict[str, str] | None = None
    creds_store: str | None = None


class _HelperReply(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


class _TokenReply(msgspec.Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None


def find_account(reference: Reference, environ: Mapping[str, str]) -> Account | None:
    """The user's account at the registry, or None."""
    for path in _config_files(environ):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        try:
            config = msgspec.json.decode(content, type=_ConfigFile)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProjectError(
                f"The registry accounts in {path} cannot be read: {error}.", hint="Mend or remove it."
            ) from error
        if account := _in_config(config, reference, environ):
            return account
    return None


def _config_files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environ.get("HOME", "/nonexistent"))
    docker = environ.get("DOCKER_CONFIG")
    yield (Path(docker) if docker else home / ".docker") / "config.json"
    if chosen := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(chosen)
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield home / ".config" / "containers" / "auth.json"


def _in_config(config: _ConfigFile, reference: Reference, environ: Mapping[str, str]) -> Account | None:
    if helper := (config.cred_helpers or {}).get(reference.registry):
        return _ask_helper(helper, reference.account, environ)
    auths = config.auths or {}
    for key in _keys(reference):
        if (entry := auths.get(key)) and (account := _of_entry(entry)):
            return account
    if config.creds_store:
        return _ask_helper(config.creds_store, reference.account, environ)
    return None


def _keys(reference: Reference) -> Iterator[str]:
    """The names under which an account may stand, the most special first: a repository, its folders, the registry."""
    path = reference.name
    while path != reference.registry:
        yield path
        path = path.rpartition("/")[0]
    yield reference.account
    yield reference.registry
    yield f"https://{reference.registry}"


def _of_entry(entry: _Entry) -> Account | None:
    if entry.identitytoken:
        return Account(identity_token=entry.identitytoken)
    if entry.auth:
        try:
            user, _, password = base64.b64decode(entry.auth).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return Account(user, password.rstrip("\0")) if user else None
    return Account(entry.username, entry.password or "") if entry.username else None


def _ask_helper(name: str, registry: str, environ: Mapping[str, str]) -> Account | None:
    """Run `docker-credential-NAME get`; the registry goes in by standard input, JSON comes out."""
    if not _HELPER.fullmatch(name):
        raise ProjectError(f"{name!r} in Docker's config.json is not the name of a credential helper.")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=registry.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT,
            env=dict(environ),
            check=False,
        )
    except FileNotFoundError:
        return None  # as Docker does: a desktop's configuration may have come here without its programs
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProjectError(f"The credential helper {program} does not work: {type(error).__name__}.") from error
    if done.returncode != 0:
        return None  # it has none for this registry
    try:
        reply = msgspec.json.decode(done.stdout, type=_HelperReply)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProjectError(f"The credential helper {program} gave an answer that is no JSON object.") from error
    if reply.username == "<token>":  # the helper protocol's mark of an identity token
        return Account(identity_token=reply.secret)
    return Account(reply.username, reply.secret) if reply.username else None


def authorization(
    challenge: str,
    reference: Reference,
    account: Account | None,
    session: Session,
    *,
    scopes: Sequence[str],
    plain_http: bool = False,
) -> str | None:
    """The Authorization header that answers a registry's challenge; None where there is no account.

    Args:
        challenge: The `WWW-Authenticate` header of its 401.
        scopes: What the token shall allow, such as `repository:team/iris:pull`; the most wanted first, because some
            registries read only that one.
        plain_http: Whether the user lets this registry be spoken to without TLS.

    Raises: `NetworkError` where the registry's token service does not give a token.
    """
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic":
        return _basic(account) if account and account.user else None
    if scheme.lower() != "bearer":
        raise NetworkError(
            f"The registry {reference.registry} wants credentials of the kind {scheme!r}, not known here."
        )
    parameters = {a or c: b or d for a, b, c, d in _PARAMETER.findall(rest)}
    realm = _trusted_realm(parameters.get("realm", ""), reference, plain_http=plain_http)
    query = [("service", service)] if (service := parameters.get("service")) else []
    query += [("scope", scope) for scope in scopes]
    return f"Bearer {_token(realm, query, reference, account, session)}"


def _trusted_realm(realm: str, reference: Reference, *, plain_http: bool) -> str:
    """The address of the token service, where a password may be sent to it."""
    try:
        split = urlsplit(realm)
    except ValueError:
        split = urlsplit("")
    local = is_loopback(split.netloc) and is_loopback(reference.host)
    local |= plain_http and split.netloc == reference.host
    trusted = split.scheme == "https" or (split.scheme == "http" and local)
    if not trusted or not split.hostname:
        raise NetworkError(
            f"The registry {reference.registry} sends its users to {masked(realm)!r} for a token, "
            "which is no https address; no password is sent there."
        )
    return realm


def _token(
    realm: str, query: list[tuple[str, str]], reference: Reference, account: Account | None, session: Session
) -> str:
    if account and account.identity_token:
        raise NetworkError(
            f"The account for {reference.registry} is an identity token, which cannot be used yet.",
            hint="Log in with a user name and an access token: `docker login REGISTRY`.",
        )
    url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query, quote_via=quote)}"
    headers = {"Authorization": _basic(account)} if account else {}

    def attempt() -> _TokenReply:
        content = fetch_bytes(url, session, limit=MAX_TOKEN_REPLY, headers=headers, patience=LONG_PATIENCE)
        try:
            return msgspec.json.decode(content, type=_TokenReply)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TransferError("the answer is no JSON", "corrupt") from error

    try:
        reply = Retry(LONG_PATIENCE)(attempt)
    except TransferError as error:
        raise NetworkError(f"The token service of {reference.registry} gave an answer that is no JSON.") from error
    token = reply.token or reply.access_token
    if not token or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise NetworkError(f"The token service of {reference.registry} gave no token.")
    return token


def _basic(account: Account) -> str:
    return "Basic " + base64.b64encode(f"{account.user}:{account.password}".encode()).decode()
