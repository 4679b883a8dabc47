"""The list of what refers to a manifest, as a registry makes it (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def referrers(manifests: Mapping[str, tuple[str, bytes]], subject: str) -> list[dict[str, Any]]:
    """The descriptors of all manifests whose subject has this digest, in the order of their digests.

    Args:
        manifests: Digest to media type and content.
    """
    found = []
    for digest, (media_type, content) in sorted(manifests.items()):
        manifest = json.loads(content)
        if manifest.get("subject", {}).get("digest") == subject:
            kind = manifest.get("artifactType") or manifest.get("config", {}).get("mediaType", "")
            entry = {"mediaType": media_type, "digest": digest, "size": len(content), "artifactType": kind}
            found.append(entry | ({"annotations": notes} if (notes := manifest.get("annotations")) else {}))
    return found
