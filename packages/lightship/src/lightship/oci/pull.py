"""An image out of a registry, byte for byte: its documents as they were published, its layers verified."""

from __future__ import annotations

from dataclasses import dataclass

from lightship.layers import Layer
from lightship.oci.image import MANIFEST_TYPE, Platform
from lightship.oci.mirrored import registry_source
from lightship.oci.name import Reference
from lightship.oci.published import PublishedImage, read_image
from lightship.session import Session


@dataclass(frozen=True)
class PulledImage:
    """An image as somebody published it, its layers in the cache. A `layout.Storable`."""

    reference: Reference
    platform: Platform
    published: PublishedImage

    @property
    def digest(self) -> str:
        return self.published.digest

    @property
    def manifest(self) -> bytes:
        return self.published.documents[0]

    @property
    def media_type(self) -> str:
        return self.published.manifest.media_type or MANIFEST_TYPE

    @property
    def documents(self) -> tuple[tuple[str, bytes], ...]:
        manifest, config = self.published.documents
        return ((self.digest, manifest), (self.published.manifest.config.digest, config))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers; what they hold and how large they are unpacked, only their content would tell."""
        return tuple(
            Layer(
                kind="layer",
                title=descriptor.digest,
                digest=descriptor.digest,
                diff_id=diff_id,
                size=descriptor.size,
                unpacked_size=0,
                media_type=descriptor.media_type,
                from_cache=True,
            )
            for descriptor, diff_id in self.published.layers
        )

    @property
    def size(self) -> int:
        """Bytes of the layers and documents as they are stored."""
        return sum(layer.size for layer in self.layers) + sum(len(content) for _, content in self.documents)


def pull_image(
    reference: Reference, session: Session, platform: Platform | None = None, *, plain_http: bool = False
) -> PulledImage:
    """Bring the image of a platform into the cache; layers that are there are not fetched.

    Args:
        platform: Which one of an index; this machine's by default.
        plain_http: Speak to this registry without TLS; this machine's own addresses need no such permission.

    Raises: `NetworkError`, `IntegrityError`, and `ProjectError` where there is no image for the platform.
    """
    platform = platform or Platform.of_this_machine()
    source = registry_source(reference, session, plain_http=plain_http)
    published = read_image(source, platform)
    source.pull(published.manifest.layers, session)
    return PulledImage(reference, platform, published)
