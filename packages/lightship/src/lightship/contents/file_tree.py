"""Layers laid over each other: which files a container sees, and which bytes lie beneath, paid for and never seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightship.contents.layer_scan import File, LayerScan
from lightship.layers.tar_stream import Kind


@dataclass(frozen=True, slots=True)
class Placed:
    """A file and the number of the layer that it is in, from 0."""

    file: File
    layer: int


@dataclass(frozen=True, slots=True)
class Buried:
    """Bytes that a later layer hides: the file is pulled and stored, and no container ever sees it."""

    path: str
    size: int
    layer: int
    by_layer: int
    why: str  # "overwritten" or "removed"


class _Node:
    __slots__ = ("children", "placed")

    def __init__(self) -> None:
        self.placed: Placed | None = None
        self.children: dict[str, _Node] = {}


class FileTree:
    """The files of an image. `lay` its layers from the base up.

    The time that a layer takes grows with its own entries only: what is removed was laid once.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self.buried: list[Buried] = []

    def lay(self, scan: LayerScan, number: int) -> None:
        """Put a layer on top."""
        for path in scan.emptied:  # they and the whiteouts concern what lies below, wherever in the layer they are
            if node := self._find(path):
                self._bury_children(node, number, "removed")
        for path in scan.removed:
            folder, _, name = path.rpartition("/")
            parent = self._find(folder)
            if parent and (gone := parent.children.pop(name, None)):
                self._bury(gone, number, "removed")
        for file in scan.files:
            self._put(Placed(file, number))

    def files(self) -> Iterator[Placed]:
        """Everything that a container sees, by path; directories that no layer describes are left out."""
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            if node.placed:
                yield node.placed
            waiting.extend(node.children[name] for name in sorted(node.children, reverse=True))

    def root_links(self) -> dict[str, str]:
        """Symbolic links in the root directory, with their targets: /lib and the like."""
        placed = ((name, node.placed) for name, node in self._root.children.items())
        return {name: found.file.target for name, found in placed if found and found.file.kind is Kind.SYMLINK}

    def get(self, path: str) -> Placed | None:
        node = self._find(path)
        return node.placed if node else None

    def _find(self, path: str) -> _Node | None:
        node: _Node | None = self._root
        for name in path.split("/") if path else ():
            node = node.children.get(name) if node else None
        return node

    def _put(self, placed: Placed) -> None:
        node = self._root
        *folders, name = placed.file.path.split("/")
        for folder in folders:
            child = node.children.get(folder)
            if child is None:
                child = node.children[folder] = _Node()
            elif child.placed and child.placed.file.kind is not Kind.DIRECTORY:
                self._bury_file(child.placed, placed.layer, "overwritten")  # a directory takes the place of a file
                child.placed = None
            node = child
        child = node.children.get(name)
        if child is None:
            child = node.children[name] = _Node()
        if child.placed:
            self._bury_file(child.placed, placed.layer, "overwritten")
        if child.children and placed.file.kind is not Kind.DIRECTORY:
            self._bury_children(child, placed.layer, "overwritten")
        child.placed = placed

    def _bury_children(self, node: _Node, by_layer: int, why: str) -> None:
        children, node.children = node.children, {}
        for child in children.values():
            self._bury(child, by_layer, why)

    def _bury(self, node: _Node, by_layer: int, why: str) -> None:
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node.placed:
                self._bury_file(node.placed, by_layer, why)
            waiting.extend(node.children.values())

    def _bury_file(self, placed: Placed, by_layer: int, why: str) -> None:
        if placed.file.kind is Kind.FILE:
            file = placed.file
            self.buried.append(Buried(file.path, file.size, placed.layer, by_layer, why))
