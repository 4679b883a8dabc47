"""For tests of what talks to a registry: one in memory, on loopback, that fails as often and in the ways it is told.

`MemoryRegistry` speaks the distribution specification as far as clients of images use it; `Faults` says what goes
wrong. It imports nothing of Lightship and nothing but the standard library.

    with MemoryRegistry(faults=Faults(rate=0.2, seed=1)) as registry:
        push_image(image, Reference.parse(f"{registry.address}/iris:1"), session)
"""

from lightship.testing.faults import Fault, Faults
from lightship.testing.messages import Answer, Request
from lightship.testing.registry import MemoryRegistry

__all__ = ["Answer", "Fault", "Faults", "MemoryRegistry", "Request"]
