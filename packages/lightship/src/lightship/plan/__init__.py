"""Plans: pure functions from a `Project` to `Decision`s with their reasons, one file per decision.

May import `project`, `models`, the requirements half of `lock` and what a lock says of
a conversion, `releases`, `quantities`, `errors` and the names of
the runtime's engines; touches no network and writes nothing.
"""

from lightship.plan.base import BaseChoice
from lightship.plan.decision import Decision
from lightship.plan.generation import FIRST_TEXT, Generation
from lightship.plan.memory import Quantization
from lightship.plan.optimize import Conversion
from lightship.plan.plan import USER, Plan, make_plan
from lightship.plan.server import Server
from lightship.quantities import human_size

__all__ = [
    "FIRST_TEXT",
    "USER",
    "BaseChoice",
    "Conversion",
    "Decision",
    "Generation",
    "Plan",
    "Quantization",
    "Server",
    "human_size",
    "make_plan",
]
