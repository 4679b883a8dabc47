"""A small image with all that a real one has: a base of Debian packages, wheels, weights, an app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from wheel_factory import make_wheel, source_of

from lightship.bases.debian import DebianLock, LockedDeb
from lightship.bases.image import ImageLock
from lightship.cache import file_digest
from lightship.layers import Compression, Layer
from lightship.layers.files import FileEntry
from lightship.lock import Inputs, Lock, LockedWheel, Target
from lightship.oci import Image, Settings
from lightship.project.settings import BaseTable, ImageTable
from lightship.project.settings import Settings as ProjectSettings
from lightship.session import Session
from lightship.supply import Materials

MakeMaterials = Callable[..., Materials]

DEP5 = b"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 1995 somebody
License: Zlib

Files: contrib/*
Copyright: somebody else
License: Expat or GPL-2+

Files: debian/*
Copyright: a packager
License: AGPL-3

License: Zlib
 The text.
"""
STATUS = (
    b"Package: zlib1g\nSource: zlib\nVersion: 1:1.2.13.dfsg-1\nArchitecture: amd64\nStatus: install ok installed\n"
)
BASE_FILES: dict[str, tuple[bytes, int] | str] = {
    "etc/os-release": (b'ID=debian\nVERSION_ID="12"\n', 0o644),
    "usr/share/doc/zlib1g/copyright": (DEP5, 0o644),
    "usr/share/doc/libz-tools": "zlib1g",
    "var/lib/dpkg/status.d/zlib1g": (STATUS, 0o644),
}
DEBS = (
    LockedDeb("libz-tools", "1:1.2.13.dfsg-1", "amd64", "1" * 64, 10, "pool/main/z/zlib/libz-tools_1.2.13_amd64.deb"),
    LockedDeb("python3.11-minimal", "3.11.2-6+deb12u6", "amd64", "2" * 64, 10, "pool/main/p/p/python3.11_amd64.deb"),
    LockedDeb("zlib1g", "1:1.2.13.dfsg-1", "amd64", "3" * 64, 10, "pool/main/z/zlib/zlib1g_1.2.13_amd64.deb"),
)
METADATA = {
    "alpha": b"Metadata-Version: 2.4\nName: alpha\nVersion: 1.0\nLicense-Expression: mit and (apache-2.0 or isc)\n",
    "beta": b"Metadata-Version: 2.1\nName: beta\nVersion: 1.0\nClassifier: License :: OSI Approved :: BSD License\n",
}


@pytest.fixture
def make_materials(session: Session, make_layer: Callable[..., Layer], tmp_path: Path) -> MakeMaterials:
    """`make_materials(metadata=..., keep_wheels=..., published=...)`: an image in the session's cache.

    `metadata` is the METADATA of each wheel by name, `keep_wheels` says whether the wheels are in the cache (else
    only the layers are), `published` puts the image on a base that came from a registry.
    """

    def make(
        metadata: dict[str, bytes] | None = None,
        *,
        keep_wheels: bool = True,
        published: bool = False,
        base_files: dict[str, tuple[bytes, int] | str] | None = None,
        compression: Compression = Compression.ZSTD,
        settings: ProjectSettings | None = None,
    ) -> Materials:
        texts = METADATA if metadata is None else metadata
        wheels, installed = [], {}
        for name, text in texts.items():
            path = make_wheel(tmp_path / "wheels", name, metadata={"METADATA": text})
            source = source_of(path)
            wheels.append(LockedWheel(source.name, source.version, path.name, source.size, source.sha256))
            site = f"opt/lightship/lib/python3.11/site-packages/{name}-1.0.dist-info"
            installed[f"{site}/METADATA"] = (text, 0o644)
            if keep_wheels:
                session.cache.add_blob(path.read_bytes())
        model = tmp_path / "model.onnx"
        model.write_bytes(b"weights")
        base = replace(make_layer(BASE_FILES if base_files is None else base_files, compression), kind="base")
        lock: DebianLock | ImageLock = DebianLock("bookworm", "amd64", DEBS)
        if published:
            lock = ImageLock(
                reference="registry.example/team/python:3.11",
                architecture="amd64",
                manifest="sha256:" + "4" * 64,
                python_path="/usr/local/bin/python3.11",
                python_version="3.11.9",
                environment=(),
                layers=(),
            )
        return Materials(
            name="team/iris",
            tag="1",
            image=Image(
                layers=(
                    base,
                    replace(make_layer(installed, compression), kind="wheels"),
                    replace(make_layer({"x": (b"runtime", 0o644)}, compression), kind="runtime"),
                    replace(make_layer({"app/serve.py": (b"x = 1\n", 0o644)}, compression), kind="app"),
                ),
                settings=Settings(entrypoint=("/bin/true",)),
            ),
            lock=Lock(Target("3.11", "linux/amd64", (2, 36)), Inputs("a", "b"), lock.to_dict(), tuple(wheels)),
            base=lock,
            weights=(FileEntry("app/models/model.onnx", file_digest(model), 7, 0o644, model),),
            settings=settings
            or ProjectSettings(
                base=BaseTable(mirror="http://mirror.internal/debian", keyring="/home/me/keys.gpg"),
                image=ImageTable(labels={"team": "vision"}),
            ),
        )

    return make
