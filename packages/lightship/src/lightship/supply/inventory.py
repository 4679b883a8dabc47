"""Everything that is in an image, one `Component` each: what the lock says, with what the image's files say of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightship import __version__
from lightship.bases.debian import DebianLock
from lightship.bases.image import ImageLock
from lightship.oci.name import Reference
from lightship.releases import RELEASES
from lightship.session import Session
from lightship.supply.base_packages import base_packages
from lightship.supply.component import Component, Kind
from lightship.supply.families import Family
from lightship.supply.licence import NOT_STATED, stated
from lightship.supply.materials import Materials
from lightship.supply.purl import package_url
from lightship.supply.wheel_metadata import wheel_licences

RUNTIME_LICENCE = "Apache-2.0"  # what the runtime's own pyproject.toml declares


@dataclass(frozen=True)
class Inventory:
    """An image and its components, which are sorted by kind and name; `timestamp` is for documents."""

    image: Component
    components: tuple[Component, ...]
    timestamp: str

    def families(self) -> dict[Family, tuple[Component, ...]]:
        """The software by family of licence, each family there, the heaviest first. Weights are the user's own."""
        software = [each for each in self.components if each.kind in _LICENSED]
        order = (Family.STRONG, Family.WEAK, Family.UNKNOWN, Family.PERMISSIVE)
        return {family: tuple(each for each in software if each.licence.family is family) for family in order}


_LICENSED = (Kind.WHEEL, Kind.DISTRIBUTION, Kind.DEB, Kind.RUNTIME, Kind.INTERPRETER)


def take_inventory(materials: Materials, session: Session) -> Inventory:
    """List what an image holds. Its layers, or the wheels that they were made of, must be in the cache.

    Raises: `IntegrityError` where they are damaged or have gone.
    """
    with session.progress.task("Reading licences"):
        components = [
            *_wheels(materials, session),
            *base_packages(materials, session),
            *_weights(materials),
            _runtime(),
            _interpreter(materials),
            _base(materials.base),
        ]
    components.sort(key=lambda each: (list(Kind).index(each.kind), each.name, each.version))
    return Inventory(_image(materials), tuple(components), materials.timestamp)


def _image(materials: Materials) -> Component:
    qualifiers = {"arch": materials.image.platform.architecture, "tag": materials.tag}
    name = materials.name.rpartition("/")[2]
    return Component(
        kind=Kind.IMAGE,
        name=materials.name,
        version=materials.tag,
        purl=package_url("oci", name, materials.image.digest, qualifiers),
        sha256=materials.digest_hex,
        licence=NOT_STATED,
    )


def _wheels(materials: Materials, session: Session) -> Iterator[Component]:
    wheels = materials.lock.wheels
    licences = wheel_licences(wheels, materials.image, session)
    for wheel in wheels:
        yield Component(
            kind=Kind.WHEEL,
            name=wheel.name,
            version=wheel.version,
            purl=package_url("pypi", wheel.name, wheel.version),
            sha256=wheel.sha256,
            licence=licences[wheel.sha256],
            file=wheel.file,
        )


def _weights(materials: Materials) -> Iterator[Component]:
    for entry in materials.weights:
        yield Component(
            kind=Kind.WEIGHTS,
            name=entry.path,
            version="",
            purl=None,
            sha256=entry.digest.removeprefix("sha256:"),
            licence=NOT_STATED,
            file=entry.path,
        )


def _runtime() -> Component:
    return Component(
        kind=Kind.RUNTIME,
        name="lightship-runtime",
        version=__version__,
        purl=package_url("pypi", "lightship-runtime", __version__),
        sha256=None,
        licence=stated(RUNTIME_LICENCE, "pyproject.toml"),
    )


def _interpreter(materials: Materials) -> Component:
    version = materials.python_version
    return Component(
        kind=Kind.INTERPRETER,
        name="python",
        version=version,
        purl=package_url("generic", "python", version),
        sha256=None,
        licence=stated("Python-2.0", "the Python licence"),
        file=_interpreter_path(materials.base),
    )


def _interpreter_path(base: DebianLock | ImageLock) -> str:
    return base.interpreter_path if isinstance(base, DebianLock) else base.python_path


def _base(base: DebianLock | ImageLock) -> Component:
    """An assembled base is its packages; a published one is an image of its own."""
    if isinstance(base, DebianLock):
        number = RELEASES[base.codename].number
        return Component(Kind.BASE, "debian", number, None, None, NOT_STATED)
    name, purl = "base", None
    if not base.reference.startswith("oci:"):  # where a layout lies on this machine is nobody's business
        reference = Reference.parse(base.reference)
        name = reference.repository
        qualifiers = {"arch": base.architecture, "repository_url": reference.name, "tag": reference.tag or ""}
        purl = package_url("oci", name.rpartition("/")[2], base.manifest, qualifiers)
    return Component(Kind.BASE, name, "", purl, base.manifest.removeprefix("sha256:"), NOT_STATED)
