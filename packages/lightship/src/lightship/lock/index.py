"""The user's own index configuration: uv's settings as they are, and pip's where uv has none.

Many sites configure pip only. What `PIP_*` variables and pip.conf say of indexes, folders of wheels, certificates and
proxies is handed to uv as its own variables; a setting that uv has already, from its environment or from a uv.toml,
is never overridden. No index is ever named here.
"""

from __future__ import annotations

import configparser
import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lightship.lock.keyring import keyring_password
from lightship.lock.requirements import RequirementsSource
from lightship.lock.requirements_file import Line, normalised
from lightship.transport import origin_of, without_credentials

_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_INDEX_KEYS = frozenset({"index", "index-url", "extra-index-url", "no-index"})
_PLACE_OPTIONS = (
    "--index-url",
    "-i",
    "--extra-index-url",
    "--find-links",
    "-f",
    "--no-index",
    "--pre",
    "--prefer-binary",
)


@dataclass(frozen=True)
class IndexConfiguration:
    """What uv and the downloads need to know.

    Attributes:
        environ: The environment for uv, complete.
        options: What uv takes from its command line only.
        credentials: User name and password by origin, of every index that is configured.
        key: Stands for where packages are looked for; addresses remembered under one key are not used under another.
    """

    environ: Mapping[str, str]
    options: tuple[str, ...]
    credentials: Mapping[str, tuple[str, str]]
    key: str


def index_configuration(
    environ: Mapping[str, str], source: RequirementsSource | None, directory: Path
) -> IndexConfiguration:
    """The configuration that holds in a project's folder, with the index options of its requirements file."""
    settings = list(_uv_settings(environ, directory))
    options = [line.expanded(environ) for line in index_options(source)]
    named_by_file = any(option.startswith(("-i", "--index-url")) for option in options)
    pip = _pip_settings(environ)
    if named_by_file or any(environ.get(name) for name in _INDEX_VARIABLES) or _configured(settings) & _INDEX_KEYS:
        pip = {key: value for key, value in pip.items() if key not in _INDEX_KEYS}
    combined = _with_pip_settings(environ, pip, _configured(settings))
    indexes = [*_indexes_of_environ(combined), *_indexes_of_settings(settings), *_indexes_of_options(options)]
    places = [f"{name}={url}" for name, url in indexes]
    places += [f"{name}={combined[name]}" for name in ("UV_FIND_LINKS", "UV_INDEX_STRATEGY") if name in combined]
    uv_options = ("--no-index",) if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else ()
    return IndexConfiguration(
        environ=combined,
        options=uv_options,
        credentials=dict(_credentials(indexes, combined, keyring=_uses_keyring(combined, settings))),
        key=hashlib.sha256("\0".join([*places, *options, *uv_options]).encode()).hexdigest()[:16],
    )


def index_options(source: RequirementsSource | None) -> list[Line]:
    """The lines of a requirements file that say where packages are found."""
    lines = source.lines if source is not None and source.kind in ("requirements", "list") else ()
    return [line for line in lines if line.is_option and line.text.partition("=")[0].split()[0] in _PLACE_OPTIONS]


# pip's settings, in uv's words


def _configured(settings: list[dict[str, Any]]) -> set[str]:
    return {key for table in settings for key in table}


def _with_pip_settings(environ: Mapping[str, str], pip: Mapping[str, str], configured: set[str]) -> dict[str, str]:
    """The environment with what pip is told and uv is not."""
    combined = {**environ, **dict(_indexes_of_pip(pip))}
    if combined.keys() - environ.keys() and "index-strategy" not in configured:
        # pip takes the best version of all indexes; uv, unless told so, stops at the first index with the name.
        combined.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    links = environ.get("UV_FIND_LINKS", "").split(",")
    if "UV_FIND_LINKS" not in environ and "find-links" not in configured:
        links = pip.get("find-links", "").split()
    if any(links):
        combined["UV_FIND_LINKS"] = ",".join(_absolute(link) for link in links if link)
    bundle = environ.get("REQUESTS_CA_BUNDLE") or pip.get("cert")
    if bundle and not environ.get("SSL_CERT_FILE"):
        combined["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    if "proxy" in pip and not any(environ.get(name) or environ.get(name.upper()) for name in proxies):
        combined["ALL_PROXY"] = pip["proxy"]
    return combined


def _indexes_of_pip(pip: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if default := pip.get("index-url"):
        yield "UV_DEFAULT_INDEX", default
    if extra := pip.get("extra-index-url", "").split():
        yield "UV_INDEX", " ".join(extra)


def _absolute(link: str) -> str:
    """A folder as the user meant it: relative to where the command runs, not to the project."""
    return link if "://" in link else str(Path(link).expanduser().absolute())


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings for `pip install`, as pip ranks them: files from the most general on, then the environment."""
    found: dict[str, str] = {}
    for path in _pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip itself will complain of its file
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return found


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's configuration files on Linux (its user guide, "Location")."""
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == "/dev/null":
        return
    for directory in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")):
        yield Path(directory, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if home := environ.get("HOME"):
        yield Path(home, ".pip", "pip.conf")
    yield from (base / "pip" / "pip.conf" for base in _config_homes(environ))
    if prefix := environ.get("VIRTUAL_ENV"):
        yield Path(prefix, "pip.conf")
    if chosen:
        yield Path(chosen)


# uv's settings


def _uv_settings(environ: Mapping[str, str], directory: Path) -> Iterator[dict[str, Any]]:
    """The tables of settings that uv will read: of the project, of the user, of the system."""
    if environ.get("UV_CONFIG_FILE"):
        yield _table(Path(environ["UV_CONFIG_FILE"]))
        return
    if environ.get("UV_NO_CONFIG"):
        return
    directory = directory.absolute()
    for folder in (directory, *directory.parents):
        if (folder / "uv.toml").is_file():
            yield _table(folder / "uv.toml")
            break
        if own := _table(folder / "pyproject.toml").get("tool", {}).get("uv"):
            yield _with_absolute_places(own, folder)
            break
    for base in _config_homes(environ):
        yield _table(base / "uv" / "uv.toml")
    for system in (*environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"), "/etc"):
        yield _table(Path(system, "uv", "uv.toml"))


def _config_homes(environ: Mapping[str, str]) -> Iterator[Path]:
    if chosen := environ.get("XDG_CONFIG_HOME"):
        yield Path(chosen)
    elif home := environ.get("HOME"):
        yield Path(home, ".config")


def _table(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # uv itself will complain of its file
    return _with_absolute_places(table, path.parent)


def _with_absolute_places(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A table of settings, what concerns `uv pip` in it as well, its folders as absolute paths."""
    pip = table.get("pip")
    table = {**pip, **table} if isinstance(pip, dict) else dict(table)
    if isinstance(links := table.get("find-links"), list):
        table["find-links"] = [_below(folder, str(link)) for link in links]
    if isinstance(tables := table.get("index"), list):
        named = (each for each in tables if isinstance(each, dict))
        table["index"] = [{**each, "url": _below(folder, str(each.get("url", "")))} for each in named]
    return table


def _below(folder: Path, place: str) -> str:
    return place if "://" in place else str(folder.absolute() / place)


# What decides a resolution of uv's, besides the requirements themselves (uv's reference of settings).
_RESOLUTION_KEYS = (
    *("index", "index-url", "extra-index-url", "no-index", "find-links", "index-strategy", "keyring-provider"),
    *("allow-insecure-host", "native-tls", "system-certs", "prerelease", "resolution", "exclude-newer"),
    *("constraint-dependencies", "override-dependencies", "dependency-metadata"),
)


def without_metadata(environ: Mapping[str, str], directory: Path, names: Sequence[str]) -> str:
    """uv's settings as they are in a folder, as the text of one uv.toml, with packages said to need nothing.

    uv reads either the files that it finds or the one it is pointed to, so the one has to hold them all. Lists are
    joined, the nearest file first; of anything else the nearest counts.
    """
    import tomli_w

    merged: dict[str, Any] = {}
    for table in _uv_settings(environ, directory):
        for key in _RESOLUTION_KEYS:
            if key not in table:
                continue
            if isinstance(table[key], list):
                merged[key] = [*merged.get(key, []), *table[key]]
            else:
                merged.setdefault(key, table[key])
    kept = {"index": merged.pop("index", []), "dependency-metadata": merged.pop("dependency-metadata", [])}
    kept["dependency-metadata"] = [
        *(each for each in kept["dependency-metadata"] if normalised(str(each.get("name"))) not in names),
        *({"name": name} for name in names),
    ]
    return tomli_w.dumps({**merged, **{key: value for key, value in kept.items() if value}})


# Credentials


def _indexes_of_environ(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Name (empty where there is none) and URL of the indexes and remote folders in uv's variables."""
    for variable in _INDEX_VARIABLES:
        yield from (_named(entry) for entry in environ.get(variable, "").split())
    yield from (("", link) for link in environ.get("UV_FIND_LINKS", "").split(",") if "://" in link)


def _named(entry: str) -> tuple[str, str]:
    name, separator, url = entry.partition("=")
    return (name, url) if separator and "/" not in name else ("", entry)


def _indexes_of_settings(settings: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for table in settings:
        tables = table.get("index", [])
        for index in tables if isinstance(tables, list) else ():
            if isinstance(index, dict):
                yield str(index.get("name", "")), str(index.get("url", ""))
        for key in ("index-url", "extra-index-url", "find-links"):
            value = table.get(key, [])
            yield from (("", str(url)) for url in (value if isinstance(value, list) else [value]))


def _indexes_of_options(options: list[str]) -> Iterator[tuple[str, str]]:
    for option in options:
        for word in option.replace("=", " ", 1).split()[1:]:
            yield "", word


def _uses_keyring(environ: Mapping[str, str], settings: list[dict[str, Any]]) -> bool:
    chosen = environ.get("UV_KEYRING_PROVIDER") or next(
        (table["keyring-provider"] for table in settings if "keyring-provider" in table), "disabled"
    )
    return chosen == "subprocess"


def _credentials(
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
