"""A git repository as a source: one commit of it, as an archive. None of the repository's code runs.

git is run with no hooks, no filters of the repository's own, and none of its transports that start programs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lightship.errors import LockError, NetworkError
from lightship.lock.sources import is_commit
from lightship.session import Session
from lightship.transport import masked

_TIMEOUT = 900  # seconds for one command; a repository that takes longer is not fetched as a requirement
_TRANSPORTS = "file:git:http:https:ssh"  # not ext, which runs what the URL says (git-remote-ext(1))
_SETTINGS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never")
_LOGIN = re.compile(r"://[^/\s@]*@")


def find_commit(url: str, revision: str, session: Session) -> str:
    """The full hash of the commit that a branch, tag or hash stands for now.

    Raises: `LockError` where there is no such revision, `NetworkError` where the repository cannot be read.
    """
    if is_commit(revision):
        return revision
    _check_reachable(url, session)
    wanted = revision or "HEAD"
    # A tag that is an object of its own is asked for peeled, as `NAME^{}`.
    names = (
        [wanted] if wanted == "HEAD" else [f"refs/heads/{wanted}", f"refs/tags/{wanted}", f"refs/tags/{wanted}^{{}}"]
    )
    listed = _git(["ls-remote", "--", url, *names], url, session)
    found = {name: commit for commit, _, name in (line.partition("\t") for line in listed.splitlines())}
    for name in reversed(names):
        if name in found and is_commit(found[name]):
            return found[name]
    hint = "Write the full hash of a commit: a repository tells only branches and tags by their names."
    raise LockError(f"{masked(url)} has no branch or tag {wanted!r}.", hint=hint)


def fetch_commit(url: str, commit: str, revision: str, target: Path, session: Session) -> None:
    """Write the tree of a commit as a tar to `target`.

    Raises: as `find_commit`.
    """
    _check_reachable(url, session)
    with session.cache.temporary_directory() as folder, session.progress.task(f"Fetching {masked(url)}"):
        _git(["init", "--quiet", "--bare", str(folder)], url, session)
        try:
            _git(["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, commit], url, session, folder)
        except NetworkError:
            # Not every server gives a commit by its hash; then by the name, with all that leads there.
            references = [revision] if revision and not is_commit(revision) else ["+refs/heads/*:refs/heads/*"]
            _git(["fetch", "--quiet", "--no-tags", "--", url, *references], url, session, folder)
        _git(["archive", "--format=tar", f"--output={target.absolute()}", commit], url, session, folder)


def _check_reachable(url: str, session: Session) -> None:
    if session.offline and "://" in url and not url.startswith("file:"):
        raise NetworkError(
            f"Offline, and not in the cache: the repository {masked(url)}.",
            hint="Run once without --offline to fill the cache.",
        )


def _git(arguments: list[str], url: str, session: Session, folder: Path | None = None) -> str:
    program = shutil.which("git", path=session.environ.get("PATH"))
    if program is None:
        raise LockError(f"git is not installed, and {masked(url)} is a repository.", hint="Install git.")
    where = [f"--git-dir={folder}"] if folder else []
    try:
        done = subprocess.run(
            [program, *_SETTINGS, *where, *arguments],
            env=_environment(session.environ),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NetworkError(f"{masked(url)} did not answer git within {_TIMEOUT} seconds.") from error
    if done.returncode != 0:
        said = _LOGIN.sub("://***@", done.stderr).strip()
        raise NetworkError(
            f"git could not read {masked(url)}:\n{said[-1500:]}",
            hint="Try `git ls-remote` on it; its own configuration and credential helpers are used here too.",
        )
    return done.stdout


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own, so that credentials and proxies are found, without what points git to another repository."""
    kept = {
        name: value for name, value in environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": _TRANSPORTS, "LC_ALL": "C"}
