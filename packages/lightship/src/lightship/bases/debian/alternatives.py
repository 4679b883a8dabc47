"""update-alternatives, for the calls that name their paths plainly: `libblas.so.3`, for one, is only such a link.

Of several alternatives for one link the one with the highest priority would win; here packages come in the order of
their names and the first wins, unless a package asked for brings the file itself. Calls with shell variables are
left alone: guessing at what a script computes would be worse than a link that is missing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from lightship.bases.debian.filesystem import RootFileSystem
from lightship.bases.debian.unpack import merged

_LARGEST_SCRIPT = 1 << 20  # bytes


def install_alternatives(tree: RootFileSystem, script: bytes) -> None:
    """Make the links that a postinst would have registered, where their targets are in the tree."""
    for link, target in _links(script):
        path, there = merged(link.lstrip("/")), merged(target.lstrip("/"))
        if tree.resolved(there) is not None and path not in tree:
            tree.add_symlink(path, target)


def _links(script: bytes) -> Iterator[tuple[str, str]]:
    if b"update-alternatives" not in script or len(script) > _LARGEST_SCRIPT:
        return
    text = script.decode("utf-8", "replace").replace("\\\n", " ")
    for line in text.splitlines():
        if "update-alternatives" in line and "--install" in line:
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            yield from _links_of_call(words)


def _links_of_call(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`--install LINK NAME PATH PRIORITY`, then any number of `--slave LINK NAME PATH`."""
    for index, word in enumerate(words):
        if word in ("--install", "--slave") and len(words) > index + 3:
            link, target = words[index + 1], words[index + 3]
            if all(_plain(path) for path in (link, target)):
                yield link, target


def _plain(path: str) -> bool:
    return path.startswith("/") and ".." not in path and not any(mark in path for mark in "$`*?;&|<>")
