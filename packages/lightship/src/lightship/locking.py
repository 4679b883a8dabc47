"""Bring lightship.lock up to date with the plan: keep the halves that still fit, resolve the others, side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from lightship.bases.base import Base
from lightship.bases.debian import DebianLock, build_debian
from lightship.bases.image import ImageLock, build_image_base, lock_image
from lightship.cache import file_digest
from lightship.errors import LockError
from lightship.layers import Compression
from lightship.layers.runtime import runtime_requirements
from lightship.lock import (
    Inputs,
    Lock,
    LockedConversion,
    LockedWheel,
    Prefetched,
    Pruned,
    RequirementsSource,
    Target,
    differences,
    local_places,
    read_lock,
    requirements_input,
    resolve,
    stale_reasons,
    write_lock,
)
from lightship.oci.image import Platform
from lightship.plan import BaseChoice, Plan
from lightship.session import Session

if TYPE_CHECKING:
    from lightship.building import SandboxBuilder

BASE_RECIPE = 1  # part of the base's digest: raise it when the same choice would now be locked differently
_LEAST_GLIBC = (2, 17)  # where a base does not tell: manylinux2014, what wheels are most often built for
_REMEDY = "Run `lightship lock`, look at what it changes, and commit lightship.lock."


class BaseKnown(Protocol):
    """What `bring_up_to_date` tells of a base."""

    def __call__(self, base: DebianLock | ImageLock, /, *, resolving: bool) -> None: ...


@dataclass(frozen=True)
class Locked:
    """A lock that fits the plan, its base's half as a value, and what changed, one line each."""

    lock: Lock
    base: DebianLock | ImageLock
    changes: tuple[str, ...] = ()


def lock_path(plan: Plan, platform: Platform) -> Path:
    """Where the lock of a platform lies: lightship.lock for the plan's first, lightship.arm64.lock for another."""
    path = plan.project.lock_path
    if str(platform) == plan.platforms.value[0]:
        return path
    return path.with_name(f"{path.stem}.{platform.architecture}{path.suffix}")


def bring_up_to_date(
    plan: Plan,
    platform: Platform,
    session: Session,
    *,
    locked: bool = False,
    upgrade: bool = False,
    base_known: BaseKnown = lambda base, *, resolving: None,
) -> Locked:
    """The lock of a plan for a platform, resolved anew where the project changed since it was written.

    Args:
        locked: Fail with `LockError` where it is stale or missing, instead of resolving.
        upgrade: Resolve anew whatever is locked, and take the newest versions.
        base_known: Is told of the base as soon as it is locked, perhaps from another thread; and whether wheels are
            being resolved from nothing meanwhile.
    """
    path = lock_path(plan, platform)
    old = read_lock(path)
    choice = plan.base.value
    base_input = _base_input(choice, platform)
    # A new platform gets the versions of the first one, where there are such wheels.
    preferred = old or (read_lock(plan.project.lock_path) if path != plan.project.lock_path else None)
    base_fits = old is not None and old.inputs.base == base_input and not upgrade
    if locked:
        return _as_it_is(plan, platform, old, base_input, session)
    if old is not None and base_fits:
        base = _base_of(choice, old.base)
        base_known(base, resolving=False)
        target = target_of(choice, platform, base)
        if old.inputs.requirements == _requirements_input(plan, target, session):
            return Locked(old, base)
    before = () if upgrade or preferred is None else preferred.wheels
    if path != plan.project.lock_path and (first := read_lock(plan.project.lock_path)):
        before = (*before, *first.wheels)  # what was built for the first platform may do for this one
    if choice.codename is None or base_fits:
        if old is None or not base_fits:
            base = lock_base(plan, platform, session)
            base_known(base, resolving=preferred is None)
        else:
            base = _base_of(choice, old.base)
        target = target_of(choice, platform, base)
        builder = source_builder(plan, target, session, lambda: base, before)
        resolved = _resolve(plan, target, session, None if upgrade else preferred, builder)
    else:
        # A Debian release's Python and C library are known from its name, so both halves can go at once.
        target = target_of(choice, platform, None)
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(lock_base, plan, platform, session)
            future.add_done_callback(partial(_tell, base_known, resolving=preferred is None))
            builder = source_builder(plan, target, session, future.result, before)
            resolved = _resolve(plan, target, session, None if upgrade else preferred, builder)
            base = future.result()
    inputs = Inputs(requirements=_requirements_input(plan, target, session), base=base_input)
    # Both have inputs of their own, which say whether they still hold.
    pruned, prefetched = (old.pruned, old.prefetched) if old else (None, None)
    wheels, conversion = resolved
    _check_gpu(plan, wheels)
    new = Lock(target, inputs, base.to_dict(), wheels, pruned=pruned, prefetched=prefetched, conversion=conversion)
    write_lock(path, new)
    return Locked(new, base, differences(old, new) if old else (f"{path.name} written",))


def _check_gpu(plan: Plan, wheels: Sequence[LockedWheel]) -> None:
    """Refuse an image for GPUs whose PyTorch is for CPUs: where both are offered, the build with a label is newer."""
    torch = next((wheel for wheel in wheels if wheel.name == "torch"), None)
    if plan.project.settings.target.gpu and torch is not None and torch.version.endswith("+cpu"):
        raise LockError(
            f"[target] gpu, but torch was resolved to its build for CPUs, {torch.version}.",
            hint="Leave out the index or folder that has it: UV_EXTRA_INDEX_URL, PIP_EXTRA_INDEX_URL, UV_FIND_LINKS, "
            "PIP_FIND_LINKS, or the same in pip's and uv's own configuration.",
        )


def _tell(base_known: BaseKnown, done: Future[DebianLock | ImageLock], *, resolving: bool) -> None:
    if not done.exception():
        base_known(done.result(), resolving=resolving)


def target_of(choice: BaseChoice, platform: Platform, base: DebianLock | ImageLock | None) -> Target:
    """What wheels are chosen for: the Python, the processor and the C library of the base."""
    if choice.python and choice.glibc:
        return Target(choice.python, str(platform), choice.glibc)
    assert isinstance(base, ImageLock)  # an image's lock comes first, because only the image knows
    major, _, minor = base.glibc.partition(".")
    glibc = (int(major), int(minor)) if base.glibc else _LEAST_GLIBC
    return Target(".".join(base.python_version.split(".")[:2]), f"linux/{base.architecture}", glibc)


def _as_it_is(plan: Plan, platform: Platform, old: Lock | None, base_input: str, session: Session) -> Locked:
    path, choice = lock_path(plan, platform), plan.base.value
    if old is None:
        raise LockError(f"There is no {path}, and --locked forbids to resolve.", hint=_REMEDY)
    reasons: tuple[str, ...] = ()
    if old.inputs.base == base_input:
        base = _base_of(choice, old.base)
        expected = Inputs(_requirements_input(plan, target_of(choice, platform, base), session), base_input)
        if not (reasons := stale_reasons(old, expected)):
            return Locked(old, base)
    else:
        reasons = stale_reasons(old, Inputs(old.inputs.requirements, base_input))
    raise LockError(f"{path} is stale: {'; '.join(reasons)}.", hint=_REMEDY)


def source_builder(
    plan: Plan,
    target: Target,
    session: Session,
    base_lock: Callable[[], DebianLock | ImageLock],
    before: Sequence[LockedWheel],
) -> SandboxBuilder:
    """What builds the plan's sources, on the base that its image stands on.

    Args:
        base_lock: Called, and waited for, only when something is built.
        before: What is locked so far; what is pinned there stays.
    """
    from lightship.building import SandboxBuilder

    table, compression = plan.project.settings.base_table, Compression(plan.compression.value)

    def base() -> Base:
        lock = base_lock()
        if isinstance(lock, DebianLock):
            return build_debian(lock, session, compression, mirror=table.mirror)
        return build_image_base(lock, session, plan.project.directory)

    return SandboxBuilder(
        target=target,
        directory=plan.project.directory,
        session=session,
        requirements=plan.requirements.value,
        base_lock=base_lock,
        base=base,
        compression=compression,
        before=before,
        mirror=table.mirror,
        keyring=Path(plan.project.directory, table.keyring) if table.keyring else None,
    )


def _resolve(
    plan: Plan, target: Target, session: Session, old: Lock | None, builder: SandboxBuilder
) -> tuple[tuple[LockedWheel, ...], LockedConversion | None]:
    """The wheels of the image; before them, where the model is converted, those of the environment to do that in."""
    preferences = old.wheels if old else ()
    source, extra = plan.requirements.value, _extra(plan)
    conversion = plan.optimize.value
    if conversion is None or target.platform != str(Platform.of_this_machine()):
        # A converted model is the same on all platforms, and is made where the sandbox runs.
        without = conversion.without if conversion else ()
        return resolve(
            source, extra, target, session, preferences=preferences, builder=builder, without=without
        ), None
    from lightship.optimize import lock_converters, locked_conversion, pins_of  # brings the sandbox

    wanted, builder = conversion.requirements, replace(builder, requirements=conversion.requirements)
    known = old.conversion.wheels if old and old.conversion else preferences
    before, converters = lock_converters(
        wanted, conversion.converters, target, session, preferences=known, builder=builder
    )
    pinned = (*extra, *pins_of(converters, conversion.served_with))
    wheels = resolve(
        source, pinned, target, session, preferences=preferences, builder=builder, without=conversion.without
    )
    return wheels, locked_conversion(before, converters, wheels, wanted, target, session)


def _extra(plan: Plan) -> tuple[str, ...]:
    """What the runtime needs besides the user's requirements, and the kind of server besides that."""
    return (*runtime_requirements(), *plan.server.value.requirements)


def _requirements_input(plan: Plan, target: Target, session: Session) -> str:
    """The digest of the requirements, and of the folders among them: their content is what is installed."""
    source = plan.requirements.value
    digests = _places_of(source, session)
    if conversion := plan.optimize.value:
        wanted = conversion.requirements
        places = _places_of(wanted, session)
        digests = [*digests, requirements_input(wanted, conversion.converters, target, places), *conversion.without]
    return requirements_input(source, _extra(plan), target, digests)


def _places_of(source: RequirementsSource, session: Session) -> list[str]:
    return [_place_digest(path) for path in local_places(source, session.environ)]


def _place_digest(path: Path) -> str:
    if not path.is_dir():
        return file_digest(path)
    from lightship.building import folder_digest  # brings the sandbox, which most builds do without

    return folder_digest(path)


def _base_input(choice: BaseChoice, platform: Platform) -> str:
    parts = [BASE_RECIPE, choice.reference, sorted(choice.packages), str(platform)]
    return f"sha256:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def lock_base(plan: Plan, platform: Platform, session: Session) -> DebianLock | ImageLock:
    """The base of a plan, locked anew."""
    choice, table = plan.base.value, plan.project.settings.base_table
    with session.progress.task(f"Locking the base {choice.reference}"):
        if choice.codename is None:
            return lock_image(choice.reference, platform, session, plan.project.directory)
        from lightship.bases.debian.newest import lock_debian  # a fresh lock does without

        keyring = Path(plan.project.directory, table.keyring) if table.keyring else None
        return lock_debian(
            choice.codename, platform.architecture, choice.packages, session, mirror=table.mirror, keyring=keyring
        )


def _base_of(choice: BaseChoice, fields: dict[str, Any]) -> DebianLock | ImageLock:
    return DebianLock.from_dict(fields) if choice.codename else ImageLock.from_dict(fields)


def replace_base(locked: Locked, plan: Plan, platform: Platform, session: Session) -> Locked:
    """Lock the base anew and keep the wheels: for a mirror that no longer has what was locked."""
    base = lock_base(plan, platform, session)
    new = msgspec.structs.replace(locked.lock, base=base.to_dict())
    write_lock(lock_path(plan, platform), new)
    return Locked(new, base, (*locked.changes, *differences(locked.lock, new)))


def replace_pruned(locked: Locked, plan: Plan, platform: Platform, pruned: Pruned) -> Locked:
    """Write down what an observed run did without."""
    new = msgspec.structs.replace(locked.lock, pruned=pruned)
    write_lock(lock_path(plan, platform), new)
    return Locked(new, locked.base, (*locked.changes, *differences(locked.lock, new)))


def replace_prefetched(locked: Locked, plan: Plan, platform: Platform, prefetched: Prefetched) -> Locked:
    """Write down what an observed start read."""
    new = msgspec.structs.replace(locked.lock, prefetched=prefetched)
    write_lock(lock_path(plan, platform), new)
    return Locked(new, locked.base, (*locked.changes, *differences(locked.lock, new)))


def move_base(plan: Plan, platform: Platform, session: Session) -> Locked:
    """Lock the newest base and keep every wheel.

    Raises: `LockError` where there is no lock, where the project changed since it was written, or where the newest
        base has another Python or an older C library than the wheels were chosen for.
    """
    path = lock_path(plan, platform)
    fresh = bring_up_to_date(plan, platform, session, locked=True)
    base = lock_base(plan, platform, session)
    target = target_of(plan.base.value, platform, base)
    if target != fresh.lock.target:
        raise LockError(
            f"The newest {plan.base.value.reference} is {target}; the wheels of {path} are for {fresh.lock.target}.",
            hint="`lightship lock --upgrade` takes it, and resolves the wheels for it.",
        )
    return _moved(fresh, msgspec.structs.replace(fresh.lock, base=base.to_dict()), base, path)


def move_wheels(plan: Plan, platform: Platform, session: Session) -> Locked:
    """Lock the newest versions that the requirements allow and keep the base. Raises `LockError` as `move_base`."""
    path = lock_path(plan, platform)
    fresh = bring_up_to_date(plan, platform, session, locked=True)
    builder = source_builder(plan, fresh.lock.target, session, lambda: fresh.base, ())
    wheels, conversion = _resolve(plan, fresh.lock.target, session, None, builder)
    lock = msgspec.structs.replace(fresh.lock, wheels=wheels, conversion=conversion)
    return _moved(fresh, lock, fresh.base, path)


def _moved(before: Locked, lock: Lock, base: DebianLock | ImageLock, path: Path) -> Locked:
    write_lock(path, lock)
    return Locked(lock, base, differences(before.lock, lock))
