"""Files as they are: a text, an image or a sound that is the whole body, or the parts of a form."""

from __future__ import annotations

from lightship_runtime.engines.engine import Signature
from lightship_runtime.payload.call import RequestError
from lightship_runtime.payload.media import MediaType, text_of
from lightship_runtime.payload.parsed import Content


def read_text(body: bytes, kind: MediaType, signature: Signature) -> Content:
    """The body as one text. Raises RequestError (415) where the model takes none."""
    if signature.kind not in ("text", "any"):
        raise RequestError("This model takes no text.", 415)
    return Content([text_of(body, kind)])


def read_file(body: bytes, kind: MediaType, signature: Signature) -> Content:
    """The body as one image or sound; the model's library looks at what it is. Raises RequestError (415)."""
    family = kind.name.partition("/")[0]
    if signature.kind not in ("image", "audio") or family not in (signature.kind, "application"):
        raise RequestError(f"This model takes no body of the type {family}/...", 415)
    return Content([body])
