"""Provenance: an in-toto statement with SLSA's predicate, which says what an image was built from, and with what.

in-toto attestation framework, Statement v1; SLSA provenance v1. The statement holds what decides the image and
nothing else: no host, no path, no time of day. Two builds of one project with one lock give the same image and the
same statement, so who builds it again can compare both. What the build type means is in docs/supply-chain.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import msgspec

from lightship import __version__
from lightship.bases.debian import DebianLock
from lightship.oci.image import canonical_json
from lightship.oci.name import Reference
from lightship.project.settings import Settings
from lightship.supply.materials import Materials
from lightship.supply.purl import package_url
from lightship_runtime.config import Serving

MEDIA_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
BUILD_TYPE = "https://lightship.dev/build/v1"
BUILDER = "https://lightship.dev/builder/v1"  # says which program; who ran it is the signature's to say

_OWN = ("runtime", "app")  # kinds of layers

# Settings that say something about this machine, this network or other images, and nothing about this image.
WITHHELD = frozenset({"base.mirror", "base.keyring", "image.platforms", "test.golden", "test.timeout"})
# Settings that are paths in the project; an absolute one tells of the machine, and only its last part is kept.
PATHS = frozenset({"model.path", "python.requirements", "base.image"})
TOLD = frozenset(
    {
        "model.engine",
        "model.trust",
        "model.trusted_types",
        "model.task",
        "model.network",
        "model.input_dtype",
        "model.input_shape",
        "model.context",
        "model.quantize",
        "optimize.onnx",
        "optimize.tolerance",
        "target.memory",
        "target.gpu",
        "python.version",
        "base.packages",
        "serve.app",
        *(f"serve.{name}" for name in Serving.__struct_fields__),
        "image.name",
        "image.tag",
        "image.compression",
        "image.keep",
        "image.prune",
        "image.include",
        "image.exclude",
        "image.environment",
        "image.labels",
    }
)


def provenance_statement(materials: Materials) -> bytes:
    """The statement about an image, as canonical JSON. It is not signed; an envelope for it is signing's affair."""
    lock = materials.lock
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": materials.name, "digest": {"sha256": materials.digest_hex}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"settings": settings_told(materials.settings)},
                    "internalParameters": {
                        "platform": str(materials.image.platform),
                        "python": materials.python_version,
                        "glibc": ".".join(map(str, lock.target.glibc)),
                        "sourceDateEpoch": materials.image.created,
                    },
                    "resolvedDependencies": list(_dependencies(materials)),
                },
                "runDetails": {"builder": {"id": BUILDER, "version": {"lightship": __version__}}},
            },
        }
    )


def settings_told(settings: Settings) -> dict[str, Any]:
    """What the statement tells of lightship.toml: the keys that decide the image, in their tables."""
    tables: dict[str, dict[str, Any]] = msgspec.to_builtins(
        msgspec.structs.replace(settings, base=settings.base_table)
    )
    told: dict[str, dict[str, Any]] = {}
    for table, values in sorted(tables.items()):
        for key, value in sorted(values.items()):
            name = f"{table}.{key}"
            if value is not None and (name in TOLD or name in PATHS):
                told.setdefault(table, {})[key] = _relative(value) if name in PATHS else value
    return told


def _relative(path: str) -> str:
    """A path of the project as it is; of any other only the last part.

    >>> _relative("models/iris.joblib"), _relative("oci:/home/me/base"), _relative("registry.example/python:3.12")
    ('models/iris.joblib', 'oci:base', 'registry.example/python:3.12')
    """
    scheme = "oci:" if path.startswith("oci:") else ""
    rest = PurePath(path.removeprefix(scheme))
    outside = rest.is_absolute() or ".." in rest.parts or str(rest).startswith("~")
    return f"{scheme}{rest.name}" if outside else path


def _dependencies(materials: Materials) -> Iterator[dict[str, Any]]:
    """Everything that went into the image, by digest: the base, the wheels, the weights, the project's own files."""
    base = materials.base
    if isinstance(base, DebianLock):
        for package in base.packages:
            purl = package_url(
                "deb", package.name, package.version, {"arch": package.architecture}, namespace="debian"
            )
            yield _dependency(package.name, package.sha256, uri=purl)
    else:
        uri = None if base.reference.startswith("oci:") else f"oci://{Reference.parse(base.reference).name}"
        yield _dependency("base", base.manifest.removeprefix("sha256:"), uri=uri)
    for wheel in materials.lock.wheels:
        purl = package_url("pypi", wheel.name, wheel.version, {"file_name": wheel.file})
        yield _dependency(wheel.name, wheel.sha256, uri=purl)
    for entry in sorted(materials.weights, key=lambda each: each.path):
        yield _dependency(entry.path, entry.digest.removeprefix("sha256:"))
    for layer in materials.image.layers:
        if layer.kind in _OWN:
            # What came as many files is named by the tar of the layer that they make, before any compression.
            yield _dependency(layer.kind, layer.diff_id.removeprefix("sha256:"), media_type="application/x-tar")


def _dependency(name: str, sha256: str, *, uri: str | None = None, media_type: str | None = None) -> dict[str, Any]:
    """in-toto's ResourceDescriptor."""
    fields: dict[str, Any] = {"name": name, "digest": {"sha256": sha256}}
    if uri:
        fields["uri"] = uri
    if media_type:
        fields["mediaType"] = media_type
    return fields
