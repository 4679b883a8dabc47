"""The layer of one or more wheels: from the zip straight into the tar, bytecode included."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from lightship.layers.bytecode import Compiler, bytecode_path
from lightship.layers.bytecode_store import BytecodeStore, kept
from lightship.layers.environment import PREFIX, Environment
from lightship.layers.installed_wheel import Entry, InstalledWheel, LeftOut, WheelSource
from lightship.layers.layer import recipe_key
from lightship.layers.prune import VERSION as PRUNE_VERSION
from lightship.layers.prune import Level
from lightship.layers.tar import TarWriter
from lightship.layers.wheel_archive import WheelArchive
from lightship.progress import Progress, Silent

VERSION = 1


@dataclass(frozen=True)
class WheelsRecipe:
    """A layer that holds some wheels, installed into an environment.

    `compiler` opens the byte compiler of the environment's interpreter; None leaves the bytecode out. `store` keeps
    the bytecode of each wheel, for other layers that hold it. `tell` is called with what is left out of each wheel.
    """

    wheels: tuple[WheelSource, ...]
    environment: Environment
    prune: Level
    compiler: Callable[[], AbstractContextManager[Compiler]] | None = field(compare=False)
    progress: Progress = field(default_factory=Silent, compare=False)
    store: BytecodeStore | None = field(default=None, compare=False)
    tell: Callable[[WheelSource, LeftOut], None] | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        environment, compiled = self.environment, "bytecode" if self.compiler else "sources"
        settings = (environment.version, PREFIX, self.prune, str(PRUNE_VERSION), compiled)
        return recipe_key("wheels", VERSION, *settings, *(wheel.identity for wheel in self._sorted))

    @property
    def kind(self) -> str:
        return "wheel" if len(self.wheels) == 1 else "wheels"

    @property
    def title(self) -> str:
        return ", ".join(f"{wheel.name} {wheel.version}" for wheel in self._sorted)

    def write(self, tar: TarWriter) -> None:
        total = sum(wheel.size for wheel in self.wheels)
        with ExitStack() as stack:
            task = stack.enter_context(self.progress.task(f"Layer: {_short(self.title)}", total))
            installed = []
            for wheel in self._sorted:
                archive = stack.enter_context(WheelArchive(wheel.path(), wheel.file_name))
                installed.append(InstalledWheel(wheel, archive, self.environment, self.prune))
            entries = self._merged(installed)
            compiled = self._compiled(entries, installed, stack)
            for path in sorted(entries):
                entries[path].write(path, tar, task)
            for path, bytecode in compiled:
                target = bytecode_path(path, self.environment.minor)
                tar.content(target, bytecode)
                entries[path].owner.bytecode.append(target)
            for each in installed:
                tar.content(f"{self.environment.site_packages}/{each.record_path}", each.record())
                if self.tell:
                    self.tell(each.wheel, each.left_out)

    @property
    def _sorted(self) -> tuple[WheelSource, ...]:
        return tuple(sorted(self.wheels, key=lambda wheel: wheel.name))

    def _merged(self, installed: list[InstalledWheel]) -> dict[str, Entry]:
        """One entry for each path. As with pip, of two wheels that bring one path the later wins; it is told of."""
        entries: dict[str, Entry] = {}
        for each in installed:
            for path, entry in each.entries.items():
                before = entries.get(path)
                if before and before.fingerprint() != entry.fingerprint():
                    self.progress.note(f"/{path} comes from two wheels; the one of {each.title} is taken.")
                entries[path] = entry
        return entries

    def _compiled(
        self, entries: dict[str, Entry], installed: list[InstalledWheel], stack: ExitStack
    ) -> Iterator[tuple[str, bytes]]:
        """The bytecode of all sources, by path. With a store they are compiled while the sources are written."""
        if self.compiler is None:
            return iter(())
        site = self.environment.site_packages + "/"

        def sources(found: dict[str, Entry]) -> list[str]:
            return [path for path in sorted(found) if path.startswith(site) and found[path].is_source]

        if self.store is None:
            return _compiled(entries, sources(entries), self.compiler, stack)
        wheels = [(each, sources(each.entries)) for each in installed]
        beside = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="bytecode"))
        places = beside.submit(self._stored, self.store, self.compiler, wheels)
        return _in_order(places, entries, installed)

    def _stored(
        self,
        store: BytecodeStore,
        open_compiler: Callable[[], AbstractContextManager[Compiler]],
        wheels: list[tuple[InstalledWheel, list[str]]],
    ) -> list[Path]:
        """Where the bytecode of each wheel is, compiled now where the store lacks it."""
        with ExitStack() as stack:
            compiler: Compiler | None = None
            places = []
            for wheel, (each, paths) in zip(self._sorted, wheels, strict=True):
                key = store.key(wheel.sha256, self.environment.version, paths)
                if (place := store.find(key)) is None:
                    compiler = compiler or stack.enter_context(open_compiler())
                    place = store.keep(key, _pairs(each.entries, paths, compiler))
                places.append(place)
            return places


def _in_order(
    places: Future[list[Path]], entries: dict[str, Entry], installed: list[InstalledWheel]
) -> Iterator[tuple[str, bytes]]:
    """The bytecode of several wheels by path. Of a path that two of them bring, only the installed one counts."""
    streams = [_owned(kept(place), entries, each) for place, each in zip(places.result(), installed, strict=True)]
    yield from heapq.merge(*streams)


def _owned(
    pairs: Iterable[tuple[str, bytes]], entries: dict[str, Entry], owner: InstalledWheel
) -> Iterator[tuple[str, bytes]]:
    return (pair for pair in pairs if entries[pair[0]].owner is owner)


def _compiled(
    entries: dict[str, Entry],
    paths: list[str],
    open_compiler: Callable[[], AbstractContextManager[Compiler]],
    stack: ExitStack,
) -> Iterator[tuple[str, bytes]]:
    yield from _pairs(entries, paths, stack.enter_context(open_compiler()))


def _pairs(entries: dict[str, Entry], paths: list[str], compiler: Compiler) -> Iterator[tuple[str, bytes]]:
    """The bytecode of those sources that are valid; they are read for it, so none is held meanwhile."""
    sources = ((f"/{path}", b"".join(entries[path].chunks())) for path in paths)
    for path, bytecode in compiler.compile(sources):
        if bytecode is not None:
            yield path.removeprefix("/"), bytecode


def _short(title: str) -> str:
    return title if len(title) <= 40 else title[:39] + "…"
