"""Entries of layers, as nobody's tools would make them."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass


@dataclass(frozen=True)
class Made:
    """An entry of a layer; `kind` is one of tarfile's types."""

    path: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644
    uid: int = 0


def directory(path: str, mode: int = 0o755, uid: int = 0) -> Made:
    return Made(path, kind=tarfile.DIRTYPE, mode=mode, uid=uid)


def symlink(path: str, target: str) -> Made:
    return Made(path, kind=tarfile.SYMTYPE, target=target, mode=0o777)


def hardlink(path: str, target: str) -> Made:
    return Made(path, kind=tarfile.LNKTYPE, target=target)
