"""Keys and values of texts that share steps: a row for each, of one capacity, in which every text has its own length.

What transformers has for this grows by a copy of everything at each token, and has all rows end at one place. Here a
step writes the new keys and values where each row ends, and hands the model the part that is filled. A model calls
`update` and `get_seq_length` only, when it is given mask and positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_GRAIN = 16  # tokens that what a model sees is rounded up to: kernels of GPUs want masks of even sizes
_ROOM = 128  # tokens of capacity that are taken at once


class RowCache:
    """Rows from 0 on; which text has which is for the caller to know."""

    def __init__(self, context: int) -> None:
        """`context`: tokens of the longest text."""
        self._context = context
        self._layers: list[tuple[Any, Any]] = []
        self._rows = 0
        self._tokens = 0
        self._reach = 0
        self._seen = 0
        self._which: slice | Any = slice(0)
        self._at: tuple[Any, Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows, and tokens of each, that there is room for."""
        return self._rows, self._tokens

    def fit(self, rows: int, tokens: int) -> None:
        """Have room for so many rows and tokens; give room back where most of it is not needed."""
        enough = rows <= self._rows and tokens <= self._tokens
        if enough and 4 * rows > self._rows and (4 * tokens > self._tokens or self._tokens <= _ROOM):
            return
        keep = (min(rows, self._rows), min(tokens, self._tokens))
        if tokens > self._tokens:
            grown = max(tokens, self._tokens * 3 // 2)
            tokens = max(min(-(-grown // _ROOM) * _ROOM, _rounded(self._context)), _rounded(tokens))
        elif 4 * tokens > self._tokens:
            tokens = self._tokens
        else:
            tokens = -(-tokens // _ROOM) * _ROOM
        self._rows, self._tokens = 1 << (rows - 1).bit_length(), tokens
        for number, (keys, values) in enumerate(self._layers):  # one by one: of one layer only there are two
            self._layers[number] = (self._moved(keys, keep), self._moved(values, keep))

    def clear(self) -> None:
        """Give everything back."""
        self._layers.clear()
        self._rows = self._tokens = 0

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Let two rows take each other's place; neither has more than so many tokens."""
        for layer in self._layers:
            for kept in layer:
                first = kept[one, :, :tokens].clone()
                kept[one, :, :tokens] = kept[other, :, :tokens]
                kept[other, :, :tokens] = first

    def copy(self, row: int, to: int, tokens: int) -> None:
        """Let a row have what another has in its first so many tokens."""
        for layer in self._layers:
            for kept in layer:
                kept[to, :, :tokens] = kept[row, :, :tokens]

    def aim(self, rows: Sequence[int], starts: Sequence[int], width: int, device: Any) -> tuple[Any, Any]:
        """What the next step computes: `width` tokens of each row, from its start on.

        Returns: the positions, and which of what is kept each position may see, both for the model.
        """
        import torch

        which = torch.tensor(rows, device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(width, device=device)
        self._seen = max(starts)
        self._reach = min(_rounded(self._seen + width), self._tokens)
        together = list(rows) == list(range(len(rows)))
        self._which = slice(len(rows)) if together else slice(rows[0], rows[0] + 1) if len(rows) == 1 else which
        self._at = (which[:, None], positions)
        visible = torch.arange(self._reach, device=device) <= positions[:, :, None]
        return positions.clamp(max=self._context - 1), visible[:, None]

    def update(self, keys: Any, values: Any, layer: int, *_more: Any, **_named: Any) -> tuple[Any, Any]:
        """Keep what a layer has computed; what it is to look at. Both are (rows, heads, tokens, numbers)."""
        while len(self._layers) <= layer:  # zeros: what nobody has written is not seen, but must be a number
            self._layers.append((self._made(keys), self._made(values)))
        kept_keys, kept_values = self._layers[layer]
        assert self._at is not None, "a model computes only what has been aimed at"
        rows, places = self._at
        kept_keys[rows, :, places] = keys.transpose(1, 2)
        kept_values[rows, :, places] = values.transpose(1, 2)
        return kept_keys[self._which, :, : self._reach], kept_values[self._which, :, : self._reach]

    def get_seq_length(self, _layer: int = 0) -> int:
        """Tokens before this step, of the longest row in it."""
        return self._seen

    def _made(self, like: Any) -> Any:
        return like.new_zeros((self._rows, like.shape[1], self._tokens, like.shape[3]))

    def _moved(self, kept: Any, keep: tuple[int, int]) -> Any:
        made = self._made(kept)
        rows, tokens = keep
        made[:rows, :, :tokens] = kept[:rows, :, :tokens]
        return made


def _rounded(tokens: int) -> int:
    return -(-tokens // _GRAIN) * _GRAIN
