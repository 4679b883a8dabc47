"""Bases and layers under way: what can be made already is begun, and nothing is begun twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import cache, partial
from pathlib import Path
from threading import Lock

from lightship.bases.base import Base
from lightship.bases.debian import DebianLock, build_debian
from lightship.bases.image import ImageLock, build_image_base
from lightship.errors import LightshipError
from lightship.layers import Compression, Layer, Recipe, cached_layer, materialise
from lightship.layers.bytecode import Compiler, interpreter_compiler
from lightship.layers.bytecode_store import BytecodeStore
from lightship.layers.environment import Environment
from lightship.layers.grouping import HEAVY, group
from lightship.layers.installed_wheel import WheelSource
from lightship.layers.removed import remember_removed
from lightship.layers.wheels import WheelsRecipe
from lightship.lock import LockedWheel, Pruned, Target, fetch_wheels, pinned_wheels
from lightship.locking import bring_up_to_date, lock_base
from lightship.oci import Platform
from lightship.plan import Plan
from lightship.selection import rules_of, what_to_install
from lightship.session import Session

HUGE = 64 << 20  # bytes of wheels in a layer, from which on its bytecode is compiled by several processes
COMPILERS = 2  # processes for such a layer; each may take 90 MB, and memory is to stay flat on large machines too


class Bases:
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
        bring_layers(base.layers, self._session)
        return base.interpreter.root()

    @staticmethod
    def _is_foreign(lock: DebianLock | ImageLock) -> bool:
        return lock.architecture != Platform.of_this_machine().architecture


class Workshop:
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


class LayersUnderWay:
    """Layers that are made side by side, the largest first, each as soon as the wheels it needs are in the cache."""

    def __init__(self, recipes: Sequence[Recipe], workshop: Workshop) -> None:
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


def begin_pinned(plan: Plan, target: Target, base: DebianLock | ImageLock, bases: Bases, workshop: Workshop) -> None:
    """Begin the layers of heavy wheels whose versions the requirements fix, while all else is still resolved.

    What turns out otherwise was made in vain, and no more: an error here will be met, and told, where it belongs.
    """
    session, source = workshop.session, plan.requirements.value
    with suppress(LightshipError):
        wheels = [wheel for wheel in pinned_wheels(source, target, session) if wheel.size >= HEAVY]
        fetch_wheels(wheels, session, target, source=source, directory=plan.project.directory)
        environment = environment_of(base)
        compiler = partial(open_compiler, partial(bases.root, base), environment)
        for recipe in wheel_recipes(plan, wheel_sources(plan, wheels, None, session), environment, compiler, session):
            workshop.begin(recipe)


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


def environment_of(base: DebianLock | ImageLock) -> Environment:
    return Environment(_interpreter_path(base), base.python_version)


def _interpreter_path(lock: DebianLock | ImageLock) -> str:
    return lock.interpreter_path if isinstance(lock, DebianLock) else lock.python_path


def open_compiler(
    root: Callable[[], Path], environment: Environment, jobs: int = 1
) -> AbstractContextManager[Compiler]:
    """The byte compiler of the base's interpreter; the base is waited for only here."""
    return interpreter_compiler(root(), environment.interpreter, environment.version, jobs)


def wheel_sources(
    plan: Plan, locked: Sequence[LockedWheel], pruned: Pruned | None, session: Session
) -> list[WheelSource]:
    """The wheels that are installed, and what of each."""
    wheels = []
    for each, only, keep in what_to_install(locked, pruned, plan.project.settings.image.keep):
        path = partial(session.cache.blob_path, f"sha256:{each.sha256}")
        wheels.append(WheelSource(each.name, each.version, each.file, each.sha256, each.size, path, only, keep))
    return wheels


def wheel_recipes(
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


def bring_layers(layers: Sequence[Layer], session: Session) -> None:
    """Fetch the bytes of layers that are reused from elsewhere, where they are wanted here after all."""
    if any(session.cache.elsewhere(layer.digest) for layer in layers):
        from lightship.oci.reuse import bring  # loading HTTP takes as long as a build of nothing

        bring(layers, session)
