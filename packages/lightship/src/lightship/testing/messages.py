"""A request and an answer, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """A request as it came; `size` is the length of its body in bytes, as announced."""

    method: str
    path: str
    headers: Mapping[str, str]
    size: int

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}


@dataclass
class Answer:
    """What the registry says to a request."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
