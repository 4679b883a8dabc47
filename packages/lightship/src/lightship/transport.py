"""HTTP as the user's machine is set up for it: proxies, certificates, credentials, redirects. urllib3 does the rest.

Everything comes from the environment that the session was given, never from `os.environ`:

* proxies: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy` (lower case first, as curl does);
* certificates: `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`, `PIP_CERT`, `SSL_CERT_DIR`, else the system's;
* credentials: those in the URL, then those the caller knows for the origin, then `.netrc`. They are sent to
  the origin that they belong to and nowhere else; a redirect to another origin loses them.

No message of this module holds a password or a query string (which is where signed URLs keep their secrets).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from lightship import __version__
from lightship.errors import NetworkError

if TYPE_CHECKING:
    from netrc import netrc
    from ssl import SSLContext

    from urllib3 import BaseHTTPResponse, PoolManager

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds without a byte
SEND_TIMEOUT = 60.0  # seconds for one piece of a body to leave
DIGEST_TIMEOUT = 600.0  # seconds until the answer to a body: some servers hash and move all of it first
REDIRECTS = 10
MAX_DETAIL = 4 << 10  # bytes read of an answer that refuses
# Answers that may be different in a moment; 499 and 522 are what proxies say for connections that broke.
_RETRIED = frozenset({408, 425, 429, 499, 500, 502, 503, 504, 522})
_GONE = frozenset({404, 410})
_PORTS = {"http": 80, "https": 443}

Credentials = Mapping[str, tuple[str, str]]  # origin (see `origin_of`) -> user name, password
Kind = Literal["gone", "refused", "unreachable", "corrupt"]
Body = Callable[[], Iterable[bytes]]  # gives the pieces of a body from its beginning, each time it is called


class TransferError(Exception):
    """One URL did not give what was asked for.

    Args:
        reason: What happened, without any secret.
        kind: gone (404, 410, no such file), refused (any other answer), unreachable, or corrupt (wrong bytes).
        retry: Whether the same request may well succeed in a moment.
        wait: Seconds that the server asked us to wait.
        status: The HTTP status, where there was one.
        challenge: What the server wants to see as credentials (the WWW-Authenticate header), where it said so.
        detail: The beginning of the refusing answer's body. It comes from outside: never shown as it is.
        connected: Whether there was a server at all; where there is none, patience is of little use.
    """

    def __init__(
        self,
        reason: str,
        kind: Kind,
        *,
        retry: bool = False,
        wait: float = 0,
        status: int | None = None,
        challenge: str | None = None,
        detail: bytes = b"",
        connected: bool = True,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.retry = retry
        self.wait = wait
        self.status = status
        self.challenge = challenge
        self.detail = detail
        self.connected = connected


class Transport:
    """Connections that are kept for further requests. Safe to use from several threads; close it at the end."""

    def __init__(self, environ: Mapping[str, str], connections: int, credentials: Credentials | None = None) -> None:
        self._environ = environ
        self._connections = connections
        self._credentials = credentials or {}
        self._pools: dict[str | None, PoolManager] = {}
        self._lock = threading.Lock()
        self._netrc: netrc | None = None
        self._netrc_read = False

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        *,
        body: Body | None = None,
        accepted: Collection[int] = (200, 206),
    ) -> BaseHTTPResponse:
        """The answer to a request, of a status that is accepted, its body not read yet. The caller closes it.

        An Authorization among the headers takes the place of other credentials, and goes to the URL's origin only.

        Args:
            body: What to send, with a Content-Length among the headers; sent anew where a redirect leads.

        Raises `TransferError` for any other answer, and for none.
        """
        asked = {"User-Agent": f"lightship/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
        for _ in range(REDIRECTS + 1):
            response = self._request(method, url, asked, body)
            if response.status in accepted:
                return response
            location = response.headers.get("Location")
            if response.status not in _redirects(method) or not location:
                raise _refusal(response)
            response.close()
            origin, url = origin_of(url), _redirected(url, location)
            if origin_of(url) != origin:
                asked.pop("Authorization", None)
        raise TransferError(f"redirected more than {REDIRECTS} times", "refused")

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> BaseHTTPResponse:
        import urllib3

        split = urlsplit(url)
        if split.scheme not in _PORTS or not split.hostname:
            raise TransferError("not an http, https or file URL", "refused")
        sent = dict(headers)
        if "Authorization" not in sent and (found := self._credentials_for(split)):
            sent.update(urllib3.make_headers(basic_auth=":".join(found)))
        try:
            return self._pool(split).request(
                method,
                without_credentials(url),
                headers=sent,
                body=body() if body else None,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
                # urllib3 takes the time to connect as the time to send, too
                timeout=urllib3.Timeout(connect=SEND_TIMEOUT, read=DIGEST_TIMEOUT)
                if body
                else urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            )
        except urllib3.exceptions.HTTPError as error:
            raise connection_failure(error) from error
        except UnicodeError as error:  # a host name that cannot be encoded
            raise TransferError("not a valid host name", "refused") from error

    # Credentials

    def _credentials_for(self, split: SplitResult) -> tuple[str, str] | None:
        if split.username is not None:
            return unquote(split.username), unquote(split.password or "")
        if known := self._credentials.get(origin_of(split.geturl())):
            return known
        with self._lock:
            if not self._netrc_read:
                self._netrc, self._netrc_read = _read_netrc(self._environ), True
        if self._netrc and (entry := self._netrc.authenticators(split.hostname or "")):
            return entry[0] or "", entry[2] or ""
        return None

    # Connections

    def _pool(self, split: SplitResult) -> PoolManager:
        proxy = proxy_for(split, self._environ)
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = self._new_pool(proxy)
            return self._pools[proxy]

    def _new_pool(self, proxy: str | None) -> PoolManager:
        import urllib3

        context = tls_context(self._environ)
        if proxy is None:
            return urllib3.PoolManager(maxsize=self._connections, ssl_context=context)
        split = urlsplit(proxy)
        if split.scheme not in _PORTS:
            raise NetworkError(
                f"The proxy {masked(proxy)} is of a kind that is not supported.",
                hint="Use an HTTP proxy, or list the host in no_proxy.",
            )
        login = None
        if split.username is not None:
            pair = f"{unquote(split.username)}:{unquote(split.password or '')}"
            login = urllib3.make_headers(proxy_basic_auth=pair)
        return urllib3.ProxyManager(
            without_credentials(proxy),
            maxsize=self._connections,
            proxy_headers=login,
            ssl_context=context,
            proxy_ssl_context=context,
        )


def tls_context(environ: Mapping[str, str]) -> SSLContext:
    """A verifying TLS context with the certificate authorities that the environment names, else the system's."""
    import ssl

    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "SSL_CERT_DIR"):
        if not (chosen := environ.get(name)):
            continue
        path = Path(chosen)
        try:
            if path.is_dir():
                return ssl.create_default_context(capath=chosen)
            return ssl.create_default_context(cafile=chosen)
        except (OSError, ssl.SSLError) as error:
            raise NetworkError(
                f"The certificate authorities in {chosen} (from {name}) cannot be read: {error}.",
                hint=f"Set {name} to a file of PEM certificates, or unset it to use the system's.",
            ) from error
    return ssl.create_default_context()


def proxy_for(split: SplitResult, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for a URL, or None."""
    proxy = _either_case(environ, f"{split.scheme}_proxy") or _either_case(environ, "all_proxy")
    if not proxy or _bypassed(split, _either_case(environ, "no_proxy") or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _either_case(environ: Mapping[str, str], name: str) -> str | None:
    return environ.get(name) or environ.get(name.upper())


def _bypassed(split: SplitResult, no_proxy: str) -> bool:
    import ipaddress

    host = (split.hostname or "").lower()
    port = split.port or _PORTS.get(split.scheme)
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        name = entry.removesuffix(f":{port}").removeprefix("*").removeprefix(".")
        if entry == "*" or (name and (host == name or host.endswith("." + name))):
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False


def _read_netrc(environ: Mapping[str, str]) -> netrc | None:
    from netrc import NetrcParseError, netrc

    home = environ.get("HOME")
    path = environ.get("NETRC") or (f"{home}/.netrc" if home else None)
    if path is None:
        return None
    try:
        return netrc(path)
    except (OSError, NetrcParseError, UnicodeDecodeError):
        return None  # as curl and pip do: a netrc that cannot be read is no netrc


# URLs


def origin_of(url: str) -> str:
    """`https://host:443` of a URL: what credentials belong to."""
    split = urlsplit(url)
    return f"{split.scheme}://{(split.hostname or '').lower()}:{split.port or _PORTS.get(split.scheme, 0)}"


def without_credentials(url: str) -> str:
    """The URL without `user:password@`."""
    split = urlsplit(url)
    return urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2]))


def masked(url: str) -> str:
    """The URL as it may be shown: no user, no password, no query.

    >>> masked("https://ship:secret@example.org/a.whl?signature=1#x")
    'https://***@example.org/a.whl'
    """
    try:
        split = urlsplit(url)
    except ValueError:
        return "(a malformed URL)"
    if not split.netloc:
        return url.partition("?")[0]
    user, _, host = split.netloc.rpartition("@")
    return urlunsplit((split.scheme, f"***@{host}" if user else host, split.path, "", ""))


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads. Within one origin the credentials of the URL stay; elsewhere they are dropped."""
    target = urljoin(without_credentials(url), location)
    before, after = urlsplit(url), urlsplit(target)
    if after.scheme not in _PORTS:
        raise TransferError("redirected to something that is not http", "refused")
    if before.scheme == "https" and after.scheme == "http":
        raise TransferError(f"redirected from https to plain http ({masked(target)})", "refused")
    target = without_credentials(target)
    if before.username is not None and origin_of(url) == origin_of(target):
        login = before.netloc.rpartition("@")[0]
        after = urlsplit(target)
        return urlunsplit(after._replace(netloc=f"{login}@{after.netloc}"))
    return target


# Answers


def read_answer(response: BaseHTTPResponse, limit: int) -> bytes:
    """The body of an answer, at most `limit` bytes; raises `TransferError` and closes it where there is more."""
    from urllib3.exceptions import HTTPError

    try:
        content = response.read(limit + 1, decode_content=False)
    except HTTPError as error:
        response.close()
        raise connection_failure(error) from error
    if len(content) > limit:
        response.close()
        raise TransferError(f"more than the {limit} bytes that are reasonable", "corrupt")
    return content


# Failures in words


def _redirects(method: str) -> tuple[int, ...]:
    """The answers that send a request elsewhere as it is (RFC 9110, 15.4: the others may turn it into a GET)."""
    return (301, 302, 303, 307, 308) if method in ("GET", "HEAD") else (307, 308)


def _refusal(response: BaseHTTPResponse) -> TransferError:
    """The error for an answer, which is closed."""
    status = response.status
    reason = f"HTTP {status} {response.reason or ''}".strip()
    if status in (401, 403):
        reason += " (credentials are missing, wrong or not sufficient)"
    if status == 407:
        reason += " (the proxy wants credentials)"
    wait = response.headers.get("Retry-After", "")
    return TransferError(
        reason,
        "gone" if status in _GONE else "refused",
        retry=status in _RETRIED,
        wait=float(wait) if wait.isascii() and wait.isdigit() else 0,
        status=status,
        challenge=response.headers.get("WWW-Authenticate"),
        detail=_beginning(response),
    )


def _beginning(response: BaseHTTPResponse) -> bytes:
    from urllib3.exceptions import HTTPError

    try:
        content = response.read(MAX_DETAIL, decode_content=False)
        if response.read(1, decode_content=False):
            response.close()
        else:
            response.release_conn()
    except (HTTPError, OSError):
        response.close()
        return b""
    return content


def connection_failure(error: Exception) -> TransferError:
    """What urllib3 met, in words. Its own messages hold the URL, and so may hold a secret."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.SSLError):
        return TransferError(_tls_reason(error), "unreachable")
    if isinstance(error, exceptions.LocationValueError):
        return TransferError("not a valid URL", "refused")
    reasons = (  # the more special first: a refused connection is a ConnectTimeoutError to urllib3
        (exceptions.ProxyError, "the proxy cannot be reached or refused the connection"),
        (exceptions.NameResolutionError, "the host name is not known"),
        (exceptions.NewConnectionError, "the connection was refused"),
        (exceptions.ConnectTimeoutError, f"no connection within {CONNECT_TIMEOUT:.0f} s"),
        (exceptions.ReadTimeoutError, f"no answer within {READ_TIMEOUT:.0f} s"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            connected = isinstance(error, exceptions.ReadTimeoutError)
            return TransferError(reason, "unreachable", retry=True, connected=connected)
    return TransferError("the connection broke", "unreachable", retry=True)


def _tls_reason(error: Exception) -> str:
    import ssl

    cause = error.args[0] if error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its TLS certificate is not trusted ({cause.verify_message}); "
            "set SSL_CERT_FILE if your site has a certificate authority of its own"
        )
    return f"the TLS connection failed ({getattr(cause, 'reason', None) or 'no details'})"
