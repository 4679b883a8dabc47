"""Running an image on this machine: one interface (`engine`), one file per engine, and the choice among them.

`docker` and `podman` call those programs (`client` is what they have in common); `embedded` needs no engine at all.
May import `oci`, `layers`, `cache`, `session`, `progress` and `errors`; knows nothing of projects, plans or bases.
"""

from lightship.run.choice import ENGINES, choose, engines
from lightship.run.engine import Container, Engine, RunOptions

__all__ = ["ENGINES", "Container", "Engine", "RunOptions", "choose", "engines"]
