"""Images from clients: opened with bounds, in the few formats that are meant."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from lightship_runtime.engines.engine import BadInstances

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # of one image; a phone's camera has 12 to 50 million, decoded they are 150 MB


def open_images(contents: Sequence[Any]) -> list[Any]:
    """Pillow's images in RGB, turned as their camera was held. Raises BadInstances."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    images = []
    for number, content in enumerate(contents, 1):
        if not isinstance(content, bytes):
            raise BadInstances(f"Instance {number} must be an image file.")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadInstances(f"Image {number} has more than {MAX_PIXELS:,} pixels.")
                images.append(ImageOps.exif_transpose(image).convert("RGB"))
        except BadInstances:
            raise
        except (UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise BadInstances(f"Image {number} is none of {', '.join(FORMATS)}, or too large.") from error
        except (OSError, ValueError, SyntaxError, IndexError, EOFError) as error:  # what Pillow raises for damage
            raise BadInstances(f"Image {number} is damaged.") from error
    return images
