"""What a person sees: bars on a terminal, plain lines elsewhere, nothing with --quiet, one document with --json.

News of the work goes to standard error, results to standard output, so that output can be piped.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightship.progress import Progress, Silent, Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.table import Table

_WORTH_A_LINE = 0.5  # seconds; plain output tells of a task only if it took at least this long


@dataclass(frozen=True)
class Display:
    """The user's choices about output."""

    quiet: bool = False
    json: bool = False

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A listener for the builder's news."""
        if self.quiet or self.json:
            yield Silent()
        elif sys.stderr.isatty():
            with _bars() as bars:
                yield bars
        else:
            yield _Lines()

    def document(self, value: dict[str, Any]) -> None:
        """Print a result for machines."""
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")

    def line(self, text: str = "") -> None:
        """Print a line for people, in rich's markup."""
        if not self.quiet and not self.json:
            self.console().print(text, highlight=False)

    def wide_line(self, text: str) -> None:
        """Print a line for people that is never broken, for long lists that are searched and piped."""
        if not self.quiet and not self.json:
            self.console().print(text, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say what the user should look at; shown with --quiet too."""
        if not self.json:
            self.console(stderr=True).print("[yellow bold]warning:[/]", text, highlight=False, markup=True)

    def table(self, table: Table) -> None:
        if not self.quiet and not self.json:
            self.console().print(table)

    @staticmethod
    def console(*, stderr: bool = False) -> Console:
        """rich's console; it honours NO_COLOR and the width of the terminal (100 columns where there is none)."""
        from rich.console import Console

        file = sys.stderr if stderr else sys.stdout
        # Without emoji: image names are full of colons.
        return Console(file=file, width=None if file.isatty() else 110, soft_wrap=False, emoji=False)


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.progress import Task as Row
    from rich.text import Text

    class Amount(DownloadColumn):
        """Bytes done of all bytes; nothing for work whose size nobody knows."""

        def render(self, task: Row) -> Text:
            return Text() if task.total is None else super().render(task)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        Amount(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    """Bars of rich; a task that is done disappears, so that the screen shows what is going on now."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        identity = self._bars.add_task(title, total=total)
        try:
            yield _Bar(self._bars, identity)
        finally:
            self._bars.remove_task(identity)

    def note(self, message: str) -> None:
        self._bars.console.print(message, highlight=False, markup=False)


class _Bar:
    def __init__(self, bars: Bars, identity: TaskID) -> None:
        self._bars = bars
        self._identity = identity

    def advance(self, amount: int) -> None:
        self._bars.advance(self._identity, amount)


class _Lines:
    """One plain line for each task that took a while, written whole, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        start = time.monotonic()
        yield _Counted()
        if (seconds := time.monotonic() - start) >= _WORTH_A_LINE:
            self.note(f"{title} ({seconds:.1f} s)")

    def note(self, message: str) -> None:
        with self._lock:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()


class _Counted:
    def advance(self, amount: int) -> None:
        pass
