"""`hf://ORG/NAME[@REVISION][/FILE]`: a model on a hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lightship.errors import ProjectError

SCHEME = "hf://"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"  # as the hub allows them
_REFERENCE = re.compile(rf"(?:({_PART})/)?({_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,127}}))?")


@dataclass(frozen=True)
class HubReference:
    """A repository of the hub, and what of it is wanted.

    Attributes:
        repository: `org/name`, or `name` for a few old ones.
        revision: A branch, a tag or a commit; None is the main branch.
        file: The only file wanted, such as one GGUF of many; None where the format decides.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    @property
    def name(self) -> str:
        """The last part of the repository's name."""
        return self.repository.rpartition("/")[2]

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        file = f"/{self.file}" if self.file else ""
        return f"{SCHEME}{self.repository}{file}{revision}"

    @classmethod
    def parse(cls, text: str) -> HubReference:
        """Read a reference. Raises `ProjectError` where it is none.

        >>> HubReference.parse("hf://org/name@v1")
        HubReference(repository='org/name', revision='v1', file=None)
        >>> HubReference.parse("hf://org/name/model.Q4_K_M.gguf").file
        'model.Q4_K_M.gguf'
        """
        rest = text.removeprefix(SCHEME)
        rest, at, revision = rest.partition("@")
        parts = rest.split("/")
        repository, file = "/".join(parts[:2]), "/".join(parts[2:])
        match = _REFERENCE.fullmatch(repository + at + revision)
        if not text.startswith(SCHEME) or not match or ".." in text or (file and not is_plain(file)):
            raise ProjectError(
                f"{text!r} names no model on a hub.",
                hint="Write hf://ORG/NAME, with @REVISION or /FILE where one is meant: hf://org/name/model.gguf@main.",
            )
        return cls(repository, revision or None, file or None)


def is_plain(path: str) -> bool:
    """Whether a file's path stays inside the folder that it is relative to.

    >>> is_plain("onnx/model.onnx"), is_plain("../x"), is_plain("/x"), is_plain("a\\\\..\\\\b"), is_plain("C:x")
    (True, False, False, False, False)
    """
    parts = path.split("/")
    return (
        bool(path) and not any(part in ("", ".", "..") for part in parts) and not re.search(r"[\\:\x00-\x1f]", path)
    )
