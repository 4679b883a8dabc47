"""What is left out of each wheel and how many bytes that saves, whether or not its layer is made now."""

from __future__ import annotations

from dataclasses import dataclass

from lightship.cache import Cache
from lightship.layers.environment import Environment
from lightship.layers.installed_wheel import InstalledWheel, LeftOut, WheelSource
from lightship.layers.layer import recipe_key
from lightship.layers.prune import BYTECODE, Level
from lightship.layers.prune import VERSION as PRUNE_VERSION
from lightship.layers.wheel_archive import WheelArchive

VERSION = 1
_KIND = "removed"


@dataclass(frozen=True)
class Removed:
    """What is left out of a distribution.

    Attributes:
        rules: By rule, how many files and bytes, unpacked and without their bytecode.
        whole: Nothing of the distribution is left; its files are not counted then.
    """

    name: str
    version: str
    rules: dict[str, tuple[int, int]]
    whole: bool = False

    @property
    def files(self) -> int:
        return sum(files for files, _ in self.rules.values())

    @property
    def size(self) -> int:
        return sum(size for _, size in self.rules.values())


def removed_from(wheel: WheelSource, environment: Environment, prune: Level, cache: Cache) -> Removed | None:
    """What a layer leaves out of this wheel; None where that is not known, because the wheel is not at hand."""
    record = cache.read_record(_KIND, _key(wheel, environment, prune))
    try:
        if record:
            rules = {str(name): (int(files), int(size)) for name, (files, size) in record["rules"].items()}
            return Removed(wheel.name, wheel.version, rules)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # written by something else; it is made anew
    if not cache.has_blob(f"sha256:{wheel.sha256}", wheel.size):
        return None
    with WheelArchive(wheel.path(), wheel.file_name) as archive:
        left_out = InstalledWheel(wheel, archive, environment, prune).left_out
    remember_removed(environment, prune, cache, wheel, left_out)
    return removed_from(wheel, environment, prune, cache)


def remember_removed(
    environment: Environment, prune: Level, cache: Cache, wheel: WheelSource, left_out: LeftOut
) -> None:
    """Write down what a layer leaves out of a wheel, for `removed_from`."""
    # Bytecode of the wheel is made anew, so that leaving it out saves nothing.
    rules = {rule: saved for rule, saved in sorted(left_out.items()) if rule != BYTECODE.name}
    cache.write_record(_KIND, _key(wheel, environment, prune), {"rules": rules})


def _key(wheel: WheelSource, environment: Environment, prune: Level) -> str:
    return recipe_key(_KIND, VERSION, wheel.identity, environment.version, prune, str(PRUNE_VERSION))
