"""Whether this machine has a GPU that libraries will find, told without importing any of them."""

from __future__ import annotations

from pathlib import Path

# NVIDIA's control device, which its container toolkit passes into a container; AMD's compute device.
_DEVICES = ("dev/nvidiactl", "dev/kfd", "dev/dxg")


def gpu_is_there(root: Path = Path("/")) -> bool:
    """Whether one of the devices exists through which CUDA or ROCm reach a GPU."""
    return any((root / device).exists() for device in _DEVICES)
