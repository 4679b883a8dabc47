"""From the packages that are asked for to all that they need: Pre-Depends, Depends, alternatives, Provides.

Of several suites the highest version counts, as for apt with equal pins. Recommends are not followed. Of a group of
alternatives the first counts that is chosen already, else the first that can be had, as apt would on an empty system.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from lightship.bases.debian.control import Relation
from lightship.bases.debian.index import Package, PackageIndex
from lightship.bases.debian.version import version_key
from lightship.errors import LockError

_PRIORITIES = ("required", "important", "standard", "optional", "extra")


def resolve(
    wanted: Sequence[str],
    indexes: Sequence[PackageIndex],
    architecture: str,
    omitted: Mapping[tuple[str, str], str],
) -> tuple[Package, ...]:
    """The closure of `wanted`, sorted by name.

    Args:
        omitted: Dependencies that are not followed, by (package or `*`, what it asks for).

    Raises: `LockError` for a package that does not exist, a dependency that cannot be met, or packages that exclude
        each other.
    """
    closure = _Closure(indexes, architecture, omitted)
    for name in wanted:
        closure.add_wanted(name)
    closure.follow()
    closure.check_conflicts()
    return tuple(sorted(closure.chosen.values(), key=lambda package: package.name))


class _Closure:
    def __init__(
        self, indexes: Sequence[PackageIndex], architecture: str, omitted: Mapping[tuple[str, str], str]
    ) -> None:
        self._indexes = indexes
        self._architectures = (architecture, "all")
        self._omitted = omitted
        self._candidates: dict[str, Package | None] = {}
        self._because: dict[str, str] = {}
        self._pending: deque[Package] = deque()
        self.chosen: dict[str, Package] = {}

    def add_wanted(self, name: str) -> None:
        package = self._candidate(name)
        if package is None:
            package = self._provider(Relation(name))
        if package is None:
            raise self._unknown(name)
        self._choose(package, "it was asked for")

    def follow(self) -> None:
        while self._pending:
            package = self._pending.popleft()
            for group in package.dependencies:
                if any(key in self._omitted for one in group for key in (("*", one.name), (package.name, one.name))):
                    continue
                if any(self._met(relation) for relation in group):
                    continue
                found = next((found for one in group if (found := self._best(one)) is not None), None)
                if found is None:
                    raise self._unmet(package, group)
                self._choose(found, f"{package.name} needs it")

    def check_conflicts(self) -> None:
        for package in self.chosen.values():
            for relation in package.conflicts:
                for other in self.chosen.values():
                    if other is not package and _is(other, relation):
                        raise LockError(
                            f"The Debian packages {package.name} {package.version} ({self._why(package)}) and "
                            f"{other.name} {other.version} ({self._why(other)}) exclude each other.",
                            hint="Leave one of them out of `packages` under [base].",
                        )

    def _choose(self, package: Package, because: str) -> None:
        if package.name not in self.chosen:
            self.chosen[package.name] = package
            self._because[package.name] = because
            self._pending.append(package)

    def _met(self, relation: Relation) -> bool:
        return any(_is(package, relation) for package in self.chosen.values())

    def _best(self, relation: Relation) -> Package | None:
        package = self._candidate(relation.name)
        if package is not None and relation.admits(package.version):
            return package
        return self._provider(relation)

    def _candidate(self, name: str) -> Package | None:
        """The highest version of a package that any suite has."""
        if name not in self._candidates:
            found = self._suitable(package for index in self._indexes for package in index.named(name))
            self._candidates[name] = max(found, key=lambda package: version_key(package.version), default=None)
        return self._candidates[name]

    def _provider(self, relation: Relation) -> Package | None:
        """The most important package that provides what is asked for; the first by name among equals."""
        found = self._suitable(package for index in self._indexes for package in index.providers(relation.name))
        newest = (package for package in found if package == self._candidate(package.name))
        fitting = (package for package in newest if _is(package, relation))
        return min(fitting, key=lambda package: (_rank(package.priority), package.name), default=None)

    def _suitable(self, packages: Iterable[Package]) -> list[Package]:
        return [package for package in packages if package.architecture in self._architectures]

    def _why(self, package: Package) -> str:
        return self._because[package.name]

    def _unknown(self, name: str) -> LockError:
        import difflib

        names = {known for index in self._indexes for known in index.names()}
        close = difflib.get_close_matches(name, names, 3)
        meant = f" Did you mean {' or '.join(close)}?" if close else ""
        return LockError(
            f"There is no Debian package {name!r} for {self._architectures[0]} in this release.{meant}",
            hint="Mend `packages` under [base].",
        )

    def _unmet(self, package: Package, group: Sequence[Relation]) -> LockError:
        wanted = " or ".join(str(relation) for relation in group)
        there = [f"{one.name} is {found.version}" for one in group if (found := self._candidate(one.name))]
        state = f" ({'; '.join(there)})" if there else ""
        return LockError(
            f"The Debian package {package.name} {package.version} ({self._why(package)}) needs {wanted}, which the "
            f"mirror does not offer{state}.",
            hint="The mirror may be in the middle of an update: try again in a while, or use another.",
        )


def _is(package: Package, relation: Relation) -> bool:
    """Whether the package is, or provides, what the relation names. A plain Provides meets no versioned relation."""
    if package.name == relation.name and relation.admits(package.version):
        return True
    return any(
        given.name == relation.name and (not relation.operator or (given.version and relation.admits(given.version)))
        for given in package.provides
    )


def _rank(priority: str) -> int:
    return _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)
