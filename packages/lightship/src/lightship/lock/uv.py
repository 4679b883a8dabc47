"""uv, called as a program: what to lock, and what its failures mean."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightship.cache import storing
from lightship.errors import LightshipError, LockError, NetworkError
from lightship.lock.file import LockedWheel
from lightship.lock.index import IndexConfiguration, without_metadata
from lightship.lock.requirements_file import normalised
from lightship.lock.several_indexes import pins, with_wheels
from lightship.lock.target import Target
from lightship.lock.wheelhouse import with_pages
from lightship.session import Session

_SHOWN = 1500  # characters of uv's explanation; a conflict in a large set can fill pages
_NEED_A_BUILD = re.compile(
    r"no usable wheels|no wheels with a matching|no source distribution|Building source distributions is disabled"
    r"|building from source is disabled"
)
_WITHOUT_WHEELS = re.compile(
    r"(?:ecause|and|that) (?:all versions of )?([A-Za-z0-9][A-Za-z0-9._-]*)\S* (?:has|have) no (?:usable )?wheels"
    r"|Wheels are required for `([^`]+)`"
)
_NETWORK = re.compile(
    r"Failed to fetch|error sending request|network was disabled|[Rr]equest failed|dns error|timed out|tcp connect"
    r"|network connectivity is disabled"
)
_DENIED = re.compile(r"\b(401 Unauthorized|403 Forbidden|407 Proxy)|[Ii]nvalid credentials|Missing credentials")
_UNKNOWN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*) was not found in the (?:package registry|provided package locations)"
)
_ENVIRONMENT = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
_LOGIN = re.compile(r"://[^/\s@]*@")
_NO_SOLUTION = "No solution found when resolving dependencies"
WHEELS_REMEDY = (
    "Ask for another version that has wheels, or build a wheel yourself (`pip wheel --no-deps NAME==VERSION`), "
    "put it in a folder and point UV_FIND_LINKS (or --find-links in the requirements file) to it."
)


@dataclass
class UvError(Exception):
    """uv ended with an error; `explanation` is what it said, without secrets and decoration."""

    explanation: str

    def __str__(self) -> str:
        return self.explanation


@dataclass(frozen=True)
class Uv:
    """uv in a project's folder, with the user's index configuration.

    `without` are packages that are left out although others require them.
    """

    session: Session
    index: IndexConfiguration
    directory: Path
    without: tuple[str, ...] = ()

    def compile(
        self,
        lines: Sequence[str],
        files: Sequence[Path],
        target: Target,
        *,
        preferences: Sequence[LockedWheel] = (),
        constraints: Sequence[str] = (),
        links: Path | None = None,
        sdists_of: Sequence[str] = (),
        no_deps: bool = False,
        refresh: bool = False,
    ) -> tuple[dict[str, Any], Path]:
        """Resolve requirement lines and files for the target.

        Args:
            preferences: Versions to keep where the requirements allow.
            constraints: Requirements (PEP 508) on packages that need not be there.
            links: A folder of wheels besides those of the user's configuration.
            sdists_of: Packages of which source distributions are chosen instead of wheels. uv is told that they
                need nothing, so that it has no reason to run their build backends.
            refresh: Believe nothing that uv has cached.

        Returns: the content of a pylock.toml, and the folder that its paths are relative to.

        Raises: `UvError`.
        """
        arguments = [
            *_compile(target),
            *["--no-deps"] * no_deps,
            *["--refresh"] * refresh,
            *(word for name in sdists_of for word in ("--no-binary", name)),
            *self.index.options,
            *(str(path.absolute()) for path in files),
            *(["-"] if lines else []),
        ]
        environ: dict[str, str] = {}
        if links is not None:  # in the variable, because an option would take its place
            known = self.index.environ.get("UV_FIND_LINKS")
            environ["UV_FIND_LINKS"] = ",".join(filter(None, (known, str(links))))
        with self.session.cache.temporary_directory() as folder:
            if constraints:
                arguments += ["--constraints", _written(folder / "constraints.txt", "\n".join([*constraints, ""]))]
            if self.without:  # a requirement that applies to no Python takes the place of all others of that name
                lines_without = [f"{name} ; python_version < '3'" for name in self.without]
                arguments += ["--overrides", _written(folder / "without.txt", "\n".join([*lines_without, ""]))]
            if sdists_of:
                settings = without_metadata(self.index.environ, self.directory, sdists_of)
                environ["UV_CONFIG_FILE"] = _written(folder / "uv.toml", settings)
            content, place = self._run(arguments, "\n".join([*lines, ""]), _preferences(preferences), environ)
        if sdists_of or not (chosen := pins(content)):
            return content, place
        arguments = [*_compile(target), "--no-deps", *self.index.options, "-"]
        text = "\n".join([*self.index.lines, *chosen, ""])
        if not self.index.orders:
            return content, place

        def ask(order: str) -> tuple[dict[str, Any], Path]:
            return self._run(arguments, text, environ={**environ, "UV_INDEX": order})

        with ThreadPoolExecutor(len(self.index.orders)) as pool:  # each waits for the network most of its time
            return with_wheels(content, list(pool.map(ask, self.index.orders))), place

    def export(self, lock: Path) -> tuple[dict[str, Any], Path]:
        """A `uv.lock` like `compile`: the project's own dependencies, without development groups.

        The lock is taken as it is (--frozen); whether it fits its pyproject.toml is uv's affair.
        """
        options = ("--frozen", "--no-default-groups", "--no-emit-project")
        return self._run(["export", "--format", "pylock.toml", *options, "--project", str(lock.parent.absolute())])

    def _run(
        self,
        arguments: list[str],
        text: str = "",
        existing: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Any], Path]:
        options = ["--quiet", "--no-header", *["--offline"] * self.session.offline]
        with self.session.cache.temporary_directory() as folder:
            output = folder.absolute() / "pylock.toml"
            with storing(output):
                if existing:
                    output.write_text(existing)
                run_environ = {**self.index.environ, **_ENVIRONMENT, **(environ or {})}
                if links := run_environ.get("UV_FIND_LINKS"):
                    run_environ["UV_FIND_LINKS"] = with_pages(links, self.session.cache, folder)
            try:
                result = subprocess.run(
                    [self._program(), *arguments, *options, "-o", str(output)],
                    input=text,
                    capture_output=True,
                    encoding="utf-8",
                    errors="replace",
                    env=run_environ,
                    cwd=self.directory,
                    check=False,
                )
            except OSError as error:
                raise LockError(f"uv could not be started: {error}.", hint="Install it: `pip install uv`.") from error
            if result.returncode != 0:
                raise UvError(_explanation(result.stderr) or f"uv ended with status {result.returncode} and no word.")
            return tomllib.loads(output.read_text("utf-8")), folder.resolve()

    def _program(self) -> str:
        try:
            import uv

            return uv.find_uv_bin()
        except (ImportError, FileNotFoundError):
            if found := shutil.which("uv", path=self.index.environ.get("PATH")):
                return found
        raise LockError("uv, which resolves requirements, is not installed.", hint="Install it: `pip install uv`.")


def explain(error: UvError, what: str, *, offline: bool) -> LightshipError:
    """uv's failure as an error for people; `what` was being resolved."""
    text = error.explanation
    shown = text.removeprefix(f"{_NO_SOLUTION}\n")
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN].rsplit("\n", 1)[0] + "\n... (shortened)"
    if _DENIED.search(text):
        return NetworkError(
            f"The package index refused the credentials while {what} was resolved.\n{shown}",
            hint="Set them in the index URL, in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in ~/.netrc.",
        )
    if _NEED_A_BUILD.search(text):
        names = sorted({name or other for name, other in _WITHOUT_WHEELS.findall(text)})
        whose = ", ".join(names) or "A package"
        return LockError(
            f"{whose}: no wheel fits the image, only source that would have to be compiled.\n{shown}",
            hint=WHEELS_REMEDY,
        )
    if _NETWORK.search(text) or (offline and _NO_SOLUTION in text):
        reached = "was not asked (offline), and what is cached does not suffice" if offline else "cannot be reached"
        return NetworkError(
            f"The package index {reached} to resolve {what}.\n{shown}",
            hint="Run once without --offline, so that uv can fill its cache."
            if offline
            else "Check the network, the proxy settings and the index configuration (UV_DEFAULT_INDEX and so on).",
        )
    if unknown := _UNKNOWN.search(text):
        return LockError(
            f"{unknown[1]} is on no index that is configured.\n{shown}",
            hint="Check the spelling, and the index configuration (UV_DEFAULT_INDEX, UV_INDEX, PIP_INDEX_URL).",
        )
    if _NO_SOLUTION in text:
        return LockError(
            f"No set of versions meets {what}.\n{shown}",
            hint="Loosen one of the requirements named above.",
        )
    return LockError(f"uv could not resolve {what}.\n{shown}")


def packages_without_wheels(error: UvError) -> tuple[str, ...]:
    """The packages, normalised, of which uv found nothing but sources, where that is why it ended."""
    if not _NEED_A_BUILD.search(error.explanation):
        return ()
    names = (name or other for name, other in _WITHOUT_WHEELS.findall(error.explanation))
    return tuple(sorted({normalised(name) for name in names}))


def _compile(target: Target) -> tuple[str, ...]:
    return (
        *("pip", "compile", "--format", "pylock.toml", "--only-binary", ":all:"),
        *("--python", sys.executable, "--python-version", target.python, "--python-platform", target.uv_platform),
    )


def _written(path: Path, text: str) -> str:
    with storing(path):
        path.write_text(text, "utf-8")
    return str(path.absolute())


def _preferences(wheels: Sequence[LockedWheel]) -> str:
    """The versions to keep, as the existing output that uv prefers versions from."""
    if not wheels:
        return ""
    entries = "".join(f'[[packages]]\nname = "{wheel.name}"\nversion = "{wheel.version}"\n' for wheel in wheels)
    return f'lock-version = "1.0"\ncreated-by = "lightship"\n{entries}'


def _explanation(stderr: str) -> str:
    """What uv said, without its marks, without passwords, and without hints about options that we chose."""
    lines = []
    for raw in _LOGIN.sub("://***@", stderr).splitlines():
        line = re.sub(r"^(?:\s*(?:×|╰─▶|├─▶|│|error:|cause:))+\s?", "", raw).strip().rstrip(":")
        if line and not line.startswith("warning:") and "--no-build" not in line:
            lines.append(line)
    return "\n".join(lines)
