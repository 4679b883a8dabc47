"""How far the server is: what its processes have said of themselves, and what health checks are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightship_runtime.frames import Abilities


@dataclass
class State:
    """From the start to the end: starting, ready, draining.

    Attributes:
        phase: What the slowest process is busy with, before it is ready.
        done: How much of that phase is done, 0 to 1, where known.
        wanted: Workers that the server is meant to have; 0 until the first has said it.
        workers: That are there now, by process number, with what they said.
        started: Whether all have been there at some time.
        draining: Whether the server is on its way out.
        signature: Of the model, as JSON; None until a worker has said it.
        streams: Whether it can answer in parts.
        abilities: What else it can be asked.
        golden: A body that it is known to answer, as JSON; None where there is none.
        phases: Seconds that each phase of the start took.
    """

    phase: str = "starting"
    done: float | None = None
    wanted: int = 0
    workers: set[int] = field(default_factory=set)
    started: bool = False
    draining: bool = False
    signature: bytes | None = None
    streams: bool = False
    abilities: Abilities = field(default_factory=Abilities)
    golden: bytes | None = None
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether a request would be answered by the model now."""
        return self.started and bool(self.workers) and not self.draining

    @property
    def word(self) -> str:
        """What it is, in a word."""
        if self.draining:
            return "draining"
        if self.ready:
            return "ready"
        return "recovering" if self.started else "starting"

    def described(self, *, detail: bool) -> dict[str, object]:
        """For a health check. Without `detail` only the word."""
        told: dict[str, object] = {"status": self.word}
        if detail and not self.ready and not self.draining:
            told["phase"] = self.phase
            if self.done is not None:
                told["done"] = round(self.done, 2)
        return told
