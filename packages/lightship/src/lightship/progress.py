"""How long work tells of itself, without knowing who listens.

The builder's parts report into a `Progress`; the command line renders it (bars on a terminal, plain lines
elsewhere, nothing with --quiet), and tests pass `Silent()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int) -> None:
        """Say that `amount` more units (bytes, unless the task says otherwise) are done."""


class Progress(Protocol):
    """Receives news of work; safe to call from several threads."""

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Announce work of `total` bytes (None: unknown); it ends when the block ends."""
        ...

    def note(self, message: str) -> None:
        """Say something that the user should see once, such as a fallback that was taken."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass


class Silent:
    """A `Progress` that nobody watches."""

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        yield _SilentTask()

    def note(self, message: str) -> None:
        pass
