"""One part of an image, as both bills of materials tell of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from lightship.supply.licence import Licence


class Kind(StrEnum):
    """What a component is; documents list them in this order."""

    IMAGE = "image"
    BASE = "base"
    INTERPRETER = "interpreter"
    RUNTIME = "runtime"
    WHEEL = "wheel"
    DISTRIBUTION = "distribution"  # Python's, in a published base
    DEB = "deb"
    WEIGHTS = "weights"


@dataclass(frozen=True)
class Component:
    """A part of an image.

    Attributes:
        version: Empty where there is none.
        purl: Its package URL; None for what no ecosystem knows.
        sha256: Of the file that it came from, 64 hex digits; None where it did not come as one file.
        file: The name of that file, or its path in the image.
    """

    kind: Kind
    name: str
    version: str
    purl: str | None
    sha256: str | None
    licence: Licence
    file: str = ""

    @property
    def identity(self) -> str:
        """A name that is unique in a document and fits SPDX's rules (letters, digits, `.` and `-`)."""
        told = f"{self.kind}-{self.name}-{self.version}".rstrip("-")
        safe = re.sub(r"[^A-Za-z0-9.-]+", "-", told)
        return safe if safe == told else f"{safe}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
