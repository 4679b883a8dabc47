"""update-alternatives, for the calls that name their paths plainly: `libblas.so.3`, for one, is only such a link.

Calls with shell variables are left alone: guessing at what a script computes would be worse than a missing link.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lightship.bases.debian.filesystem import RootFileSystem
from lightship.bases.debian.unpack import merged

_LARGEST_SCRIPT = 1 << 20  # bytes


@dataclass(frozen=True, order=True)
class _Alternative:
    priority: int
    link: str
    target: str


def install_alternatives(tree: RootFileSystem, scripts: Iterable[bytes]) -> None:
    """Make the links that postinst scripts would have registered, as far as their targets are in the tree.

    Of several alternatives the one with the highest priority wins, the first by name of target among equals. What a
    package brings under the link's own name stays.
    """
    found = {alternative for script in scripts for alternative in _alternatives(script)}
    for each in sorted(found, key=lambda each: (-each.priority, each.link, each.target)):
        path, target = merged(each.link.lstrip("/")), merged(each.target.lstrip("/"))
        if path not in tree and tree.resolved(target) is not None:
            tree.add_symlink(path, each.target)


def _alternatives(script: bytes) -> Iterator[_Alternative]:
    if b"update-alternatives" not in script or len(script) > _LARGEST_SCRIPT:
        return
    for line in script.decode("utf-8", "replace").replace("\\\n", " ").splitlines():
        if "update-alternatives" in line and "--install" in line:
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a quotation that goes on in the next line
                continue
            yield from _of_call(words)


def _of_call(words: Sequence[str]) -> Iterator[_Alternative]:
    """`--install LINK NAME PATH PRIORITY`, then any number of `--slave LINK NAME PATH`."""
    start = words.index("--install") if "--install" in words else len(words)
    if len(words) < start + 5 or not words[start + 4].lstrip("-").isdecimal():
        return
    priority = int(words[start + 4])
    for index, word in enumerate(words):
        if word in ("--install", "--slave") and len(words) > index + 3:
            link, target = words[index + 1], words[index + 3]
            if _plain(link) and _plain(target):
                yield _Alternative(priority, link, target)


def _plain(path: str) -> bool:
    return (
        path.startswith("/") and "//" not in path and ".." not in path and not set("$`*?;&|<>()").intersection(path)
    )
