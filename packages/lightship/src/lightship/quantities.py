"""Numbers as people read them."""

from __future__ import annotations

import re


def human_size(size: int) -> str:
    """Bytes with a decimal unit, as registries and Docker print them.

    >>> human_size(57_123_456)
    '57.1 MB'
    """
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int | None:
    """Bytes of a size as people write it, with decimal units (GB) or binary ones (GiB); None where it is none.

    >>> parse_size("2GiB"), parse_size("500 MB"), parse_size("much")
    (2147483648, 500000000, None)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        return None
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()])
