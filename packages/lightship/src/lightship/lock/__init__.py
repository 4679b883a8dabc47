"""The lock: which wheels an image is made of, decided once, written down by hash, found again anywhere.

`requirements` finds what the user asks for; `resolve` has uv choose versions for the image's `Target` and picks one
wheel of each; `sources`, `named_sources` and `build_inputs` have what nobody offers as a wheel built by whoever can;
`file` reads, writes and compares `lightship.lock`; `fetch` brings the locked bytes into the cache; `pylock` speaks
PEP 751 with other tools. `index` hands the configuration of indexes (`named_indexes`) to uv, which `uv` runs as a
program, once more for each of several indexes (`several_indexes`), and `wheelhouse` folders of wheels, as pages. May
import `cache`, `file_digests`, `session`, `progress`, `download`, `transfer`, `transport` and `errors`; knows nothing
of plans, layers or bases.
"""

from lightship.lock.build_inputs import Builder
from lightship.lock.fetch import WheelsGoneError, fetch_wheels
from lightship.lock.file import (
    Inputs,
    Lock,
    LockedConversion,
    LockedWeights,
    LockedWheel,
    Prefetched,
    Pruned,
    differences,
    read_lock,
    stale_reasons,
    write_lock,
)
from lightship.lock.named_sources import local_places
from lightship.lock.pylock import write_pylock
from lightship.lock.requirements import (
    RequirementsSource,
    find_requirements,
    pins,
    proposed_requirements,
    requirements_input,
)
from lightship.lock.resolve import pinned_wheels, resolve
from lightship.lock.target import Target

__all__ = [
    "Builder",
    "Inputs",
    "Lock",
    "LockedConversion",
    "LockedWeights",
    "LockedWheel",
    "Prefetched",
    "Pruned",
    "RequirementsSource",
    "Target",
    "WheelsGoneError",
    "differences",
    "fetch_wheels",
    "find_requirements",
    "local_places",
    "pinned_wheels",
    "pins",
    "proposed_requirements",
    "read_lock",
    "requirements_input",
    "resolve",
    "stale_reasons",
    "write_lock",
    "write_pylock",
]
