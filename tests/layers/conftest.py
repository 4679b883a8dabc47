"""Layers made by hand, entry by entry, as nobody's tools would make them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest
from handmade_layers import Made

from lightship.layers import Compression, Layer
from lightship.session import Session


@pytest.fixture
def raw_layer(session: Session) -> Callable[..., Layer]:
    """`raw_layer(entries...)`: a layer in the session's cache that holds exactly these entries, in this order."""

    def make(*entries: Made) -> Layer:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry in entries:
                info = tarfile.TarInfo(entry.path)
                info.type, info.linkname, info.mode, info.uid = entry.kind, entry.target, entry.mode, entry.uid
                info.size, info.mtime = len(entry.content), 1_000_000_000
                tar.addfile(info, io.BytesIO(entry.content))
        plain = file.getvalue()
        stored = gzip.compress(plain, mtime=0)
        return Layer(
            kind="base",
            title="made by hand",
            digest=session.cache.add_blob(stored),
            diff_id="sha256:" + hashlib.sha256(plain).hexdigest(),
            size=len(stored),
            unpacked_size=len(plain),
            media_type=Compression.GZIP.media_type,
        )

    return make
