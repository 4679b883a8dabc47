"""Bases: what an image is built upon, as one value (`Base`), whichever way it was made.

`debian` assembles one from signed packages; `image` takes one from a registry or an OCI layout. Each has a lock of
its own and a function that makes a base of it; import those from the two rooms, which load what they need. May import
`oci`, `layers`, `cache`, `download`, `session`, `progress`, `releases` and `errors`; knows nothing of projects or
plans.
"""

from lightship.bases.base import Base, Interpreter

__all__ = ["Base", "Interpreter"]
