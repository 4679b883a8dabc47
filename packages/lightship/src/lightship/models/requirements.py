"""From what a model needs to requirements, and to warnings about pins that do not fit it."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from lightship.models.model import Model, Package


def propose_requirements(model: Model) -> tuple[str, ...]:
    """Requirement lines for a project that has none: `scikit-learn==1.7.2`, `numpy>=1.26`, `joblib`.

    A package is pinned where the model tells the version that it was saved with; where it tells only `2.1`, to
    `~=2.1.0`.
    """
    return tuple(_line(package) for package in model.packages)


def _line(package: Package) -> str:
    if version := _version(package.version):
        exact = len(version.release) > 2
        return f"{package.name}=={version}" if exact else f"{package.name}~={version}.0"
    return f"{package.name}>={package.minimum}" if package.minimum else package.name


def compare(model: Model, pins: Mapping[str, str]) -> tuple[str, ...]:
    """Warnings where a pinned version does not fit the model.

    Args:
        model: What was detected.
        pins: Versions by distribution name, in any spelling: `{"scikit-learn": "1.6.1"}`.

    Returns:
        One sentence for each package that does not fit. scikit-learn promises nothing for models that another
        minor version saved; other packages read what their older versions wrote, but not what newer ones did.
    """
    normal = {canonicalize_name(name): version for name, version in pins.items()}
    messages = []
    for package in model.packages:
        pinned = normal.get(canonicalize_name(package.name))
        if pinned is not None and (message := _difference(package, pinned)):
            messages.append(message)
    return tuple(messages)


def _difference(package: Package, pin: str) -> str | None:
    name, pinned = package.name, _version(pin)
    saved, minimum = _version(package.version), _version(package.minimum)
    if pinned is None:
        return None
    if minimum and pinned < minimum:
        return (
            f"{name} is pinned to {pin}, but the model needs {package.minimum} or newer ({package.reason}): "
            f"pin {name}>={package.minimum}"
        )
    if saved is None:
        return None
    if name == "scikit-learn":
        if pinned.release[:2] != saved.release[:2]:
            return (
                f"the model was saved with scikit-learn {package.version}, but {pin} is pinned: other versions may "
                f"fail to load it or silently predict something else; pin scikit-learn=={package.version}, "
                f"or train and save it again with {pin}"
            )
    elif pinned.release[:2] < saved.release[:2]:
        return (
            f"{name} is pinned to {pin}, which is older than the {package.version} that saved the model; "
            f"pin {name}>={package.version}"
        )
    return None


def _version(text: str | None) -> Version | None:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None
