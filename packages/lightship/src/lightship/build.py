"""The pipeline: plan, lock, base, layers, image. Everything that can wait for nothing else runs at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lightship.assemble import APP, assemble
from lightship.bases.base import Base
from lightship.bases.debian import DebianLock
from lightship.bases.image import ImageLock
from lightship.download import GoneError
from lightship.layers import Compression, Layer, materialise
from lightship.layers.files import FileEntry, FilesRecipe
from lightship.layers.installed_wheel import WheelSource
from lightship.layers.processors import check_processor
from lightship.layers.removed import Removed
from lightship.layers.runtime import RuntimeRecipe
from lightship.layers.weights import Weighed, WeightsFile, shards, weigh
from lightship.lock import Pruned, WheelsGoneError, fetch_wheels
from lightship.locking import Locked, bring_up_to_date, replace_base, source_builder, target_of
from lightship.oci import Built, Image, ImageIndex, Platform, Reference, write_layout
from lightship.oci.stored import known_unpacked_size
from lightship.phases import Phases
from lightship.plan import Plan, make_plan
from lightship.project import Project
from lightship.selection import OBSERVED, installed_of, removals
from lightship.serve_config import serve_config
from lightship.session import Session
from lightship.workshop import (
    Bases,
    LayersUnderWay,
    Workshop,
    begin_pinned,
    bring_layers,
    environment_of,
    open_compiler,
    wheel_recipes,
    wheel_sources,
)

if TYPE_CHECKING:
    from lightship.supply import Materials


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
        whole: Bring the bytes of such layers here in the end, and those of a base in a registry; a push does without.
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
    changes: tuple[str, ...] = ()
    if plan.optimize.value is not None:
        from lightship.conversion import convert_model

        with phases.phase("convert"):
            plan, changes = convert_model(plan, platforms, session, locked=locked, upgrade=upgrade)
        upgrade = False  # both halves of the lock are the newest now
    parts = tuple(
        _build_image(plan, platform, session, phases, locked=locked, upgrade=upgrade, whole=whole)
        for platform in platforms
    )
    changes += tuple(change for part in parts for change in part.locked.changes)
    with phases.phase("image"):
        built = parts[0].image if len(parts) == 1 else ImageIndex(tuple(part.image for part in parts))
        if whole:
            bring_layers(built.layers, session)
        reference = f"{project.name}:{project.settings.image.tag}"
        layout = session.cache.image_path(reference)
        write_layout(built, session.cache, layout, name=reference, sparse=True)
    return Build(plan, built, reference, layout, changes, phases, parts)


def _build_image(
    plan: Plan, platform: Platform, session: Session, phases: Phases, *, locked: bool, upgrade: bool, whole: bool
) -> Part:
    """The image for one platform."""
    with ThreadPoolExecutor(session.jobs + 1, thread_name_prefix="lightship") as pool:
        bases, workshop = Bases(plan, session, pool), Workshop(plan, session, pool)

        def base_known(base: DebianLock | ImageLock, *, resolving: bool) -> None:
            bases.begin(base)
            if resolving and not session.offline:
                pool.submit(begin_pinned, plan, target_of(plan.base.value, platform, base), base, bases, workshop)

        with phases.phase("lock"):
            fitting = bring_up_to_date(plan, platform, session, locked=locked, upgrade=upgrade, base_known=base_known)
        try:
            part = _pruned(
                plan, platform, fitting, phases, bases, workshop, locked=locked, fresh=upgrade, whole=whole
            )
        except WheelsGoneError:
            raise  # another base would not bring them back
        except GoneError as error:
            if locked or session.offline or not isinstance(fitting.base, DebianLock):
                raise
            session.progress.note(error.message)
            with phases.phase("lock"):
                fitting = replace_base(fitting, plan, platform, session)
            # What was begun with the old base has failed with it.
            part = _pruned(
                plan, platform, fitting, phases, bases, Workshop(plan, session, pool), fresh=upgrade, whole=whole
            )
    part = _prefetched(plan, platform, part, session, phases, locked=locked, fresh=upgrade)
    if platform != Platform.of_this_machine():
        with phases.phase("check"):
            # What is reused without its bytes was checked where it was made; a base that stays in its registry is
            # believed to be for the processor that its config names.
            here = [each for each in part.image.layers if session.cache.has_blob(each.digest, each.size)]
            check_processor(here, platform.architecture, session.cache)
    return replace(part, removed=_removed(plan, part.locked, session))


def _pruned(
    plan: Plan,
    platform: Platform,
    fitting: Locked,
    phases: Phases,
    bases: Bases,
    workshop: Workshop,
    *,
    locked: bool = False,
    fresh: bool = False,
    whole: bool = True,
) -> Part:
    """The image of a lock, in which the levels of pruning that observe a run write down what they saw."""

    def part(pruned: Pruned | None) -> Part:
        base, layers, weights = _base_and_layers(plan, fitting, pruned, phases, bases, workshop)
        with phases.phase("image"):
            if whole or not base.lazy:
                base.fetch()
            image = assemble(plan, _measured(base, workshop.session), layers, workshop.session.environ)
        return Part(image, fitting, weights)

    if plan.pruning.value not in OBSERVED:
        return part(None)
    from lightship.pruning import Pruning  # brings HTTP and the engines, which most builds do without

    session, environment = workshop.session, environment_of(fitting.base)
    weighed = [future.result() for future in _weights(plan, session, workshop.compression, workshop.pool)]
    weights = tuple(entry for each in weighed for entry in each.files)
    content = (_app_recipe(plan, session, weights).key, *(f"{entry.path} {entry.digest}" for entry in weights))

    def image_here(pruned: Pruned | None) -> Image:
        image = part(pruned).image
        bring_layers(image.layers, session)  # it is run
        return image

    pruning = Pruning(plan, platform, fitting, environment, content, image_here, session, phases)
    image, observed = pruning.run(locked=locked, fresh=fresh)
    return Part(image, observed, weights)


def _prefetched(
    plan: Plan, platform: Platform, part: Part, session: Session, phases: Phases, *, locked: bool, fresh: bool
) -> Part:
    """The same image; layers that nodes may read lazily have first what its start reads."""
    golden = plan.golden
    if plan.compression.value != Compression.ESTARGZ or golden is None:
        return part
    from lightship.prefetching import Prefetching  # brings HTTP and the engines, as above

    bring_layers(part.image.layers, session)  # they are written anew
    prefetching = Prefetching(plan, platform, part.locked, golden, session, phases)
    image, told = prefetching.run(part.image, locked=locked, fresh=fresh)
    return replace(part, image=image, locked=told)


def _removed(plan: Plan, fitting: Locked, session: Session) -> tuple[Removed, ...]:
    level = plan.pruning.value
    wheels = wheel_sources(plan, fitting.lock.wheels, fitting.lock.pruned if level in OBSERVED else None, session)
    return removals(fitting.lock, wheels, environment_of(fitting.base), level, session)


def _base_and_layers(
    plan: Plan, locked: Locked, pruned: Pruned | None, phases: Phases, bases: Bases, workshop: Workshop
) -> tuple[Base, Sequence[Layer], tuple[FileEntry, ...]]:
    """The base and all layers above it, and the files of weights. Each layer is begun when its wheels are here."""
    session, compression = workshop.session, workshop.compression
    environment = environment_of(locked.base)
    base_future = bases.begin(locked.base)
    weights = _weights(plan, session, compression, workshop.pool)
    # Only its bytecode has to wait for the base's Python.
    compiler = partial(open_compiler, partial(bases.root, locked.base), environment)
    sources = wheel_sources(plan, locked.lock.wheels, pruned, session)
    wheels = wheel_recipes(plan, sources, environment, compiler, session)
    layers_under_way = LayersUnderWay([environment, *wheels, RuntimeRecipe(environment, compiler)], workshop)
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


def _measured(base: Base, session: Session) -> Base:
    """The base with the unpacked sizes of its layers, which a published manifest does not tell; 0 where unknown."""
    sizes = {layer.digest: layer.unpacked_size or known_unpacked_size(layer, session) or 0 for layer in base.layers}
    return replace(base, layers=tuple(replace(layer, unpacked_size=sizes[layer.digest]) for layer in base.layers))


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
