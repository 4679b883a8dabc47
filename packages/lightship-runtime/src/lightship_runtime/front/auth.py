"""API keys: who may ask.

Keys are kept as SHA-256 digests and compared in constant time, every one of them for every request, so that neither
the time nor a core dump tells a key. They come from the environment or a file, never from the image:

    LIGHTSHIP_API_KEYS="alice:s3cret,bob:0ther"        names are for the log; a key may go without
    LIGHTSHIP_API_KEYS_FILE=/run/secrets/keys          one `name:key` or `key` per line, # begins a comment

A browser cannot be told to send a header with an address that somebody types. So our own pages may be asked for with
the key as the password of HTTP Basic (RFC 7617), which the browser prompts for; the name is not looked at. A browser
goes on sending such a password by itself, though, to whatever another site has it ask for. So every other route takes
it only with a header that no other site can add without our leave, and that our page adds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from lightship_runtime.errors import ConfigError

FROM_PAGE = b"x-lightship-page"  # a header that our own pages send
KEYS = "LIGHTSHIP_API_KEYS"
KEYS_FILE = "LIGHTSHIP_API_KEYS_FILE"
_FILE_LIMIT = 1 << 20  # bytes
_LEAST = 8  # characters of a key; what is shorter is guessed in no time


class Keys:
    """The keys that are allowed; with none, everybody is."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = [(name, hashlib.sha256(key.encode()).digest()) for name, key in keys.items()]

    def __bool__(self) -> bool:
        return bool(self._digests)

    @property
    def names(self) -> list[str]:
        """Whose keys these are."""
        return [name for name, _ in self._digests]

    def allows(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The name of the key in `Authorization: Bearer ...` or `X-API-Key`, None where there is no right one."""
        given = headers.get(b"x-api-key", b"")
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if not given and scheme.lower() == b"bearer":
            given = token.strip()
        return self._owner(given)

    def allows_browser(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The same, where the key may also be the password in `Authorization: Basic ...`."""
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"basic" or b"x-api-key" in headers:
            return self.allows(headers)
        try:
            _, _, password = base64.b64decode(token.strip(), validate=True).partition(b":")
        except binascii.Error:
            return None
        return self._owner(password)

    def _owner(self, given: bytes) -> str | None:
        digest = hashlib.sha256(given).digest()
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def load_keys(environ: Mapping[str, str]) -> Keys:
    """The keys of the environment and of the file it names. Raises ConfigError, which never quotes a key."""
    lines = [line for line in environ.get(KEYS, "").split(",") if line.strip()]
    if path := environ.get(KEYS_FILE):
        try:
            with Path(path).open("rb") as file:
                content = file.read(_FILE_LIMIT + 1)
            if len(content) > _FILE_LIMIT:
                raise ConfigError(f"The file of {KEYS_FILE} is larger than {_FILE_LIMIT} bytes.")
            lines += [line for line in content.decode().splitlines() if line.strip() and line.strip()[0] != "#"]
        except OSError as error:
            raise ConfigError(
                f"Could not read the file of {KEYS_FILE}: {error.strerror}.",
                hint="Mount the secret, readable by the server's user, or take the variable away.",
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"The file of {KEYS_FILE} is not UTF-8.") from error
        if not lines:
            raise ConfigError(
                f"The file of {KEYS_FILE} holds no key.", hint="Without a key everybody could ask: add one per line."
            )
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, colon, key = line.strip().partition(":")
        if not colon:
            name, key = f"key-{number}", name
        if len(key) < _LEAST:
            raise ConfigError(
                f"The API key {name if colon else number} has fewer than {_LEAST} characters.",
                hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        if name in keys:
            raise ConfigError(f"Two API keys are named {name!r}.")
        keys[name] = key
    return Keys(keys)
