"""The base assembled from Debian's signed packages: no root, no dpkg, no maintainer scripts, one layer.

`newest.lock_debian` resolves the packages of a Python runtime over the network, trusting nothing but a signature:
`mirrors`, `signature`, `release`, `index`, `resolver`, each over `control` and `version`; `runtime` says what a
Python runtime is made of. `build_debian` turns a lock into a base: `deb` (over `streams`) reads the packages,
`unpack` places them in a `filesystem`, `configure` (with `alternatives` and `libraries`) does what their scripts
would have done, `stdlib` compiles the standard library, and `recipe` makes it all one layer.

May import `layers`, `cache`, `download`, `session`, `progress`, `releases` and `errors`; knows nothing of projects or
plans.
"""

from lightship.bases.debian.build import build_debian
from lightship.bases.debian.lock import DebianLock, LockedDeb, differences

__all__ = ["DebianLock", "LockedDeb", "build_debian", "differences"]
