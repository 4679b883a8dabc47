"""The indexes that uv's variables and settings and a requirements file name: names, URLs, logins, order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from lightship.lock.keyring import keyring_password
from lightship.transport import origin_of, without_credentials

INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
INDEX_KEYS = frozenset({"index", "index-url", "extra-index-url", "no-index"})


def indexes_of_environ(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Name (empty where there is none) and URL of the indexes and remote folders in uv's variables."""
    for variable in INDEX_VARIABLES:
        yield from (_named(entry) for entry in environ.get(variable, "").split())
    yield from (("", link) for link in environ.get("UV_FIND_LINKS", "").split(",") if "://" in link)


def orders(environ: Mapping[str, str], settings: list[dict[str, Any]], options: list[str]) -> Iterator[str]:
    """All indexes as UV_INDEX has them, each of them first once; several_indexes.py says what for."""
    strategy = environ.get("UV_INDEX_STRATEGY") or next(
        (table["index-strategy"] for table in settings if "index-strategy" in table), ""
    )
    tables = [each for table in settings for each in _tables(table)]
    if strategy != "unsafe-best-match" or any(each.get("explicit") for each in tables):
        return  # the first index with a package decides, or some packages are told where to come from
    of_file = [option for option in options if option.startswith(("-i", "--index-url", "--extra-index-url"))]
    of_settings = [{key: table[key] for key in INDEX_KEYS & table.keys()} for table in settings]
    indexes = {
        url.rstrip("/"): f"{name}={url}" if name else url
        for name, url in (
            *indexes_of_environ({key: value for key, value in environ.items() if key != "UV_FIND_LINKS"}),
            *indexes_of_settings(of_settings),
            *indexes_of_options(of_file),
        )
        if url
    }
    if len(indexes) > 1:
        entries = list(indexes.values())
        yield from (" ".join([first, *(each for each in entries if each != first)]) for first in entries)


def _tables(table: dict[str, Any]) -> list[dict[str, Any]]:
    tables = table.get("index", [])
    return [each for each in tables if isinstance(each, dict)] if isinstance(tables, list) else []


def _named(entry: str) -> tuple[str, str]:
    name, separator, url = entry.partition("=")
    return (name, url) if separator and "/" not in name else ("", entry)


def indexes_of_settings(settings: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for table in settings:
        tables = table.get("index", [])
        for index in tables if isinstance(tables, list) else ():
            if isinstance(index, dict):
                yield str(index.get("name", "")), str(index.get("url", ""))
        for key in ("index-url", "extra-index-url", "find-links"):
            value = table.get(key, [])
            yield from (("", str(url)) for url in (value if isinstance(value, list) else [value]))


def indexes_of_options(options: list[str]) -> Iterator[tuple[str, str]]:
    for option in options:
        for word in option.replace("=", " ", 1).split()[1:]:
            yield "", word


def uses_keyring(environ: Mapping[str, str], settings: list[dict[str, Any]]) -> bool:
    chosen = environ.get("UV_KEYRING_PROVIDER") or next(
        (table["keyring-provider"] for table in settings if "keyring-provider" in table), "disabled"
    )
    return chosen == "subprocess"


def credentials(
    indexes: list[tuple[str, str]], environ: Mapping[str, str], *, keyring: bool
) -> Iterator[tuple[str, tuple[str, str]]]:
    """By origin: what the URL holds, with the keyring's password, else `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`."""
    for name, url in indexes:
        try:
            split = urlsplit(url)
        except ValueError:
            continue
        if not split.hostname:
            continue
        variable = "UV_INDEX_" + "".join(letter if letter.isalnum() else "_" for letter in name).upper()
        if split.username is not None:
            user, password = unquote(split.username), split.password
            if password is None and keyring:
                host = split.netloc.rpartition("@")[2]
                bare = without_credentials(url)
                password = keyring_password(bare, user, environ) or keyring_password(host, user, environ)
                yield origin_of(url), (user, password or "")
            else:
                yield origin_of(url), (user, unquote(password or ""))
        elif name and f"{variable}_USERNAME" in environ:
            yield origin_of(url), (environ[f"{variable}_USERNAME"], environ.get(f"{variable}_PASSWORD", ""))
