"""Numbers between two bounds, as a grammar: only what JSON writes, and nothing beyond 16 digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 10**15 - 1  # what is unbounded goes so far: every integer up to there is exact as a double, too


@dataclass(frozen=True)
class Bounds:
    """From `least` to `most`, whole numbers; `above` and `below` leave them out themselves."""

    least: int
    most: int
    above: bool = False
    below: bool = False

    @property
    def mirrored(self) -> Bounds:
        """The same on the other side of 0."""
        return Bounds(-self.most, -self.least, self.below, self.above)


def integers(bounds: Bounds) -> str | None:
    """The whole numbers within; None where there are none."""
    least, most = bounds.least + bounds.above, bounds.most - bounds.below
    parts = []
    if least < 0:
        parts += [f'"-" {part}' for part in _whole(max(1, -most), -least)]
    if most >= 0:
        parts += _whole(max(0, least), most)
    return " | ".join(parts) or None


def decimals(bounds: Bounds) -> str | None:
    """The numbers within, without exponents; None where there are none."""
    parts = []
    if bounds.least < 0:
        negative = bounds if bounds.most <= 0 else Bounds(bounds.least, 0, bounds.above)
        parts += [f'"-" {part}' for part in _real(negative.mirrored)]
    if bounds.most > 0 or (bounds.most == 0 and not bounds.below):
        positive = bounds if bounds.least >= 0 else Bounds(0, bounds.most, below=bounds.below)
        parts += _real(positive)
    return " | ".join(parts) or None


def _real(bounds: Bounds) -> Iterator[str]:
    """Numbers that are not negative."""
    least, most = bounds.least, bounds.most
    if least == most:
        if not (bounds.above or bounds.below):
            yield f'"{least}" ( "." "0"{{1,16}} )?'
        return
    if least > most:
        return
    if bounds.above:
        yield f'"{least}" "." [0-9]{{0,15}} [1-9]'
    for part in _whole(least + bounds.above, most - 1):
        yield f'{part} ( "." [0-9]{{1,16}} )?'
    if not bounds.below:
        yield f'"{most}" ( "." "0"{{1,16}} )?'


def _whole(least: int, most: int) -> Iterator[str]:
    """Whole numbers that are not negative, by their number of digits."""
    for digits in range(len(str(least)), len(str(most)) + 1):
        low = max(least, 10 ** (digits - 1) if digits > 1 else 0)
        high = min(most, 10**digits - 1)
        if low <= high:
            yield from _equally_long(str(low), str(high))


def _equally_long(low: str, high: str) -> Iterator[str]:
    """From one number to another of as many digits: those with the first's beginning, in between, with the last's."""
    if low == high:
        yield f'"{low}"' if low else '""'
        return
    digits = len(low)
    if set(low) == {"0"} and set(high) == {"9"}:
        yield f"[0-9]{{{digits}}}"
        return
    same = next(place for place in range(digits) if low[place] != high[place])
    head = f'"{low[:same]}" ' if same else ""
    rest = digits - same - 1
    first, last = int(low[same]), int(high[same])
    if rest and set(low[same + 1 :]) != {"0"}:
        yield from (f'{head}"{first}" {part}' for part in _equally_long(low[same + 1 :], "9" * rest))
        first += 1
    upper = last - 1 if rest and set(high[same + 1 :]) != {"9"} else last
    if first <= upper:
        yield f"{head}[{first}-{upper}]" + (f" [0-9]{{{rest}}}" if rest else "")
    if upper < last:
        yield from (f'{head}"{last}" {part}' for part in _equally_long("0" * rest, high[same + 1 :]))
