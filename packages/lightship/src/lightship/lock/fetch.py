"""The bytes of locked wheels: from the cache, else from wherever the user's own index configuration has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lightship.cache import file_digest
from lightship.download import Download, GoneError, download_all
from lightship.errors import LightshipError, NetworkError
from lightship.lock.build_inputs import locked_content
from lightship.lock.file import LockedWheel
from lightship.lock.index import IndexConfiguration, index_configuration, index_options
from lightship.lock.offers import Offer, recall, remember
from lightship.lock.requirements import RequirementsSource
from lightship.lock.target import Target
from lightship.lock.uv import Uv, UvError, explain
from lightship.session import Session
from lightship.transfer import local_path

_OFFLINE_HINT = "Run once without --offline to fill the cache."
_GONE_HINT = (
    "Run `lightship lock` to choose a version that is offered, or point the index configuration (UV_DEFAULT_INDEX, "
    "UV_FIND_LINKS, PIP_INDEX_URL) to a place that has this one."
)


class WheelsGoneError(GoneError):
    """Locked wheels that no index or folder of the user's configuration offers any more; `downloads` says which."""


def fetch_wheels(
    wheels: Sequence[LockedWheel],
    session: Session,
    target: Target,
    *,
    source: RequirementsSource | None = None,
    directory: Path | None = None,
    arrived: Callable[[str], None] = lambda sha256: None,
) -> dict[str, Path]:
    """Every wheel as a blob in the cache, by sha256.

    What is cached costs nothing; what was locked or fetched under the same index configuration is downloaded from
    where it was then; for the rest, or where that place has forgotten it, the index is asked again.

    Args:
        source: The requirements, which may name wheels and indexes themselves.
        directory: The project's folder, where uv's settings are looked for.
        arrived: Is told of each wheel that was missing, by its sha256, when it has come; from several threads.

    Raises: `NetworkError` (`WheelsGoneError` naming those that are no longer offered), `IntegrityError`.
    """
    missing = _missing(wheels, session)
    if missing:
        folder = directory or (source.directory if source else Path())
        index = index_configuration(session.environ, source, folder)
        uv = Uv(session, index, folder)
        places = _remembered(missing, session, index)
        unknown = [wheel for wheel in missing if wheel.sha256 not in places]
        asked = _located(unknown, target, uv, source) if unknown else {}
        if session.offline:
            _check_reachable_offline(missing, places | asked)
        try:
            _download(missing, places | asked, session, index, arrived)
        except NetworkError:
            # An address that was remembered may have gone, where the file itself has not: mirrors move.
            again = [wheel for wheel in _missing(wheels, session) if wheel.sha256 in places]
            if not again or session.offline:
                raise
            places = _located(again, target, uv, source, refresh=True) | asked
            _download(_missing(wheels, session), places, session, index, arrived)
    return {wheel.sha256: session.cache.blob_path(f"sha256:{wheel.sha256}") for wheel in wheels}


def _check_reachable_offline(wheels: Sequence[LockedWheel], places: dict[str, str]) -> None:
    remote = [str(wheel) for wheel in wheels if local_path(places[wheel.sha256]) is None]
    if remote:
        raise NetworkError(f"Offline, and not in the cache: {', '.join(remote)}.", hint=_OFFLINE_HINT)


def _missing(wheels: Sequence[LockedWheel], session: Session) -> list[LockedWheel]:
    return [wheel for wheel in wheels if not session.cache.has_blob(f"sha256:{wheel.sha256}", wheel.size)]


def _remembered(wheels: Sequence[LockedWheel], session: Session, index: IndexConfiguration) -> dict[str, str]:
    found = {wheel.sha256: recall(wheel.sha256, session.cache, index) for wheel in wheels}
    return {sha256: place[0] for sha256, place in found.items() if place is not None}


def _download(
    wheels: Sequence[LockedWheel],
    places: dict[str, str],
    session: Session,
    index: IndexConfiguration,
    arrived: Callable[[str], None],
) -> None:
    downloads = [Download((places[wheel.sha256],), wheel.sha256, wheel.size, str(wheel)) for wheel in wheels]
    count = "1 wheel" if len(wheels) == 1 else f"{len(wheels)} wheels"
    reached = replace(session, environ=index.environ)
    try:
        title = f"Downloading {count}"
        download_all(downloads, reached, title=title, credentials=index.credentials, arrived=arrived)
    except GoneError as error:
        raise WheelsGoneError(error.message, error.downloads, hint=_GONE_HINT) from error


def _located(
    wheels: Sequence[LockedWheel],
    target: Target,
    uv: Uv,
    source: RequirementsSource | None,
    *,
    refresh: bool = False,
) -> dict[str, str]:
    """Where exactly these files are offered now, by sha256."""
    from lightship.lock.pylock import all_urls

    urls = _named_by_source(source, uv)
    wanted = [wheel for wheel in wheels if wheel.sha256 not in urls]
    if wanted:
        lines = [line.text for line in index_options(source)] + [f"{wheel.name}=={wheel.version}" for wheel in wanted]
        try:
            with uv.session.progress.task("Looking for the locked wheels"):
                content, folder = uv.compile(lines, [], target, no_deps=True, refresh=refresh)
        except UvError as error:
            raise _not_offered(error, wanted, uv.session) from error
        urls |= all_urls(content, folder)
    gone = [wheel for wheel in wheels if wheel.sha256 not in urls]
    if gone:
        names = "\n".join(f"{wheel.file} (sha256 {wheel.sha256})" for wheel in gone)
        downloads = [Download((), wheel.sha256, wheel.size, str(wheel)) for wheel in gone]
        raise WheelsGoneError(
            f"The package index no longer offers what is locked:\n{names}", downloads, hint=_GONE_HINT
        )
    for wheel in wheels:
        offer = Offer(wheel.name, wheel.version, wheel.file, wheel.sha256, urls[wheel.sha256], wheel.size)
        remember(offer, uv.session.cache, uv.index)
    return {wheel.sha256: urls[wheel.sha256] for wheel in wheels}


def _named_by_source(source: RequirementsSource | None, uv: Uv) -> dict[str, str]:
    """What the requirements themselves say of places: another tool's lock, or wheels named by path or URL."""
    from lightship.lock.pylock import all_urls
    from lightship.transfer import local_path

    if source is None:
        return {}
    if source.is_locked:
        try:
            return all_urls(*locked_content(source, uv))
        except UvError as error:
            raise explain(error, source.title, offline=uv.session.offline) from error
    urls = {}
    for reference in filter(None, (line.direct_reference for line in source.lines if not line.is_option)):
        url, _, fragment = reference.partition("#")
        path = local_path(url)
        if path is not None and (found := source.directory / path).is_file():
            urls[file_digest(found).removeprefix("sha256:")] = str(found)
        elif path is None and fragment.startswith("sha256="):
            urls[fragment.removeprefix("sha256=")] = url
    return urls


def _not_offered(error: UvError, wheels: Sequence[LockedWheel], session: Session) -> LightshipError:
    """uv's failure to find exact versions: the network's fault, or something has gone."""
    explained = explain(error, "the locked wheels", offline=session.offline)
    if session.offline:
        names = ", ".join(str(wheel) for wheel in wheels)
        return NetworkError(f"Offline, and not in the cache: {names}.", hint=_OFFLINE_HINT)
    if isinstance(explained, NetworkError):
        return explained
    named = [wheel for wheel in wheels if f"{wheel.name}=={wheel.version}" in error.explanation] or list(wheels)
    names = ", ".join(str(wheel) for wheel in named)
    downloads = [Download((), wheel.sha256, wheel.size, str(wheel)) for wheel in named]
    return WheelsGoneError(
        f"The package index no longer offers what is locked: {names}.\n{explained.message}",
        downloads,
        hint=_GONE_HINT,
    )
