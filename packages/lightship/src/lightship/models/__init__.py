"""Models: what a file or folder is, known without loading it.

One file per format, each with a `FORMAT`; `registry` lists them, `detection` asks them, `finding` looks for the one
model of a project. Everything is read with bounds and nothing is ever unpickled or imported. Of the builder's other
parts it may import `errors` alone, and of the runtime the names of its engines.
"""

from lightship.models.detection import detect
from lightship.models.finding import find
from lightship.models.language import Language
from lightship.models.model import Model, Package, PickleVerdict, Tensor
from lightship.models.requirements import compare, propose_requirements

__all__ = [
    "Language",
    "Model",
    "Package",
    "PickleVerdict",
    "Tensor",
    "compare",
    "detect",
    "find",
    "propose_requirements",
]
