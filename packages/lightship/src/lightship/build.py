"""The pipeline: plan, lock, base, layers, image. Everything that can wait for nothing else runs at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from lightship.assemble import APP, assemble
from lightship.bases.base import Base
from lightship.bases.debian import DebianLock, build_debian
from lightship.bases.image import ImageLock, build_image_base
from lightship.download import GoneError
from lightship.errors import LightshipError
from lightship.layers import Compression, Layer, Recipe, cached_layer, materialise
from lightship.layers.bytecode import Compiler, interpreter_compiler
from lightship.layers.bytecode_store import BytecodeStore
from lightship.layers.environment import Environment
from lightship.layers.files import FileEntry, FilesRecipe
from lightship.layers.grouping import HEAVY, group
from lightship.layers.processors import check_processor
from lightship.layers.removed import Removed, remember_removed
from lightship.layers.runtime import RuntimeRecipe
from lightship.layers.weights import Weighed, WeightsFile, shards, weigh
from lightship.layers.wheels import WheelSource, WheelsRecipe
from lightship.lock import LockedWheel, Pruned, Target, WheelsGoneError, fetch_wheels, pinned_wheels
from lightship.locking import Locked, bring_up_to_date, lock_base, replace_base, source_builder, target_of
from lightship.oci import Built, Image, ImageIndex, Platform, Reference, write_layout
from lightship.oci.stored import unpacked_size
from lightship.phases import Phases
from lightship.plan import Plan, make_plan
from lightship.project import Project
from lightship.pruning import Pruning
from lightship.selection import OBSERVED, installed_of, removals, rules_of, what_to_install
from lightship.serve_config import serve_config
from lightship.session import Session

if TYPE_CHECKING:
    from lightship.supply import Materials

HUGE = 64 << 20  # bytes of wheels in a layer, from which on its bytecode is compiled by several processes
COMPILERS = 2  # processes for such a layer; each may take 90 MB, and memory is to stay flat on large machines too


@dataclass(frozen=True)
class Part:
    """The image for one platform, the lock that it was built from, and the files of its model.

    `removed` is what pruning left out, by distribution, the largest saving first.
    """

    image: Image
    locked: Locked
    weights: tuple[FileEntry, ...]
    removed: tuple[Removed, ...] = ()


@dataclass(frozen=True)
class Build:
    """A built image.

    Attributes:
        image: The image, or the index of one for each platform.
        reference: Its name and tag.
        layout: The OCI layout in the cache.
        lock_changes: What changed in the locks, one line each.
        phases: How long each phase took.
        parts: What the image of each platform was made of.
    """

    plan: Plan
    image: Built
    reference: str
    layout: Path
    lock_changes: tuple[str, ...]
    phases: Phases
    parts: tuple[Part, ...]

    @property
    def materials(self) -> tuple[Materials, ...]:
        """What the image of each platform was made of, for the documents of the supply chain."""
        from lightship.supply import Materials

        name, _, tag = self.reference.rpartition(":")
        settings, level = self.plan.project.settings, self.plan.pruning.value
        return tuple(
            Materials(name, tag, part.image, lock, part.locked.base, part.weights, settings)
            for part in self.parts
            for lock in [installed_of(part.locked.lock, level)]
        )

    @property
    def plain_archive(self) -> bool:
        """Whether an archive gets plain layers: zstd is unknown to Docker before 23, plain tar to nobody."""
        return self.plan.compression.value == Compression.ZSTD


def build(
    project: Project,
    session: Session,
    *,
    locked: bool = False,
    upgrade: bool = False,
    cache_from: Sequence[Reference] = (),
    plain_http: bool = False,
    whole: bool = True,
) -> Build:
    """Build the image of a project into the cache, for every platform of its plan.

    Args:
        cache_from: Images in registries whose layers are reused without their bytes; `plain_http` is for theirs.
        whole: Bring the bytes of such layers here in the end; a push does without.
        locked: Fail where lightship.lock is stale or missing.
        upgrade: Resolve anew and take the newest versions.

    Raises: a `LightshipError` that says what, where, why and what to do; nothing half-made is left behind.
    """
    phases = Phases()
    session.cache.sweep()
    with phases.phase("plan"):
        plan = make_plan(project)
    platforms = [Platform.parse(text) for text in plan.platforms.value]
    if cache_from:
        from lightship.oci.reuse import adopt

        with phases.phase("reuse"):
            adopt(cache_from, platforms, session, plain_http=plain_http)
    parts = tuple(
        _build_image(plan, platform, session, phases, locked=locked, upgrade=upgrade) for platform in platforms
    )
    changes = tuple(change for part in parts for change in part.locked.changes)
    with phases.phase("image"):
        built = parts[0].image if len(parts) == 1 else ImageIndex(tuple(part.image for part in parts))
        if cache_from and whole:
            _bring(built.layers, session)
        reference = f"{project.name}:{project.settings.image.tag}"
        layout = session.cache.image_path(reference)
        write_layout(built, session.cache, layout, name=reference, sparse=True)
    return Build(plan, built, reference, layout, changes, phases, parts)


def _build_image(
    plan: Plan, platform: Platform, session: Session, phases: Phases, *, locked: bool, upgrade: bool
) -> Part:
    """The image for one platform."""
    with ThreadPoolExecutor(session.jobs + 1, thread_name_prefix="lightship") as pool:
        bases, workshop = _Bases(plan, session, pool), _Workshop(plan, session, pool)

        def base_known(base: DebianLock | ImageLock, *, resolving: bool) -> None:
            bases.begin(base)
            if resolving and not session.offline:
                pool.submit(_begin_pinned, plan, target_of(plan.base.value, platform, base), base, bases, workshop)

        with phases.phase("lock"):
            fitting = bring_up_to_date(plan, platform, session, locked=locked, upgrade=upgrade, base_known=base_known)
        try:
            part = _pruned(plan, platform, fitting, phases, bases, workshop, locked=locked, fresh=upgrade)
        except WheelsGoneError:
            raise  # another base would not bring them back
        except GoneError as error:
            if locked or session.offline or not isinstance(fitting.base, DebianLock):
                raise
            session.progress.note(error.message)
            with phases.phase("lock"):
                fitting = replace_base(fitting, plan, platform, session)
            # What was begun with the old base has failed with it.
            part = _pruned(plan, platform, fitting, phases, bases, _Workshop(plan, session, pool), fresh=upgrade)
    if platform != Platform.of_this_machine():
        with phases.phase("check"):
            check_processor(part.image.layers, platform.architecture, session.cache)
    return replace(part, removed=_removed(plan, part.locked, session))


def _pruned(
    plan: Plan,
    platform: Platform,
    fitting: Locked,
    phases: Phases,
    bases: _Bases,
    workshop: _Workshop,
    *,
    locked: bool = False,
    fresh: bool = False,
) -> Part:
    """The image of a lock, in which the levels of pruning that observe a run write down what they saw."""

    def part(pruned: Pruned | None) -> Part:
        base, layers, weights = _base_and_layers(plan, fitting, pruned, phases, bases, workshop)
        with phases.phase("image"):
            base.fetch()
            image = assemble(plan, _measured(base, workshop.session), layers, workshop.session.environ)
        return Part(image, fitting, weights)

    if plan.pruning.value not in OBSERVED:
        return part(None)
    session, environment = workshop.session, _environment(fitting.base)
    weighed = [future.result() for future in _weights(plan, session, workshop.compression, workshop.pool)]
    weights = tuple(entry for each in weighed for entry in each.files)
    content = (_app_recipe(plan, session, weights).key, *(f"{entry.path} {entry.digest}" for entry in weights))
    pruning = Pruning(
        plan, platform, fitting, environment, content, lambda pruned: part(pruned).image, session, phases
    )
    image, observed = pruning.run(locked=locked, fresh=fresh)
    return Part(image, observed, weights)


def _removed(plan: Plan, fitting: Locked, session: Session) -> tuple[Removed, ...]:
    level = plan.pruning.value
    wheels = _wheels(plan, fitting.lock.wheels, fitting.lock.pruned if level in OBSERVED else None, session)
    return removals(fitting.lock, wheels, _environment(fitting.base), level, session)


def _environment(base: DebianLock | ImageLock) -> Environment:
    return Environment(_interpreter_path(base), base.python_version)


def _bring(layers: Iterable[Layer], session: Session) -> None:
    from lightship.oci.reuse import bring

    bring(layers, session)


class _Bases:
    """The bases of locks, each begun once: while wheels are resolved, the base is already made."""

    def __init__(self, plan: Plan, session: Session, pool: ThreadPoolExecutor) -> None:
        self._plan = plan
        self._session = session
        self._pool = pool
        self._begun: list[tuple[DebianLock | ImageLock, Future[Base]]] = []
        self._lock = Lock()
        self.native_root = cache(partial(_native_root, plan, session))

    def begin(self, lock: DebianLock | ImageLock) -> Future[Base]:
        """The base of a lock, under way or done."""
        with self._lock:
            for known, future in self._begun:
                if known == lock:
                    return future
            native_root = self.native_root if self._is_foreign(lock) else None
            future = self._pool.submit(_base, self._plan, lock, self._session, native_root)
            self._begun.append((lock, future))
            return future

    def root(self, lock: DebianLock | ImageLock) -> Path:
        """Where a Python of the base's version is that runs on this machine: the base's own, or its twin's."""
        if self._is_foreign(lock):
            return self.native_root()
        base = self.begin(lock).result()
        if any(self._session.cache.elsewhere(layer.digest) for layer in base.layers):
            _bring(base.layers, self._session)
        return base.interpreter.root()

    @staticmethod
    def _is_foreign(lock: DebianLock | ImageLock) -> bool:
        return lock.architecture != Platform.of_this_machine().architecture


class _Workshop:
    """Layers under way, each begun once, however often it is asked for."""

    def __init__(self, plan: Plan, session: Session, pool: ThreadPoolExecutor) -> None:
        self.session = session
        self.pool = pool
        self.compression = Compression(plan.compression.value)
        self._begun: dict[str, Future[Layer]] = {}
        self._lock = Lock()

    def begin(self, recipe: Recipe) -> Future[Layer]:
        with self._lock:
            if recipe.key not in self._begun:
                self._begun[recipe.key] = self.pool.submit(materialise, recipe, self.session.cache, self.compression)
            return self._begun[recipe.key]

    def begun(self, recipe: Recipe) -> Future[Layer] | None:
        with self._lock:
            return self._begun.get(recipe.key)

    def missing(self, recipe: Recipe) -> list[WheelSource]:
        """The wheels that must be fetched before the layer can be made."""
        if not isinstance(recipe, WheelsRecipe) or cached_layer(recipe, self.session.cache, self.compression):
            return []
        has_blob = self.session.cache.has_blob
        return [wheel for wheel in recipe.wheels if not has_blob(f"sha256:{wheel.sha256}", wheel.size)]


def _begin_pinned(
    plan: Plan, target: Target, base: DebianLock | ImageLock, bases: _Bases, workshop: _Workshop
) -> None:
    """Begin the layers of heavy wheels whose versions the requirements fix, while all else is still resolved.

    What turns out otherwise was made in vain, and no more: an error here will be met, and told, where it belongs.
    """
    session, source = workshop.session, plan.requirements.value
    with suppress(LightshipError):
        wheels = [wheel for wheel in pinned_wheels(source, target, session) if wheel.size >= HEAVY]
        fetch_wheels(wheels, session, target, source=source, directory=plan.project.directory)
        environment = _environment(base)
        compiler = partial(_open_compiler, partial(bases.root, base), environment)
        for recipe in _wheel_recipes(plan, _wheels(plan, wheels, None, session), environment, compiler, session):
            workshop.begin(recipe)


def _base_and_layers(
    plan: Plan, locked: Locked, pruned: Pruned | None, phases: Phases, bases: _Bases, workshop: _Workshop
) -> tuple[Base, Sequence[Layer], tuple[FileEntry, ...]]:
    """The base and all layers above it, and the files of weights. Each layer is begun when its wheels are here."""
    session, compression = workshop.session, workshop.compression
    environment = _environment(locked.base)
    base_future = bases.begin(locked.base)
    weights = _weights(plan, session, compression, workshop.pool)
    # Only its bytecode has to wait for the base's Python.
    compiler = partial(_open_compiler, partial(bases.root, locked.base), environment)
    sources = _wheels(plan, locked.lock.wheels, pruned, session)
    wheels = _wheel_recipes(plan, sources, environment, compiler, session)
    layers_under_way = _Layers([environment, *wheels, RuntimeRecipe(environment, compiler)], workshop)
    with phases.phase("fetch"):
        _fetch(layers_under_way.missing, locked, plan, session, layers_under_way.arrived)
    with phases.phase("base"):
        base = base_future.result()
    with phases.phase("layers"):
        weighed = [future.result() for future in weights]
        files = tuple(entry for each in weighed for entry in each.files)
        app = _app_recipe(plan, session, files)
        layers = [
            *layers_under_way.results(),
            *(each.layer for each in weighed),
            materialise(app, session.cache, compression),
        ]
    return base, layers, files


class _Layers:
    """Layers that are made side by side, the largest first, each as soon as the wheels it needs are in the cache."""

    def __init__(self, recipes: Sequence[Recipe], workshop: _Workshop) -> None:
        self._recipes = recipes
        self._workshop = workshop
        self._waiting: dict[int, set[str]] = {}
        self._lock = Lock()
        self.missing: list[WheelSource] = []
        for number, recipe in sorted(enumerate(recipes), key=lambda each: -_size(each[1])):
            absent = [] if workshop.begun(recipe) else workshop.missing(recipe)
            self.missing += absent
            if absent:
                self._waiting[number] = {wheel.sha256 for wheel in absent}
            else:
                workshop.begin(recipe)

    def arrived(self, sha256: str) -> None:
        """Begin what has waited for this wheel alone."""
        with self._lock:
            for number, absent in list(self._waiting.items()):
                absent.discard(sha256)
                if not absent:
                    del self._waiting[number]
                    self._workshop.begin(self._recipes[number])

    def results(self) -> list[Layer]:
        """All layers, in the order of their recipes; called when every wheel is here."""
        return [self._workshop.begin(recipe).result() for recipe in self._recipes]


def _size(recipe: Recipe) -> int:
    return sum(wheel.size for wheel in recipe.wheels) if isinstance(recipe, WheelsRecipe) else 0


def _base(
    plan: Plan,
    lock: DebianLock | ImageLock,
    session: Session,
    native_root: Callable[[], Path] | None = None,
) -> Base:
    if isinstance(lock, DebianLock):
        mirror = plan.project.settings.base_table.mirror
        compression = Compression(plan.compression.value)
        return build_debian(lock, session, compression, mirror=mirror, compiler_root=native_root)
    return build_image_base(lock, session, plan.project.directory)


def _native_root(plan: Plan, session: Session) -> Path:
    """The root file system of the plan's base for this machine's processor, to compile bytecode for another one."""
    platform = Platform.of_this_machine()
    if str(platform) in plan.platforms.value:
        lock = bring_up_to_date(plan, platform, session).base
    else:
        lock = lock_base(plan, platform, session)  # of no image: it need not be the same tomorrow
    return _base(plan, lock, session).interpreter.root()


def _measured(base: Base, session: Session) -> Base:
    """The base with the unpacked sizes of its layers, which a published manifest does not tell."""
    sizes = {layer.digest: layer.unpacked_size or unpacked_size(layer, session) for layer in base.layers}
    return replace(base, layers=tuple(replace(layer, unpacked_size=sizes[layer.digest]) for layer in base.layers))


def _interpreter_path(lock: DebianLock | ImageLock) -> str:
    return lock.interpreter_path if isinstance(lock, DebianLock) else lock.python_path


def _open_compiler(
    root: Callable[[], Path], environment: Environment, jobs: int = 1
) -> AbstractContextManager[Compiler]:
    """The byte compiler of the base's interpreter; the base is waited for only here."""
    return interpreter_compiler(root(), environment.interpreter, environment.version, jobs)


def _wheels(plan: Plan, locked: Sequence[LockedWheel], pruned: Pruned | None, session: Session) -> list[WheelSource]:
    """The wheels that are installed, and what of each."""
    wheels = []
    for each, only, keep in what_to_install(locked, pruned, plan.project.settings.image.keep):
        path = partial(session.cache.blob_path, f"sha256:{each.sha256}")
        wheels.append(WheelSource(each.name, each.version, each.file, each.sha256, each.size, path, only, keep))
    return wheels


def _wheel_recipes(
    plan: Plan,
    wheels: Sequence[WheelSource],
    environment: Environment,
    compiler: Callable[..., AbstractContextManager[Compiler]],
    session: Session,
) -> list[WheelsRecipe]:
    """One recipe for each layer of wheels. A huge one is compiled by two processes: all wait for it."""
    level, store = rules_of(plan.pruning.value), BytecodeStore(session.cache)
    tell = partial(remember_removed, environment, level, session.cache)
    recipes = []
    for layer in group(wheels):
        huge = sum(wheel.size for wheel in layer) >= HUGE
        open_compiler = partial(compiler, jobs=COMPILERS) if huge else compiler
        recipes.append(WheelsRecipe(layer, environment, level, open_compiler, session.progress, store, tell))
    return recipes


def _fetch(
    missing: Sequence[WheelSource], locked: Locked, plan: Plan, session: Session, arrived: Callable[[str], None]
) -> None:
    if missing:
        wanted = {each.sha256 for each in missing}
        wheels = [wheel for wheel in locked.lock.wheels if wheel.sha256 in wanted]
        source, target = plan.requirements.value, locked.lock.target
        offered = [wheel for wheel in wheels if wheel.source is None]
        fetch_wheels(offered, session, target, source=source, directory=plan.project.directory, arrived=arrived)
        builder = source_builder(plan, target, session, lambda: locked.base, locked.lock.wheels)
        for wheel in builder.rebuild_all([wheel for wheel in wheels if wheel.source is not None]):
            arrived(wheel.sha256)


def _weights(
    plan: Plan, session: Session, compression: Compression, pool: ThreadPoolExecutor
) -> list[Future[Weighed]]:
    files = [
        WeightsFile(f"{APP}/{file.path}", file.source, file.size, file.executable) for file in plan.weights_files
    ]
    return [pool.submit(weigh, shard, session.cache, session.progress, compression) for shard in shards(files)]


def _app_recipe(plan: Plan, session: Session, weights: Sequence[FileEntry]) -> FilesRecipe:
    """The layer that changes most often: the project's own files, and the settings for the runtime."""
    app = [
        FileEntry.of_file(f"{APP}/{file.path}", file.source, session.cache, executable=file.executable)
        for file in plan.app_files
    ]
    digests = {entry.path.removeprefix(f"{APP}/"): entry.digest for entry in (*weights, *app)}
    generated = serve_config(plan, digests)
    app += [FileEntry.of_bytes(f"{APP}/{path}", content) for path, content in generated.items()]
    title = f"{len(plan.app_files)} files of the project, settings" if plan.app_files else "settings"
    return FilesRecipe("app", title, tuple({entry.path: entry for entry in app}.values()))
