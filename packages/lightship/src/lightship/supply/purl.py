"""Package URLs, the names by which scanners know packages (ECMA-427): `pkg:type/namespace/name@version?key=value`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote


def package_url(
    kind: str, name: str, version: str, qualifiers: Mapping[str, str] | None = None, *, namespace: str = ""
) -> str:
    """A package URL; qualifiers that are empty are left away.

    >>> package_url("deb", "libstdc++6", "12.2.0-14+deb12u1", {"arch": "amd64"}, namespace="debian")
    'pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64'
    """
    path = "/".join(quote(part, safe="") for part in (*namespace.split("/"), name) if part)
    pairs = sorted((key, value) for key, value in (qualifiers or {}).items() if value)
    query = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in pairs)
    return f"pkg:{kind}/{path}@{quote(version, safe=':')}" + (f"?{query}" if query else "")
