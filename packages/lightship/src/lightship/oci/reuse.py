"""Layers of images that were pushed before, reused without their bytes: what a build machine has instead of a cache.

A pushed layer's annotations hold the key of its recipe, so that a build which would make the same layer knows its
digest and sizes from the manifest alone. Its bytes are fetched only where somebody reads them: a push to the same
registry finds them there, or takes them over from the other repository. What an image says of its layers is believed
as long as the command runs: name only images that you would run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from lightship.errors import IntegrityError, LightshipError, ProjectError
from lightship.layers import Compression, Layer
from lightship.layers.layer import COMPRESSION, LAYER_RECORDS, RECIPE, UNPACKED_SIZE, record_key
from lightship.oci.image import Platform
from lightship.oci.mirrored import registry_source
from lightship.oci.name import Reference
from lightship.oci.published import Descriptor, read_image
from lightship.session import Session

_PLAIN = "http://"  # before a place that the user lets us speak to without TLS


def adopt(
    references: Iterable[Reference], platforms: Sequence[Platform], session: Session, *, plain_http: bool = False
) -> int:
    """Let the layers of pushed images count as made, in this session's cache; how many there are.

    An image that is not there, or not for a platform, is no error: the first build has nothing to reuse.
    """
    count = 0
    for reference in references:
        place = f"{_PLAIN if plain_http else ''}{reference.registry}/{reference.repository}"
        for platform in platforms:
            try:
                published = read_image(registry_source(reference, session, plain_http=plain_http), platform)
            except (ProjectError, IntegrityError) as error:
                session.progress.note(f"Nothing of {reference} is reused for {platform}: {error.message}")
                continue
            except LightshipError as error:
                session.progress.note(f"Nothing of {reference} is reused: {error.message}")
                break
            for descriptor, diff_id in published.layers:
                count += _adopt_layer(descriptor, diff_id, place, session)
    return count


def _adopt_layer(descriptor: Descriptor, diff_id: str, place: str, session: Session) -> bool:
    annotations = dict(descriptor.annotations or {})
    recipe, compression = annotations.pop(RECIPE, ""), annotations.pop(COMPRESSION, "")
    unpacked_size = annotations.pop(UNPACKED_SIZE, "")
    if not recipe or not compression or not unpacked_size.isdecimal():
        return False
    record = {
        "digest": descriptor.digest,
        "diff_id": diff_id,
        "size": descriptor.size,
        "unpacked_size": int(unpacked_size),
        "media_type": descriptor.media_type,
        "annotations": annotations,
    }
    session.cache.adopt(LAYER_RECORDS, record_key(recipe, compression), record, descriptor.digest, place)
    return True


def place_of(layer: Layer, session: Session) -> Reference | None:
    """The repository that has a layer which is not here."""
    place = session.cache.elsewhere(layer.digest)
    return Reference.parse(place.removeprefix(_PLAIN)) if place else None


def bring(layers: Iterable[Layer], session: Session) -> None:
    """Fetch those layers that are not here, verified."""
    cache = session.cache
    absent = {each.digest: each for each in layers if not cache.has_blob(each.digest, each.size)}
    known = [(place, layer) for layer in absent.values() if (place := cache.elsewhere(layer.digest))]
    for place, group in groupby(sorted(known, key=lambda each: each[0]), key=lambda each: each[0]):
        reference = Reference.parse(place.removeprefix(_PLAIN))
        source = registry_source(reference, session, plain_http=place.startswith(_PLAIN))
        source.pull([Descriptor(_stored_type(layer), layer.digest, layer.size) for _, layer in group], session)


def _stored_type(layer: Layer) -> str:
    return Compression.of_media_type(layer.media_type).media_type
