"""The inventory as an SPDX 2.3 document (ISO/IEC 5962): JSON, canonical, the same for the same image."""

from __future__ import annotations

import re
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from lightship import __version__
from lightship.oci.image import canonical_json, digest_of
from lightship.supply.component import Component, Kind
from lightship.supply.inventory import Inventory

MEDIA_TYPE = "application/spdx+json"

_PURPOSES = {
    Kind.IMAGE: "CONTAINER",
    Kind.BASE: "OPERATING-SYSTEM",
    Kind.INTERPRETER: "APPLICATION",
    Kind.RUNTIME: "FRAMEWORK",
    Kind.WHEEL: "LIBRARY",
    Kind.DISTRIBUTION: "LIBRARY",
    Kind.DEB: "LIBRARY",
    Kind.WEIGHTS: "FILE",
}
_REFERENCE = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def spdx_document(inventory: Inventory) -> bytes:
    """The document. Its namespace is made of the image's digest and of what it says, its time is the image's.

    SPDX 2.3, 6.5 asks for a URI that is unique, not for one that is served: a UUID of the content (RFC 9562, 5.5)
    needs nobody's domain.
    """
    image = inventory.image
    parts = (image, *inventory.components)
    fields: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{image.name}:{image.version}",
        "creationInfo": {"created": inventory.timestamp, "creators": [f"Tool: lightship-{__version__}"]},
        "packages": [_package(each) for each in parts],
        "relationships": [
            _relationship("SPDXRef-DOCUMENT", "DESCRIBES", _identity(image)),
            *(_relationship(_identity(image), "CONTAINS", _identity(each)) for each in inventory.components),
        ],
    }
    if references := _references(parts):
        fields["hasExtractedLicensingInfos"] = references
    said = digest_of(canonical_json(fields)).removeprefix("sha256:")
    return canonical_json(fields | {"documentNamespace": uuid5(NAMESPACE_OID, f"{image.sha256}/{said}").urn})


def _identity(component: Component) -> str:
    return f"SPDXRef-{component.identity}"


def _relationship(element: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}


def _package(component: Component) -> dict[str, Any]:
    licence = component.licence
    fields: dict[str, Any] = {
        "SPDXID": _identity(component),
        "name": component.name,
        "downloadLocation": "NOASSERTION",  # a lock names no host
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence.expression or "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": _PURPOSES[component.kind],
    }
    if component.version:
        fields["versionInfo"] = component.version
    if component.file:
        fields["packageFileName"] = component.file
    if component.sha256:
        fields["checksums"] = [{"algorithm": "SHA256", "checksumValue": component.sha256}]
    if component.purl:
        fields["externalRefs"] = [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": component.purl,
            }
        ]
    if licence.name and not licence.expression:
        fields["licenseComments"] = f"{licence.source}: {licence.name}"
    return fields


def _references(components: tuple[Component, ...]) -> list[dict[str, str]]:
    """The licences that SPDX has no identifier for. Their texts are in the image, where the packages put them."""
    names = {name for each in components for name in _REFERENCE.findall(each.licence.expression or "")}
    return [
        {
            "licenseId": name,
            "name": name.removeprefix("LicenseRef-"),
            "extractedText": "The text is in the copyright file of each package that names this licence.",
        }
        for name in sorted(names)
    ]
