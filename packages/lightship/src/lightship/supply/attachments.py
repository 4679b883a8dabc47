"""Documents about an image as artifacts, which `oci.referrers` attaches to it in a registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from lightship.errors import ProjectError
from lightship.oci.artifact import Artifact, Content, subject_of
from lightship.session import Session
from lightship.supply import cyclonedx, provenance, spdx
from lightship.supply.inventory import Inventory, take_inventory
from lightship.supply.materials import Materials

KINDS = ("sbom", "spdx", "cyclonedx", "provenance")
CREATED = "org.opencontainers.image.created"  # image-spec annotations.md
PREDICATE = "in-toto.io/predicate-type"  # what BuildKit and in-toto's readers look for beside a statement


def chosen_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds, each once and by its own name: `sbom` is the SPDX document.

    Raises: `ProjectError` for an unknown kind.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ProjectError(
            f"{', '.join(map(repr, unknown))}: there is nothing of that name to attach.",
            hint=f"Choose of {', '.join(KINDS)}, with commas between.",
        )
    return tuple(dict.fromkeys("spdx" if kind == "sbom" else kind for kind in kinds))


def attachments(kinds: Sequence[str], materials: Materials, session: Session) -> tuple[Artifact, ...]:
    """The artifacts of these kinds, each once.

    Raises: as `chosen_kinds` and `take_inventory`.
    """

    @cache
    def inventory() -> Inventory:
        return take_inventory(materials, session)

    makers: dict[str, Callable[[], Artifact]] = {
        "spdx": lambda: _artifact(materials, spdx.MEDIA_TYPE, spdx.spdx_document(inventory())),
        "cyclonedx": lambda: _artifact(materials, cyclonedx.MEDIA_TYPE, cyclonedx.cyclonedx_document(inventory())),
        "provenance": lambda: _artifact(
            materials,
            provenance.MEDIA_TYPE,
            provenance.provenance_statement(materials),
            ((PREDICATE, provenance.PREDICATE_TYPE),),
        ),
    }
    return tuple(makers[kind]() for kind in chosen_kinds(kinds))


def _artifact(
    materials: Materials, media_type: str, document: bytes, annotations: tuple[tuple[str, str], ...] = ()
) -> Artifact:
    return Artifact(
        artifact_type=media_type,
        contents=(Content(media_type, document, annotations),),
        subject=subject_of(materials.image),
        annotations=((CREATED, materials.timestamp), *annotations),
    )
