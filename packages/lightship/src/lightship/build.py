"""The pipeline: plan, lock, base, layers, image. Everything that can wait for nothing else runs at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lightship.assemble import APP, assemble
from lightship.bases.base import Base
from lightship.bases.debian import DebianLock, build_debian
from lightship.bases.image import ImageLock, build_image_base
from lightship.download import GoneError
from lightship.layers import Compression, Layer, Recipe, cached_layer, materialise
from lightship.layers.bytecode import Compiler, interpreter_compiler
from lightship.layers.bytecode_store import BytecodeStore
from lightship.layers.environment import Environment
from lightship.layers.files import FileEntry, FilesRecipe
from lightship.layers.grouping import group
from lightship.layers.processors import check_processor
from lightship.layers.runtime import RuntimeRecipe
from lightship.layers.weights import Weighed, WeightsFile, shards, weigh
from lightship.layers.wheels import WheelSource, WheelsRecipe
from lightship.lock import WheelsGoneError, fetch_wheels
from lightship.locking import Locked, bring_up_to_date, lock_base, replace_base
from lightship.oci import Built, Image, ImageIndex, Platform, write_layout
from lightship.oci.stored import unpacked_size
from lightship.phases import Phases
from lightship.plan import Plan, make_plan
from lightship.project import Project
from lightship.serve_config import serve_config
from lightship.session import Session

if TYPE_CHECKING:
    from lightship.supply import Materials

HUGE = 64 << 20  # bytes of wheels in a layer, from which on its bytecode is compiled by several processes
COMPILERS = 2  # processes for such a layer; each may take 90 MB, and memory is to stay flat on large machines too


@dataclass(frozen=True)
class Part:
    """The image for one platform, the lock that it was built from, and the files of its model."""

    image: Image
    locked: Locked
    weights: tuple[FileEntry, ...]


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
        settings = self.plan.project.settings
        return tuple(
            Materials(name, tag, part.image, part.locked.lock, part.locked.base, part.weights, settings)
            for part in self.parts
        )

    @property
    def plain_archive(self) -> bool:
        """Whether an archive gets plain layers: zstd is unknown to Docker before 23, plain tar to nobody."""
        return self.plan.compression.value == Compression.ZSTD


def build(project: Project, session: Session, *, locked: bool = False, upgrade: bool = False) -> Build:
    """Build the image of a project into the cache, for every platform of its plan.

    Args:
        locked: Fail where lightship.lock is stale or missing.
        upgrade: Resolve anew and take the newest versions.

    Raises: a `LightshipError` that says what, where, why and what to do; nothing half-made is left behind.
    """
    phases = Phases()
    session.cache.sweep()
    with phases.phase("plan"):
        plan = make_plan(project)
    parts = tuple(
        _build_image(plan, platform, session, phases, locked=locked, upgrade=upgrade)
        for platform in map(Platform.parse, plan.platforms.value)
    )
    changes = tuple(change for part in parts for change in part.locked.changes)
    with phases.phase("image"):
        built = parts[0].image if len(parts) == 1 else ImageIndex(tuple(part.image for part in parts))
        reference = f"{project.name}:{project.settings.image.tag}"
        layout = session.cache.image_path(reference)
        write_layout(built, session.cache, layout, name=reference, sparse=True)
    return Build(plan, built, reference, layout, changes, phases, parts)


def _build_image(
    plan: Plan, platform: Platform, session: Session, phases: Phases, *, locked: bool, upgrade: bool
) -> Part:
    """The image for one platform."""
    with phases.phase("lock"):
        fitting = bring_up_to_date(plan, platform, session, locked=locked, upgrade=upgrade)
    try:
        base, layers, weights = _base_and_layers(plan, fitting, session, phases)
    except WheelsGoneError:
        raise  # another base would not bring them back
    except GoneError as error:
        if locked or session.offline or not isinstance(fitting.base, DebianLock):
            raise
        session.progress.note(error.message)
        with phases.phase("lock"):
            fitting = replace_base(fitting, plan, platform, session)
        base, layers, weights = _base_and_layers(plan, fitting, session, phases)
    with phases.phase("image"):
        base.fetch()
        image = assemble(plan, _measured(base, session), layers, session.environ)
    if platform != Platform.of_this_machine():
        with phases.phase("check"):
            check_processor(image.layers, platform.architecture, session.cache)
    return Part(image, fitting, weights)


def _base_and_layers(
    plan: Plan, locked: Locked, session: Session, phases: Phases
) -> tuple[Base, Sequence[Layer], tuple[FileEntry, ...]]:
    """The base, all layers above it, and their weights. The wheels are fetched while the base is assembled."""
    compression = Compression(plan.compression.value)
    environment = Environment(_interpreter_path(locked.base), locked.base.python_version)
    foreign = locked.base.architecture != Platform.of_this_machine().architecture
    native_root = cache(partial(_native_root, plan, session, compression)) if foreign else None
    with ThreadPoolExecutor(session.jobs + 1, thread_name_prefix="lightship") as pool:
        base_future = pool.submit(_base, plan, locked.base, session, compression, native_root)
        weights = _weights(plan, session, compression, pool)
        compiler = partial(_open_compiler, native_root or partial(_own_root, base_future), environment)
        wheels = _wheel_recipes(plan, locked, environment, compiler, session)
        with phases.phase("fetch"):
            _fetch(_uncached(wheels, session, compression), locked, plan, session)
        recipes: list[Recipe] = [environment, *wheels, RuntimeRecipe(environment, compiler)]
        # Layers are begun while the base is still being made; only their bytecode has to wait for its Python.
        futures = _materialise_all(recipes, session, compression, pool)
        with phases.phase("base"):
            base = base_future.result()
        with phases.phase("layers"):
            weighed = [future.result() for future in weights]
            files = tuple(entry for each in weighed for entry in each.files)
            app = _app_recipe(plan, session, files)
            layers = [
                *(future.result() for future in futures),
                *(each.layer for each in weighed),
                materialise(app, session.cache, compression),
            ]
    return base, layers, files


def _base(
    plan: Plan,
    lock: DebianLock | ImageLock,
    session: Session,
    compression: Compression,
    native_root: Callable[[], Path] | None = None,
) -> Base:
    if isinstance(lock, DebianLock):
        mirror = plan.project.settings.base_table.mirror
        return build_debian(lock, session, compression, mirror=mirror, compiler_root=native_root)
    return build_image_base(lock, session, plan.project.directory)


def _own_root(base: Future[Base]) -> Path:
    return base.result().interpreter.root()


def _native_root(plan: Plan, session: Session, compression: Compression) -> Path:
    """The root file system of the plan's base for this machine's processor, to compile bytecode for another one."""
    platform = Platform.of_this_machine()
    if str(platform) in plan.platforms.value:
        lock = bring_up_to_date(plan, platform, session).base
    else:
        lock = lock_base(plan, platform, session)  # of no image: it need not be the same tomorrow
    return _base(plan, lock, session, compression).interpreter.root()


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


def _wheel_recipes(
    plan: Plan,
    locked: Locked,
    environment: Environment,
    compiler: Callable[..., AbstractContextManager[Compiler]],
    session: Session,
) -> list[WheelsRecipe]:
    """One recipe for each layer of wheels. A huge one is compiled by two processes: all wait for it."""

    def source(name: str, version: str, file: str, sha256: str, size: int) -> WheelSource:
        return WheelSource(name, version, file, sha256, size, partial(session.cache.blob_path, f"sha256:{sha256}"))

    wheels = [source(each.name, each.version, each.file, each.sha256, each.size) for each in locked.lock.wheels]
    level, store = plan.project.settings.image.prune, BytecodeStore(session.cache)
    recipes = []
    for layer in group(wheels):
        huge = sum(wheel.size for wheel in layer) >= HUGE
        open_compiler = partial(compiler, jobs=COMPILERS) if huge else compiler
        recipes.append(WheelsRecipe(layer, environment, level, open_compiler, session.progress, store))
    return recipes


def _fetch(missing: Sequence[WheelSource], locked: Locked, plan: Plan, session: Session) -> None:
    if missing:
        wanted = {each.sha256 for each in missing}
        wheels = [wheel for wheel in locked.lock.wheels if wheel.sha256 in wanted]
        source = plan.requirements.value
        fetch_wheels(wheels, session, locked.lock.target, source=source, directory=plan.project.directory)


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


def _uncached(wheels: Sequence[WheelsRecipe], session: Session, compression: Compression) -> list[WheelSource]:
    """The wheels whose bytes are needed, because their layer must be made."""
    missing = (recipe for recipe in wheels if not cached_layer(recipe, session.cache, compression))
    return [wheel for recipe in missing for wheel in recipe.wheels]


def _materialise_all(
    recipes: Sequence[Recipe], session: Session, compression: Compression, pool: ThreadPoolExecutor
) -> list[Future[Layer]]:
    """All layers, in order; those that must be made are made side by side, the largest first."""

    def weight(number: int) -> int:
        recipe = recipes[number]
        return sum(wheel.size for wheel in recipe.wheels) if isinstance(recipe, WheelsRecipe) else 0

    futures = {}
    for number in sorted(range(len(recipes)), key=weight, reverse=True):
        futures[number] = pool.submit(materialise, recipes[number], session.cache, compression)
    return [futures[number] for number in range(len(recipes))]
