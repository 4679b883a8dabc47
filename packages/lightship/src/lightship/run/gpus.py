"""GPUs for containers: an image that asks for NVIDIA's gets them from the engine, where this machine has some.

It asks with the variable that NVIDIA's container toolkit reads, which images for GPUs have.
"""

from __future__ import annotations

from pathlib import Path

from lightship.oci.image import Image

VARIABLE = "NVIDIA_VISIBLE_DEVICES"
_DEVICE = "dev/nvidiactl"  # which its driver makes, and the toolkit passes on
_NONE = ("", "void", "none")  # what the toolkit takes for no GPU


def takes_gpus(image: Image, root: Path = Path("/")) -> bool:
    """Whether a container of this image is given the GPUs of this machine."""
    return dict(image.settings.environment).get(VARIABLE, "") not in _NONE and (root / _DEVICE).exists()
