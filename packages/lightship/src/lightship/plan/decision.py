"""The unit of a plan: a value, why it was chosen, and what was seen that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Value_co = TypeVar("Value_co", covariant=True)


@dataclass(frozen=True)
class Decision(Generic[Value_co]):
    """Something that Lightship decided, or that the user did.

    Attributes:
        name: What was decided, as `lightship plan` prints it: base, weights, pruning ...
        value: What the builder acts upon.
        shown: The value in words.
        reason: Why, in a sentence.
        evidence: The observations behind the reason, each a short line.
    """

    name: str
    value: Value_co
    shown: str
    reason: str
    evidence: tuple[str, ...] = ()
