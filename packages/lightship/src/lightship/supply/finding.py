"""A known vulnerability in one package of an image, whoever found it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad it is, by those who know. What nobody has rated is `UNKNOWN`, and passes no gate."""

    UNKNOWN = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, word: object) -> Severity:
        """The severity that a word of any scanner or database stands for; `UNKNOWN` for all other words."""
        return _WORDS.get(word.strip().lower(), cls.UNKNOWN) if isinstance(word, str) else cls.UNKNOWN


_WORDS = {
    "negligible": Severity.LOW,  # Debian's, for what is hardly a problem at all
    "none": Severity.LOW,  # CVSS, for a score of 0
    "low": Severity.LOW,
    "medium": Severity.MEDIUM,
    "moderate": Severity.MEDIUM,  # GitHub's word
    "high": Severity.HIGH,
    "critical": Severity.CRITICAL,
}


@dataclass(frozen=True)
class Finding:
    """A vulnerability in one package.

    Attributes:
        id: CVE-..., GHSA-..., PYSEC-...
        fixed: The version that is said to be without it; empty where there is none.
        source: Who says so: trivy, grype, docker scout, OSV.
    """

    id: str
    package: str
    installed: str
    fixed: str
    severity: Severity
    source: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "package": self.package,
            "installed": self.installed,
            "fixed": self.fixed or None,
            "severity": str(self.severity),
            "source": self.source,
        }


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each once, the worst first, those that nobody has rated at the end."""
    return tuple(sorted(set(findings), key=lambda each: (-each.severity, each.package, each.id, each.installed)))


def failing(findings: Iterable[Finding], threshold: Severity) -> tuple[Finding, ...]:
    """Those that are at least as bad as the threshold, or may be, because nobody has rated them."""
    return tuple(each for each in findings if each.severity >= threshold or each.severity is Severity.UNKNOWN)
