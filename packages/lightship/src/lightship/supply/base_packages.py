"""The packages of a base: those of the lock, or those whose records a published base holds, with their licences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lightship.bases.debian import DebianLock
from lightship.releases import RELEASES
from lightship.session import Session
from lightship.supply.component import Component, Kind
from lightship.supply.debian_licence import debian_licence
from lightship.supply.image_files import ImageFiles, read_image_files
from lightship.supply.materials import Materials
from lightship.supply.purl import package_url
from lightship.supply.wheel_licence import wheel_licence

_FIELD = re.compile(r"^(Package|Status|Version|Architecture|Source):[ \t]*(\S[^\n]*)$", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,200}")
_VERSION = re.compile(r"[0-9A-Za-z.+:~-]{1,200}")
_SOURCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9+.-]{1,200})(?: \((?P<version>[0-9A-Za-z.+:~-]{1,200})\))?")
_OS_RELEASE = re.compile(r"^(ID|VERSION_ID)=[\"']?([a-z0-9._-]{1,40})[\"']?[ \t]*$", re.MULTILINE)
_DISTRIBUTION = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._]{0,200})-(?P<version>[0-9A-Za-z.+!]{1,200})\.dist-info")


def base_packages(materials: Materials, session: Session) -> Iterator[Component]:
    """Every Debian package of the base; of a published base its Python distributions as well.

    Scanners match Debian's advisories by source package, which the package's own record names.
    """
    layers = [layer for layer in materials.image.layers if layer.kind == "base"]
    if any(session.cache.elsewhere(layer.digest) for layer in layers):
        from lightship.oci.reuse import bring  # brings HTTP; a push leaves a published base where it is

        bring(layers, session)
    files = read_image_files(layers, session.cache)
    records = _records(files)
    base = materials.base
    if isinstance(base, DebianLock):
        system = ("debian", RELEASES[base.codename].number)
        for package in base.packages:
            yield Component(
                kind=Kind.DEB,
                name=package.name,
                version=package.version,
                purl=_purl(package.name, package.version, package.architecture, records.get(package.name), system),
                sha256=package.sha256,
                licence=debian_licence(files.copyright_of(package.name)),
                file=package.path.rpartition("/")[2],
            )
        return
    system = _system(files)
    for name, record in sorted(records.items()):
        version, architecture = record.get("Version", ""), record.get("Architecture", "")
        if _VERSION.fullmatch(version):
            purl = _purl(name, version, architecture, record, system)
            yield Component(Kind.DEB, name, version, purl, None, debian_licence(files.copyright_of(name)))
    yield from _distributions(files)


def _distributions(files: ImageFiles) -> Iterator[Component]:
    from packaging.utils import canonicalize_name

    seen = set()
    for path, content in sorted(files.contents.items()):
        folder = path.split("/")[-2]  # of the rest of the path nobody knows what it is made of
        found = _DISTRIBUTION.fullmatch(folder) if path.endswith("/METADATA") else None
        if found and (key := (canonicalize_name(found["name"]), found["version"])) not in seen:
            seen.add(key)
            name, version = key
            purl = package_url("pypi", name, version)
            yield Component(Kind.DISTRIBUTION, name, version, purl, None, wheel_licence(content), folder)


def _records(files: ImageFiles) -> dict[str, Mapping[str, str]]:
    """What dpkg noted of each installed package, by name."""
    records: dict[str, Mapping[str, str]] = {}
    for path, content in sorted(files.contents.items()):
        if not path.startswith("var/lib/dpkg/"):
            continue
        for stanza in content.decode("utf-8", "replace").split("\n\n"):
            fields = dict(_FIELD.findall(stanza))
            installed = fields.get("Status", "install ok installed").endswith(" installed")
            if installed and _NAME.fullmatch(name := fields.get("Package", "")):
                records[name] = fields
    return records


def _system(files: ImageFiles) -> tuple[str, str]:
    """Which distribution a base says that it is, and which version (os-release(5)); Debian where it does not."""
    contents = files.contents
    text = contents.get("etc/os-release") or contents.get("usr/lib/os-release") or b""
    fields = dict(_OS_RELEASE.findall(text.decode("utf-8", "replace")))
    return fields.get("ID", "debian"), fields.get("VERSION_ID", "")


def _purl(
    name: str, version: str, architecture: str, record: Mapping[str, str] | None, system: tuple[str, str]
) -> str:
    source = _SOURCE.fullmatch((record or {}).get("Source", "").strip())
    upstream = ""
    if source:
        upstream = f"{source['name']}@{source['version']}" if source["version"] else source["name"]
    qualifiers = {"arch": architecture, "distro": "-".join(filter(None, system)), "upstream": upstream}
    return package_url("deb", name, version, qualifiers, namespace=system[0])
