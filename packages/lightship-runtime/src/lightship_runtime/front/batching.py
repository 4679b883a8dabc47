"""How many calls to predict together: as many as can be done in good time, learned from what batches have taken.

A batch of n calls takes about a + b·n seconds. The two are fitted to recent batches, older ones counting less. Where
the fixed part a is large (a forest, a network on a GPU), a larger batch costs next to nothing and is allowed; where
each call costs the same, batches are kept so short that nobody waits for long behind somebody else's.
"""

from __future__ import annotations

_KEPT = 0.98  # of the weight of a batch that is left after the next one: about the last fifty count
_LEAST = 1e-9
_SHORT = 0.01  # seconds of work, beside which the 0.1 to 0.3 ms between two batches are nothing any more
_EXPLORED = 2  # calls; were it one, nothing could be learned of larger batches any more


class BatchSize:
    """The largest batch to make, at most `most`, so that it takes `seconds` or twice the fixed part of any batch."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._weight = self._n = self._t = self._nn = self._nt = 0.0
        self.limit = most

    def observe(self, calls: int, seconds: float) -> None:
        """Learn from a batch."""
        keep = _KEPT
        self._weight = self._weight * keep + 1
        self._t = self._t * keep + seconds
        if self._most == 1:
            return
        self._n = self._n * keep + calls
        self._nn = self._nn * keep + calls * calls
        self._nt = self._nt * keep + calls * seconds
        if seconds <= self._seconds and self.limit >= self._most:
            return  # nothing to change, which is the usual case
        self.limit = self._fitted()

    @property
    def short(self) -> bool:
        """Whether batches usually take so little that the time between two of them counts. False before the first."""
        return 0 < self._t < _SHORT * self._weight

    def _fitted(self) -> int:
        mean_n, mean_t = self._n / self._weight, self._t / self._weight
        spread = self._nn / self._weight - mean_n * mean_n
        each = mean_t / mean_n  # where all batches were equally large: the cautious view that nothing is fixed
        if spread > _LEAST:
            each = max(0.0, (self._nt / self._weight - mean_n * mean_t) / spread)
        fixed = max(0.0, mean_t - each * mean_n)
        if each <= _LEAST:
            return self._most
        allowed = max(self._seconds, 2 * fixed) - fixed
        return min(self._most, max(_EXPLORED, int(allowed / each)))
