"""The inventory as a CycloneDX 1.6 document (ECMA-424): JSON, canonical, the same for the same image."""

from __future__ import annotations

import uuid
from typing import Any

from lightship import __version__
from lightship.oci.image import canonical_json, digest_of
from lightship.supply.component import Component, Kind
from lightship.supply.inventory import Inventory
from lightship.supply.licence import Licence

MEDIA_TYPE = "application/vnd.cyclonedx+json"

_TYPES = {
    Kind.IMAGE: "container",
    Kind.BASE: "operating-system",
    Kind.INTERPRETER: "platform",
    Kind.RUNTIME: "framework",
    Kind.WHEEL: "library",
    Kind.DISTRIBUTION: "library",
    Kind.DEB: "library",
    Kind.WEIGHTS: "machine-learning-model",
}


def cyclonedx_document(inventory: Inventory) -> bytes:
    """The document. Its serial number is made of what it says, the image's digest first; its time is the image's."""
    image = inventory.image
    fields: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": inventory.timestamp,
            "tools": {"components": [{"type": "application", "name": "lightship", "version": __version__}]},
            "component": _component(image),
        },
        "components": [_component(each) for each in inventory.components],
        "dependencies": [
            {"ref": image.identity, "dependsOn": sorted(each.identity for each in inventory.components)}
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{image.sha256} {digest_of(canonical_json(fields))}")
    return canonical_json(fields | {"serialNumber": f"urn:uuid:{serial}"})


def _component(component: Component) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": _TYPES[component.kind],
        "bom-ref": component.identity,
        "name": component.name,
        "properties": [{"name": "dev.lightship:kind", "value": component.kind}],
    }
    if component.version:
        fields["version"] = component.version
    if component.purl:
        fields["purl"] = component.purl
    if component.sha256:
        fields["hashes"] = [{"alg": "SHA-256", "content": component.sha256}]
    if component.file:
        fields["properties"].append({"name": "dev.lightship:file", "value": component.file})
    if licences := _licences(component.licence):
        fields["licenses"] = licences
    return fields


def _licences(licence: Licence) -> list[dict[str, Any]]:
    if licence.expression:
        return [{"expression": licence.expression, "acknowledgement": "declared"}]
    if licence.name:
        return [{"license": {"name": licence.name, "acknowledgement": "declared"}}]
    return []
