"""Artifacts: small documents in a registry that are about an image, or stand for themselves (image-spec 1.1).

An artifact is a manifest whose `layers` are the documents, whose `artifactType` says what they are, and whose
`subject` is the image that they are about. Bills of materials and provenance have the empty config; a signature may
bring a config of its own and annotations on its documents, and may be put under a tag: all is a value here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lightship.oci.image import MANIFEST_TYPE, Built, canonical_json, digest_of
from lightship.oci.published import Descriptor

Annotations = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Content:
    """A document of an artifact; it is small, and whole in memory. Annotations go to its descriptor."""

    media_type: str
    data: bytes
    annotations: Annotations = ()

    @cached_property
    def digest(self) -> str:
        return digest_of(self.data)

    @property
    def descriptor(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        fields: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return fields

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.data)


EMPTY = Content(
    "application/vnd.oci.empty.v1+json", b"{}"
)  # image-spec manifest.md, "Guidance for an Empty Descriptor"


@dataclass(frozen=True)
class Artifact:
    """A manifest and its documents.

    Attributes:
        artifact_type: A media type that says what the artifact is; it must be there with the empty config.
        contents: Its documents, one at least.
        subject: The manifest that it is about; None for an artifact that is found by a tag alone.
        annotations: Of the manifest; registries show them in their lists of referrers.
    """

    artifact_type: str
    contents: tuple[Content, ...]
    subject: Descriptor | None = None
    annotations: Annotations = ()
    config: Content = EMPTY

    @property
    def media_type(self) -> str:
        """Of the manifest."""
        return MANIFEST_TYPE

    @cached_property
    def manifest(self) -> bytes:
        """The manifest as canonical JSON; equal artifacts have equal digests."""
        fields: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": self.artifact_type,
            "config": self.config.descriptor,
            "layers": [content.descriptor for content in self.contents],
        }
        if self.subject:
            fields["subject"] = {
                "mediaType": self.subject.media_type,
                "digest": self.subject.digest,
                "size": self.subject.size,
            }
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return canonical_json(fields)

    @cached_property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> dict[str, Any]:
        """As it stands in a list of referrers (distribution-spec, "Listing Referrers")."""
        fields: dict[str, Any] = {
            "mediaType": MANIFEST_TYPE,
            "digest": self.digest,
            "size": len(self.manifest),
            "artifactType": self.artifact_type,
        }
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return fields

    @property
    def blobs(self) -> tuple[Content, ...]:
        """What must be in the repository before the manifest: the config and the documents, each once."""
        return tuple({content.digest: content for content in (self.config, *self.contents)}.values())


def subject_of(image: Built) -> Descriptor:
    """What an artifact about an image, or about an index of images, names."""
    return Descriptor(image.media_type, image.digest, len(image.manifest))
