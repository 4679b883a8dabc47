"""The base from a registry or an OCI layout: somebody's published image, its layers kept as they are.

`lock_image` reads the image's documents, finds its Python and pins everything by digest; `build_image_base` makes a
base of that lock without any network. Layers are fetched only when somebody needs their bytes: to deliver the whole
image, or to run its Python (`Base.fetch`, `Interpreter.root`).

May import `oci`, `layers`, `cache`, `download`, `session` and `errors`; knows nothing of projects or plans.
"""

from lightship.bases.image.build import build_image_base
from lightship.bases.image.lock import ImageLock, LockedLayer, lock_image

__all__ = ["ImageLock", "LockedLayer", "build_image_base", "lock_image"]
