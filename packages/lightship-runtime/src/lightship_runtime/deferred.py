"""Modules that are imported when something of them is used, though libraries import them at their top.

scikit-learn imports all of scipy.stats, a third of its own import time, for functions that no prediction calls.
While `deferring` is on, such a module is stood in for: `from scipy.stats import rankdata` gives a name that imports
the real module when it is called, subclassed, compared with isinstance or asked for anything. A submodule that
somebody imports brings the real package at once. What a stand-in cannot imitate raises; the caller then calls
`resolve` and tries again, with every stand-in being the real thing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class Deferral(MetaPathFinder, Loader):
    """Stands in for the modules that are named, until `resolve` or until they are used."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._standing: dict[str, _Module] = {}
        self._loading: set[str] = set()

    @property
    def pending(self) -> list[str]:
        """The modules that were asked for and have not been imported yet."""
        return sorted(name for name, module in self._standing.items() if module.__dict__["_real"] is None)

    def resolve(self) -> None:
        """Import whatever is pending, and stand in for nothing any more."""
        self._names.clear()
        for module in list(self._standing.values()):
            real(module)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """For the import system: a stand-in for a module that is named, nothing for others."""
        if fullname in self._names:
            return ModuleSpec(fullname, self, is_package=True)
        above = fullname.rpartition(".")[0]
        while above:
            standing = self._standing.get(above)
            if (
                standing is not None
                and above not in self._loading
                and (standing.__dict__["_real"] is None or fullname in sys.modules)
            ):
                package = real(standing)  # a submodule needs the real package around it
                if fullname in sys.modules:  # which may have imported it
                    return ModuleSpec(fullname, _Imported(sys.modules[fullname]))
                return PathFinder.find_spec(fullname, package.__path__)
            above = above.rpartition(".")[0]
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Module(spec.name)
        module.__dict__["_deferral"] = self
        self._standing[spec.name] = module
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = []

    def load(self, name: str) -> ModuleType:
        """Import the real module in its stand-in's place."""
        self._names.discard(name)
        if isinstance(sys.modules.get(name), _Module):
            del sys.modules[name]
        self._loading.add(name)  # the real package's own submodules are nobody's business here
        try:
            return importlib.import_module(name)
        finally:
            self._loading.discard(name)


class _Imported(Loader):
    """Gives the import system a module that was imported while it was looking for it."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Module(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__dict__["_real"] = None

    def __getattr__(self, name: str) -> Any:
        if self.__dict__["_real"] is not None:
            return getattr(self.__dict__["_real"], name)
        if name.startswith("__"):  # what the import system itself looks for
            raise AttributeError(name)
        return _Name(self, name)


class _Name:
    """Something of a module that is not imported yet."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: _Module, name: str) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_name", name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return meant(self)(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(meant(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(meant(self), name, value)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, meant(self))

    def __subclasscheck__(self, subclass: Any) -> bool:
        return issubclass(subclass, meant(self))

    def __mro_entries__(self, bases: Any) -> tuple[Any, ...]:
        return (meant(self),)

    def __reduce__(self) -> Any:
        return (_named, (self._module.__name__, self._name))


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def meant(name: Any) -> Any:
    """What a stand-in for a name means, once its module is imported."""
    return getattr(real(object.__getattribute__(name, "_module")), object.__getattribute__(name, "_name"))


def real(module: Any) -> Any:
    """The real module of a stand-in, imported now if it has not been."""
    found = module.__dict__["_real"]
    if found is None:
        found = module.__dict__["_real"] = module.__dict__["_deferral"].load(module.__name__)
    return found


@contextmanager
def deferring(names: Sequence[str]) -> Iterator[Deferral]:
    """Stand in for the modules `names`, as far as they are not imported yet, while libraries are imported."""
    deferral = Deferral([name for name in names if name not in sys.modules])
    sys.meta_path.insert(0, deferral)
    try:
        yield deferral
    finally:
        deferral._names.clear()  # later imports get the real modules; what was handed out imports when it is used
        sys.meta_path.remove(deferral)
        if deferral.pending:
            sys.meta_path.append(deferral)  # for submodules of what is still stood in for
