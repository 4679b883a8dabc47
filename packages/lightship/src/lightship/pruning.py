"""Levels `used` and `traced`: leave out what an observed run of the image never opened, and prove that it works.

The image is built at level `safe` first and run under observation: start, health check, golden request, shutdown.
What it did without goes into lightship.lock, so that every machine leaves out the same; whoever has a lock that fits
observes nothing. The pruned image must give the golden answer before the lock is written, and once in every cache
that builds it. What is missed then is named.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from lightship.errors import EngineError, LockError, VerificationError
from lightship.layers import recipe_key
from lightship.layers.environment import PREFIX, Environment
from lightship.layers.installed import Installed, installed_distributions, source_of
from lightship.layers.runtime import RuntimeRecipe
from lightship.lock import Pruned
from lightship.locking import Locked, lock_path, replace_pruned
from lightship.oci import Image, Platform
from lightship.phases import Phases
from lightship.plan import Plan
from lightship.run.embedded import EmbeddedEngine
from lightship.selection import left_out_by, named_in, select
from lightship.session import Session
from lightship.verify import observe, prove

VERSION = 2  # part of the inputs: raise it when the same run would now be observed, or its record read, differently
_SHOWN = 8  # files or distributions named in an error


@dataclass(frozen=True)
class Pruning:
    """The pruning of one project.

    Attributes:
        content: Digests of the project's own files in the image.
        image: Builds the image, leaving out what the record says; None builds it at level `safe`.
    """

    plan: Plan
    platform: Platform
    locked: Locked
    environment: Environment
    content: tuple[str, ...]
    image: Callable[[Pruned | None], Image]
    session: Session
    phases: Phases

    def run(self, *, locked: bool = False, fresh: bool = False) -> tuple[Image, Locked]:
        """The pruned image, proven, and the lock that says what is left out.

        Args:
            locked: Fail where the lock does not say it for this project as it is now.
            fresh: Observe even where the lock says it.

        Raises:
            LockError: See `locked`.
            EngineError: The embedded engine, which observes, does not work here.
            VerificationError: The image does not give the golden answer, before or after pruning.
        """
        recorded, inputs = self.locked.lock.pruned, self._inputs()
        if recorded is not None and recorded.inputs == inputs and not fresh:
            image = self.image(recorded)
            try:
                self._verify(image, recorded)
            except EngineError as error:
                # It was proven where the lock was written; machines without namespaces may build it too.
                self.session.progress.note(f"The pruned image is not proven here: {error.message}")
            return image, self.locked
        path = lock_path(self.plan, self.platform)
        if locked:
            raise LockError(
                f'{path} does not say what this project, as it is now, does without (prune = "{self._level}"): '
                "its files, golden request, wheels, base or runtime are not those that were observed.",
                hint="Run `lightship build`, which observes it, and commit lightship.lock.",
            )
        engine = _engine()
        whole = self.image(None)
        root, opened = self._observe(whole, engine)
        distributions = self._distributions(root)
        pruned = select(self._level, inputs, distributions, opened, self.plan.project.settings.image.keep)
        image = self.image(pruned)
        self._verify(image, pruned)
        return image, replace_pruned(self.locked, self.plan, self.platform, pruned)

    @property
    def _level(self) -> Literal["used", "traced"]:
        return cast(Literal["used", "traced"], self.plan.pruning.value)

    @property
    def _golden(self) -> Path:
        golden = self.plan.golden
        assert golden is not None  # the plan refuses these levels without one
        return golden

    def _inputs(self) -> str:
        """Everything that decides what a run opens, known without building anything."""
        lock, settings = self.locked.lock, self.plan.project.settings
        parts = [
            self._level,
            json.dumps(lock.base, sort_keys=True),
            json.dumps([[wheel.name, wheel.sha256] for wheel in sorted(lock.wheels, key=lambda each: each.name)]),
            json.dumps([settings.image.keep, sorted(settings.image.environment.items()), settings.serve.health]),
            RuntimeRecipe(self.environment, None).key,
            hashlib.sha256(self._golden.read_bytes()).hexdigest(),
            *self.content,
        ]
        return "sha256:" + recipe_key("pruned", VERSION, *parts).removeprefix("pruned-")

    def _observe(self, image: Image, engine: EmbeddedEngine) -> tuple[Path, frozenset[str]]:
        """The unpacked image, and what was opened of the environment, as RECORD names it."""
        with self.phases.phase("observe"):
            root, opened = observe(
                image,
                engine,
                self.session,
                PREFIX,
                golden=self._golden,
                health=self.plan.server.value.health,
                timeout=self.plan.project.settings.test.timeout,
            )
        self.session.cache.write_record("proofs", self._proof_key(image), {})
        return root, frozenset(map(self.environment.recorded, opened))

    def _distributions(self, root: Path) -> tuple[Installed, ...]:
        """Those of the lock; the runtime is never pruned."""
        names = {wheel.name for wheel in self.locked.lock.wheels}
        return tuple(each for each in installed_distributions(root, self.environment) if each.name in names)

    def _verify(self, image: Image, pruned: Pruned) -> None:
        """The golden answer of the pruned image, once in each cache."""
        cache = self.session.cache
        if cache.read_record("proofs", self._proof_key(image)) is not None:
            return
        engine = _engine()
        server, test = self.plan.server.value, self.plan.project.settings.test
        try:
            with self.phases.phase("verify"):
                proof = prove(
                    image, engine, self.session, golden=self._golden, health=server.health, timeout=test.timeout
                )
                proof.container.stop()
        except VerificationError as error:
            raise self._refused(error, pruned, engine) from error
        cache.write_record("proofs", self._proof_key(image), {})

    def _proof_key(self, image: Image) -> str:
        golden = hashlib.sha256(self._golden.read_bytes()).hexdigest()
        return recipe_key("proof", VERSION, image.config_digest, golden)

    def _refused(self, error: VerificationError, pruned: Pruned, engine: EmbeddedEngine) -> VerificationError:
        """The failure of a pruned image, with what it missed. Raises where the whole image fails as well."""
        root, opened = self._observe(self.image(None), engine)
        left_out = left_out_by(self._distributions(root), pruned)
        missed = named_in(error.message, left_out) or sorted({source_of(path) for path in opened} & left_out.keys())
        if not missed:
            return VerificationError(
                f"The image works whole, but not pruned, and no missing file is named.\n{error.message}",
                hint="It may look for a file without opening it: name its distribution in [image] keep, or take "
                'prune = "used" or "safe".',
            )
        lines = [f"  {path} of {left_out[path]}" for path in missed[:_SHOWN]]
        if len(missed) > _SHOWN:
            lines.append(f"  and {len(missed) - _SHOWN} more")
        names = dict.fromkeys(left_out[path] for path in missed)
        whole = pruned.level == "used" or len(missed) > _SHOWN
        keep = [*self.plan.project.settings.image.keep, *(names if whole else map(glob.escape, missed))]
        return VerificationError(
            "The image works whole, but not pruned. It missed:\n" + "\n".join(lines) + f"\n{error.message}",
            hint=f"Keep it: [image] keep = {json.dumps(keep)}",
        )


def _engine() -> EmbeddedEngine:
    engine = EmbeddedEngine()
    if why := engine.why_not():
        raise EngineError(
            f"What an image does without is observed in the embedded engine, which does not work here: {why}.",
            hint='Build once where it works and commit lightship.lock, or take [image] prune = "safe".',
        )
    return engine
