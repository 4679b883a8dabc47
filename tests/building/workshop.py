"""What a test needs to lock and build sources as a project does."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lightship.bases.debian import DebianLock, build_debian
from lightship.building import SandboxBuilder
from lightship.layers import Compression
from lightship.lock import LockedWheel, RequirementsSource, Target, resolve
from lightship.session import Session

TARGET = Target("3.11", "linux/amd64", (2, 36))


@dataclass(frozen=True)
class Workshop:
    """A session and a project, and what it takes to lock and build for it."""

    session: Session
    project: Path
    lock: DebianLock

    def requirements(self, text: str) -> RequirementsSource:
        path = self.project / "requirements.txt"
        path.write_text(text)
        return RequirementsSource("requirements", path)

    def builder(self, source: RequirementsSource, before: tuple[LockedWheel, ...] = ()) -> SandboxBuilder:
        return SandboxBuilder(
            TARGET,
            self.project,
            self.session,
            source,
            lambda: self.lock,
            lambda: build_debian(self.lock, replace(self.session, environ=dict(os.environ)), Compression.ZSTD),
            Compression.ZSTD,
            before,
        )

    def lock_text(self, text: str, before: tuple[LockedWheel, ...] = ()) -> dict[str, LockedWheel]:
        return self.lock_source(self.requirements(text), before)

    def lock_source(self, source: RequirementsSource, before: tuple[LockedWheel, ...] = ()) -> dict[str, LockedWheel]:
        builder = self.builder(source, before)
        wheels = resolve(source, (), TARGET, self.session, preferences=before, builder=builder)
        return {wheel.name: wheel for wheel in wheels}

    def with_session(self, **changes: object) -> Workshop:
        return replace(self, session=replace(self.session, **changes))  # type: ignore[arg-type]
