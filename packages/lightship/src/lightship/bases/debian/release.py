"""InRelease: the signed table of contents of a suite. Everything else is trusted through its hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from lightship.bases.debian.control import paragraphs
from lightship.errors import IntegrityError

SNAPSHOT_VARIABLE = "LIGHTSHIP_DEBIAN_SNAPSHOT"
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class IndexFile:
    """A file of a suite: its path under dists/<suite>, sha256 and size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Contents:
    """What a verified InRelease says. `valid_until` is None for a suite that does not expire, as stable's main."""

    codename: str
    valid_until: datetime | None
    by_hash: bool
    files: str  # the SHA256 field, one file a line

    def file(self, path: str) -> IndexFile:
        """The entry of one file; an `IntegrityError` if the suite has no such file."""
        for line in self.files.splitlines():
            if line.endswith(f" {path}"):
                parts = line.split()
                if len(parts) == 3 and parts[2] == path and _HASH.fullmatch(parts[0]) and parts[1].isdigit():
                    return IndexFile(path, parts[0], int(parts[1]))
        raise IntegrityError(f"The suite {self.codename} has no {path}.")


def read_release(text: str, suite: str, now: datetime, *, snapshot: bool) -> Contents:
    """Read the text of a verified InRelease, and check that it is the suite asked for and still valid.

    Args:
        text: What was inside the signature.
        suite: Its name in the archive, such as bookworm-security; the Codename inside must be the same.
        now: The present, to compare with Valid-Until.
        snapshot: Accept an expired one, which every dated copy of an archive is.
    """
    fields = next(paragraphs(text), {})
    codename = fields.get("Codename", "")
    if codename != suite:
        raise IntegrityError(
            f"The mirror was asked for {suite}, but what it serves there is signed as {codename or 'nothing'}.",
            hint="Check that the mirror's address is that of a Debian archive.",
        )
    valid_until = _date(fields["Valid-Until"], suite) if "Valid-Until" in fields else None
    if valid_until and valid_until < now and not snapshot:
        raise IntegrityError(
            f"The package list of {suite} expired on {valid_until:%Y-%m-%d %H:%M} UTC: the mirror is behind, or "
            "somebody replays an old state that lacks security updates.",
            hint="Use another mirror, or check this machine's clock. For a dated copy of the archive, where this is "
            f"as it should be, set {SNAPSHOT_VARIABLE}=1.",
        )
    return Contents(codename, valid_until, fields.get("Acquire-By-Hash") == "yes", fields.get("SHA256", ""))


def _date(text: str, suite: str) -> datetime:
    try:
        date = parsedate_to_datetime(text)
    except ValueError as error:
        raise IntegrityError(f"The Valid-Until of {suite} is not a date: {text[:60]!r}.") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
