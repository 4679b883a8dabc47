"""From a source to its wheel: looked up where it was built before, else built in the sandbox."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lightship.bases.base import Base
from lightship.bases.debian import DebianLock
from lightship.bases.image import ImageLock
from lightship.building import backend
from lightship.building.failure import SourceBuildError, last_lines
from lightship.building.leavings import read_result
from lightship.building.obtain import Obtained, obtain
from lightship.building.pyproject import BuildSystem, read_build_system
from lightship.building.sandbox import check_compiler, sandbox_root, with_toolchain
from lightship.building.wheel import Expected, take_wheel
from lightship.cache import storing
from lightship.errors import LightshipError, NetworkError
from lightship.layers import EPOCH, Compression
from lightship.layers.environment import PREFIX, PYTHON
from lightship.lock import LockedWheel, Target, fetch_wheels, proposed_requirements, resolve
from lightship.lock.build_inputs import sources_of
from lightship.lock.file import LockedSource
from lightship.lock.index import index_configuration, index_options
from lightship.lock.requirements import RequirementsSource
from lightship.lock.sources import Source, place_in_lock
from lightship.oci.image import Platform
from lightship.run.sandbox import WORK, run_sandboxed
from lightship.session import Session

RECIPE = 2  # part of every key: raise it when the same source would now become another wheel
TIMEOUT = 3600.0  # seconds for one build; the largest C++ packages take less than half of it on two cores
_RECORDS = "built-wheels"
_ROUNDS = 3  # a backend asks for more at most once; what it then asks for besides is a mistake
_ENVIRONMENT = {
    "PATH": f"/{PREFIX}/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK + "/tmp",  # noqa: S108 - inside the sandbox
    "TMPDIR": WORK + "/tmp",  # noqa: S108 - on the disk: /tmp itself is memory
    "LANG": "C.UTF-8",
    "SOURCE_DATE_EPOCH": str(EPOCH),
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONNOUSERSITE": "1",
    "PIP_NO_INDEX": "1",
}


@dataclass(frozen=True)
class SandboxBuilder:
    """Builds wheels for a target, on the base of an image (a `Builder` of the lock).

    Attributes:
        directory: The project's folder.
        requirements: The project's, whose index options hold for build requirements as well.
        base_lock: The base's half of the lock; waited for only when something is built.
        base: The base itself, likewise.
        before: The wheels of the lock so far: what was pinned there stays.
        mirror: `[base] mirror`, for the compiler.
        keyring: `[base] keyring`, likewise.
    """

    target: Target
    directory: Path
    session: Session
    requirements: RequirementsSource
    base_lock: Callable[[], DebianLock | ImageLock]
    base: Callable[[], Base]
    compression: Compression
    before: Sequence[LockedWheel] = ()
    mirror: str | None = None
    keyring: Path | None = None

    def build(self, source: Source) -> LockedWheel:
        """The wheel of a source, now in the cache, as it stands in the lock.

        Raises: `SourceBuildError`, `EngineError` where there can be no sandbox, and what fetching raises.
        """
        obtained = self._obtain(source, self._before(source))
        if self.base_lock().architecture != Platform.of_this_machine().architecture:
            return self._of_another_platform(source, obtained)
        return self._built(source, obtained, None)

    def rebuild(self, wheel: LockedWheel, source: Source) -> LockedWheel:
        """The wheel that is locked, built anew with what it was built with then.

        Raises: as `build`, and `SourceBuildError` where the source or the result are not what is locked.
        """
        assert wheel.source is not None
        obtained = self._obtain(source, wheel.source)
        if obtained.digest != (wheel.source.commit or wheel.source.sha256):
            raise SourceBuildError(
                f"{source} is not what is locked: its content is another.",
                hint="Run `lightship lock`, look at what it changes, and commit lightship.lock.",
            )
        built = self._built(source, obtained, wheel.source.build)
        if built.sha256 != wheel.sha256:
            raise SourceBuildError(
                f"{source}: the wheel that was built is not the one that is locked (sha256 {built.sha256}, locked is "
                f"{wheel.sha256}): its build gives other bytes each time, or Debian's compiler has changed.",
                hint="Run `lightship lock` to lock the wheel as it is built now.",
            )
        return built

    def rebuild_all(self, wheels: Sequence[LockedWheel]) -> Sequence[LockedWheel]:
        """Bring locked wheels that are built of sources into the cache, where they are not there. Returns all.

        Raises: as `rebuild`.
        """
        missing = [each for each in wheels if not self.session.cache.has_blob(f"sha256:{each.sha256}", each.size)]
        if missing:
            sources = sources_of(missing, self.requirements, self.target, self.session)
            for wheel in missing:
                self.rebuild(wheel, sources[wheel.name])
        return wheels

    def _of_another_platform(self, source: Source, obtained: Obtained) -> LockedWheel:
        """The wheel that was built here of the same source for this machine, where it does for every processor."""
        from packaging.utils import parse_wheel_filename

        tags = set(self.target.tags())
        for wheel in self.before:
            found = wheel.source
            if found is None or (found.commit or found.sha256, found.subdirectory) != (
                obtained.digest,
                obtained.pinned.subdirectory,
            ):
                continue
            if wheel.file.endswith("-any.whl") and parse_wheel_filename(wheel.file)[3] & tags:
                return _with_source(wheel, obtained, found.build)
        raise SourceBuildError(
            f"{source} would have to be built for {self.target.platform}, which needs such a machine.",
            hint="List this machine's platform first, whose wheel is taken for all where it is pure Python; else "
            "build the wheel on such a machine, put it in a folder, and name that with --find-links.",
        )

    def _obtain(self, source: Source, before: LockedSource | None) -> Obtained:
        index = index_configuration(self.session.environ, self.requirements, self.directory)
        return obtain(source, before, self.directory, self.session, index.credentials)

    def _before(self, source: Source) -> LockedSource | None:
        wanted = (source.kind, place_in_lock(source, self.directory), source.subdirectory)
        for wheel in self.before:
            found = wheel.source
            same_name = source.kind != "sdist" or wheel.name == source.name
            if found and same_name and (found.kind, found.place, found.subdirectory) == wanted:
                return found
        return None

    def _built(self, source: Source, obtained: Obtained, build: Sequence[LockedWheel] | None) -> LockedWheel:
        key = self._key(obtained, build)
        if known := self._recorded(key, obtained):
            return known
        with self.session.cache.lock(f"build-{key}"):
            if known := self._recorded(key, obtained):
                return known
            with self.session.progress.task(f"Building {source}"):
                wheel = self._build(source, obtained, build)
            # Under the exact key too, which a later build from the lock looks up.
            assert wheel.source is not None
            for each in {key, self._key(obtained, wheel.source.build)}:
                self.session.cache.write_record(_RECORDS, each, msgspec.to_builtins(wheel))
        return wheel

    def _key(self, obtained: Obtained, build: Sequence[LockedWheel] | None) -> str:
        """What decides the wheel; without `build`, the newest build requirements when it was built first."""
        parts = [
            RECIPE,
            obtained.digest,
            obtained.pinned.subdirectory,
            [self.target.minor, self.target.platform, list(self.target.glibc)],
            self.base_lock().to_dict(),
            None if build is None else sorted(each.sha256 for each in build),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _recorded(self, key: str, obtained: Obtained) -> LockedWheel | None:
        record = self.session.cache.read_record(_RECORDS, key)
        if record is None:
            return None
        try:
            wheel = msgspec.convert(record, LockedWheel)
        except msgspec.ValidationError:
            return None
        if wheel.source is None or not self.session.cache.has_blob(f"sha256:{wheel.sha256}", wheel.size):
            return None
        return _with_source(wheel, obtained, wheel.source.build)

    def _build(self, source: Source, obtained: Obtained, build: Sequence[LockedWheel] | None) -> LockedWheel:
        with self.session.cache.temporary_directory() as work:
            obtained.unpack(work / "source")
            folder = _package_folder(work / "source", obtained.pinned.subdirectory, source.title)
            system = read_build_system(folder, source.title)
            base = self._base(system.native)
            with storing(work):
                (work / "out").mkdir()
                (work / "tmp").mkdir()
                shutil.copyfile(backend.__file__, work / "backend.py")
            requires = list(system.requires)
            for _ in range(_ROUNDS):
                wheels = self._build_requirements(requires, source) if build is None else tuple(build)
                request = {
                    "backend": system.backend,
                    "backend_path": system.backend_path,
                    "subdirectory": obtained.pinned.subdirectory,
                    "installed": requires if build is None else None,
                }
                result = self._run(work, base, wheels, request, system, source)
                if isinstance(file := result.get("wheel"), str):
                    expected = Expected(source.title, self.target, source.name, source.version)
                    return _with_source(take_wheel(work, file, expected, self.session.cache), obtained, wheels)
                requires += _asked(result, source.title)
        raise SourceBuildError(f"{source}: its build backend asks for more each time: {', '.join(requires)}.")

    def _base(self, native: bool) -> Base:
        lock = self.base_lock()
        if native and isinstance(lock, DebianLock):
            return with_toolchain(lock, self.session, self.compression, mirror=self.mirror, keyring=self.keyring)
        return self.base()

    def _build_requirements(self, requires: Sequence[str], source: Source) -> tuple[LockedWheel, ...]:
        """The wheels of a build's requirements, in the cache."""
        if not requires:
            return ()
        _check_requirements(requires, source.title)
        options = [line.text for line in index_options(self.requirements)]
        wanted = proposed_requirements([*options, *requires], self.directory)
        try:
            wheels = resolve(wanted, (), self.target, self.session)
            fetch_wheels(wheels, self.session, self.target, source=wanted, directory=self.directory)
        except LightshipError as error:
            kind = NetworkError if isinstance(error, NetworkError) else SourceBuildError
            raise kind(
                f"{source} cannot be built for want of what builds it. {error.message}", hint=error.hint
            ) from error
        return wheels

    def _run(
        self,
        work: Path,
        base: Base,
        wheels: Sequence[LockedWheel],
        request: Mapping[str, Any],
        system: BuildSystem,
        source: Source,
    ) -> dict[str, Any]:
        with storing(work):
            (work / "request.json").write_text(json.dumps(request))
        root, held = sandbox_root(base, wheels, self.session, self.compression)
        try:
            if system.native:
                check_compiler(root, source.title)
            program = [PYTHON, "-I", f"{WORK}/backend.py"]
            finished = run_sandboxed(root, program, _ENVIRONMENT, work, timeout=TIMEOUT)
        finally:
            if held:
                held.close()
        if finished.status is None:
            raise SourceBuildError(f"{source}: the build did not end within {TIMEOUT:.0f} seconds.")
        if finished.status != 0:
            module = system.backend.partition(":")[0]
            raise SourceBuildError(
                f"{source}: its build backend {module} failed:\n{last_lines(finished.output)}",
                hint="Builds have no network and write nowhere but in their folder. Is a library missing that it is "
                "compiled against? Add its -dev package to [base] packages. Else build the wheel elsewhere, put it "
                "in a folder, and name that with --find-links.",
            )
        return read_result(work, source.title)


def _with_source(wheel: LockedWheel, obtained: Obtained, build: Sequence[LockedWheel]) -> LockedWheel:
    return msgspec.structs.replace(
        wheel, source=msgspec.structs.replace(obtained.pinned, build=tuple(sorted(build, key=lambda each: each.name)))
    )


def _package_folder(folder: Path, subdirectory: str, title: str) -> Path:
    """Where the package lies in an unpacked source; nowhere outside of it."""
    found = (folder / subdirectory).resolve()
    if not found.is_dir() or not found.is_relative_to(folder.resolve()):
        raise SourceBuildError(f"{title}: there is no subdirectory {subdirectory!r} in it.")
    return found


def _asked(result: Mapping[str, Any], title: str) -> list[str]:
    asked = result.get("requires")
    if not isinstance(asked, list) or not all(isinstance(each, str) for each in asked):
        raise SourceBuildError(f"{title}: the build left a result of another form.")
    return asked


def _check_requirements(requires: Sequence[str], title: str) -> None:
    """Nothing but requirements may reach the resolver: a line of its input can also be an option."""
    from packaging.requirements import InvalidRequirement, Requirement

    for each in requires:
        try:
            Requirement(each)
        except InvalidRequirement as error:
            raise SourceBuildError(
                f"{title}: what builds it asks for {each[:200]!r}, no requirement: {error}"
            ) from error
        if not each.isprintable():
            raise SourceBuildError(f"{title}: what builds it asks for {each[:200]!r}, which is not one line.")
