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

from lightship.lock.named_indexes import (
    INDEX_KEYS,
    INDEX_VARIABLES,
    credentials,
    indexes_of_environ,
    indexes_of_options,
    indexes_of_settings,
    orders,
    uses_keyring,
)
from lightship.lock.requirements import RequirementsSource
from lightship.lock.requirements_file import Line, normalised

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
        lines: What the requirements file says of places, as lines for uv.
        key: Stands for where packages are looked for; addresses remembered under one key are not used under another.
        orders: Values of UV_INDEX, each with another index before all others, where there are several and uv is to
            look for the best match in all of them; else none. The index that uv assumes where none is named is
            never put first: it has no name here.
    """

    environ: Mapping[str, str]
    options: tuple[str, ...]
    lines: tuple[str, ...]
    credentials: Mapping[str, tuple[str, str]]
    key: str
    orders: tuple[str, ...]


def index_configuration(
    environ: Mapping[str, str], source: RequirementsSource | None, directory: Path
) -> IndexConfiguration:
    """The configuration that holds in a project's folder, with the index options of its requirements file."""
    settings = list(_uv_settings(environ, directory))
    options = [line.expanded(environ) for line in index_options(source)]
    named_by_file = any(option.startswith(("-i", "--index-url")) for option in options)
    pip = _pip_settings(environ)
    if named_by_file or any(environ.get(name) for name in INDEX_VARIABLES) or _configured(settings) & INDEX_KEYS:
        pip = {key: value for key, value in pip.items() if key not in INDEX_KEYS}
    combined = _with_pip_settings(environ, pip, _configured(settings))
    indexes = [*indexes_of_environ(combined), *indexes_of_settings(settings), *indexes_of_options(options)]
    places = [f"{name}={url}" for name, url in indexes]
    places += [f"{name}={combined[name]}" for name in ("UV_FIND_LINKS", "UV_INDEX_STRATEGY") if name in combined]
    uv_options = ("--no-index",) if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else ()
    return IndexConfiguration(
        environ=combined,
        options=uv_options,
        lines=tuple(options),
        credentials=dict(credentials(indexes, combined, keyring=uses_keyring(combined, settings))),
        key=hashlib.sha256("\0".join([*places, *options, *uv_options]).encode()).hexdigest()[:16],
        orders=() if uv_options else tuple(orders(combined, settings, options)),
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
