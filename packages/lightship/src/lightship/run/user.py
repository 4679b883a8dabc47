"""Whom a container runs as: the `User` of an image config, looked up in the image as an engine does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightship.errors import EngineError
from lightship.layers.rootfs import resolve

_LARGEST_DATABASE = 1 << 20  # bytes of /etc/passwd or /etc/group that are looked at


@dataclass(frozen=True)
class User:
    """Numbers, and the home directory for `HOME`."""

    uid: int
    gid: int
    home: str


def image_user(user: str, root: Path) -> User:
    """The user that `user` names in the root file system `root`.

    The forms of the OCI image config: `user`, `uid`, `user:group`, `uid:gid` and mixtures of them; empty means root.

    Raises:
        EngineError: A name is in neither /etc/passwd nor /etc/group, or a number is out of range.
    """
    who, _, group = user.partition(":")
    who = who or "0"
    known = _find(root, "etc/passwd", who, fields=7)
    if known:
        uid, gid, home = _number(known[2]), _number(known[3]), known[5] or "/"
    elif who.isdigit():
        uid, gid, home = _number(who), 0, "/"
    else:
        raise _unknown(user, who, "etc/passwd")
    if group.isdigit():
        gid = _number(group)
    elif group:
        found = _find(root, "etc/group", group, fields=4)
        if not found:
            raise _unknown(user, group, "etc/group")
        gid = _number(found[2])
    return User(uid, gid, home)


def _find(root: Path, database: str, wanted: str, *, fields: int) -> list[str] | None:
    """The line whose name, or whose number, is `wanted`."""
    column = 2 if wanted.isdigit() else 0
    return next((line for line in _lines(root, database, fields) if line[column] == wanted), None)


def _lines(root: Path, database: str, fields: int) -> Iterator[list[str]]:
    place = resolve(root, database)
    if place is None or not (root / place).is_file():
        return
    with (root / place).open("rb") as file:
        text = file.read(_LARGEST_DATABASE).decode("utf-8", "replace")
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= fields and parts[2].isdigit():
            yield parts


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 10 or (number := int(text)) >= (1 << 32) - 1:
        raise EngineError(f"The image's user has the number {text[:20]!r}, which no system has.")
    return number


def _unknown(user: str, name: str, database: str) -> EngineError:
    return EngineError(
        f"The image runs as {user!r}, but {name!r} is not in its /{database}.",
        hint="Use numbers, such as 65532:65532; Kubernetes needs them too to see that a user is not root.",
    )
