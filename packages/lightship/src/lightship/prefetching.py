"""What start-up reads, told to nodes that pull lazily: an eStargz layer has it first, and a landmark behind it.

Such a node fetches what stands before the landmark in one request and begins; everything else it fetches when it is
read, one round trip each. So the whole image is run once under observation, like for the levels of pruning, and what
it opened until its golden answer goes into lightship.lock: the bytes of a layer may depend on nothing that another
machine could see otherwise. Files are named by folder and sorted, for within one request their order is all the same.
"""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lightship.errors import EngineError
from lightship.layers import prioritised, recipe_key
from lightship.lock import Prefetched
from lightship.locking import Locked, replace_prefetched
from lightship.oci import Image, Platform
from lightship.phases import Phases
from lightship.plan import Plan
from lightship.run.embedded import EmbeddedEngine
from lightship.session import Session
from lightship.verify import observe

VERSION = 1  # part of the inputs: raise it when the same run would now be recorded differently


@dataclass(frozen=True)
class Prefetching:
    """The start of one eStargz image, for one platform; its plan has a golden request."""

    plan: Plan
    platform: Platform
    locked: Locked
    golden: Path
    session: Session
    phases: Phases

    def run(self, image: Image, *, locked: bool = False, fresh: bool = False) -> tuple[Image, Locked]:
        """The image with what its start reads at the beginning of its layers, and the lock that says what that is.

        The record is a matter of speed: where it is out of date and may not be written (`locked`), or nothing can be
        observed here, what it says is taken all the same, and a note says so.

        Raises: as `observe`.
        """
        recorded, inputs = self.locked.lock.prefetched, self._inputs()
        if recorded is not None and recorded.inputs == inputs and not fresh:
            return self._in_order(image, recorded), self.locked
        engine = EmbeddedEngine()
        if why := "the lock may not change" if locked else engine.why_not():
            self.session.progress.note(f"What start-up reads is not observed anew: {why}.")
            return (image if recorded is None else self._in_order(image, recorded)), self.locked
        try:
            with self.phases.phase("observe"):
                opened = self._observe(image, engine)
        except EngineError as error:
            self.session.progress.note(f"What start-up reads is not known: {error.message}")
            return image, self.locked
        prefetched = Prefetched(inputs, by_folder(opened))
        return self._in_order(image, prefetched), replace_prefetched(
            self.locked, self.plan, self.platform, prefetched
        )

    def _inputs(self) -> str:
        """What decides nearly all of what a start reads: not the project's code, which changes every minute."""
        lock, settings = self.locked.lock, self.plan.project.settings
        parts = [
            json.dumps(lock.base, sort_keys=True),
            json.dumps([[wheel.name, wheel.sha256] for wheel in sorted(lock.wheels, key=lambda each: each.name)]),
            json.dumps([self.plan.pruning.value, sorted(settings.image.environment.items()), settings.serve.health]),
        ]
        return "sha256:" + recipe_key("prefetched", VERSION, *parts).removeprefix("prefetched-")

    def _observe(self, image: Image, engine: EmbeddedEngine) -> Iterable[str]:
        _, opened = observe(
            image,
            engine,
            self.session,
            "",
            golden=self.golden,
            health=self.plan.server.value.health,
            timeout=self.plan.project.settings.test.timeout,
        )
        return opened

    def _in_order(self, image: Image, record: Prefetched) -> Image:
        paths = tuple(paths_of(record.files))
        return replace(image, layers=tuple(prioritised(layer, paths, self.session.cache) for layer in image.layers))


def by_folder(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Files by their folder, both sorted.

    >>> by_folder(["opt/b", "opt/a", "etc/c"])
    {'etc': ('c',), 'opt': ('a', 'b')}
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        folder, name = posixpath.split(path)
        folders[folder].append(name)
    return {folder: tuple(names) for folder, names in sorted(folders.items())}


def paths_of(files: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """The paths of `by_folder`.

    >>> list(paths_of({"etc": ("c",), "opt": ("a", "b")}))
    ['etc/c', 'opt/a', 'opt/b']
    """
    for folder, names in files.items():
        for name in names:
            yield posixpath.join(folder, name)
