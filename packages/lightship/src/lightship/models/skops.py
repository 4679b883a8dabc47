"""skops files: scikit-learn models as JSON and arrays in a zip. Loading one runs no code that is not trusted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lightship.models.damage import damaged
from lightship.models.distributions import distribution_of
from lightship.models.documents import MAX_DOCUMENT
from lightship.models.model import Format, Model, Opening, Package
from lightship.models.pickle_names import SAFE_CLASSES, SAFE_FUNCTIONS, SAFE_NAMES
from lightship.models.zip_archive import MAGIC, open_zip

SCHEMA = "schema.json"


@dataclass
class _Seen:
    """What the schema's objects told while they were parsed, innermost first."""

    types: dict[tuple[str, str], None] = field(default_factory=dict)
    sklearn_versions: Counter[str] = field(default_factory=Counter)
    skops_version: str | None = None
    features: str | None = None
    root: str | None = None

    def take(self, pairs: list[tuple[str, object]]) -> str | None:
        """One object of the document; gives its text, so that the whole is never held as Python objects."""
        entries = dict(pairs)
        if isinstance(version := entries.get("_sklearn_version"), str):
            self.sklearn_versions[version] += 1
        if isinstance(version := entries.get("_skops_version"), str):
            self.skops_version = version
        if isinstance(features := entries.get("n_features_in_"), str) and self.features is None:
            self.features = features
        module, name = entries.get("__module__"), entries.get("__class__")
        if isinstance(module, str) and isinstance(name, str):
            self.root = name
            if len(self.types) < 10_000:
                self.types[module, name] = None
        content = entries.get("content")
        return content.strip('"')[:100] if isinstance(content, str) else None


def _recognises(opening: Opening) -> bool:
    if not opening.head.startswith(MAGIC):
        return False
    with open_zip(opening.path) as archive:
        return SCHEMA in archive.names


def _read(path: Path) -> Model:
    seen = _Seen()
    with open_zip(path) as archive:
        if SCHEMA not in archive.names:
            raise damaged(path, f"it has no {SCHEMA}")
        try:
            json.loads(archive.read(SCHEMA, MAX_DOCUMENT), object_pairs_hook=seen.take)
        except (ValueError, RecursionError) as error:
            raise damaged(path, f"its {SCHEMA} is no JSON ({error})") from None
    if seen.skops_version is None:
        raise damaged(path, f"its {SCHEMA} does not tell the version of skops that wrote it")
    size = path.stat().st_size
    return Model(
        path=path,
        format="skops",
        engine="sklearn",
        size=size,
        dtype=None,
        files=(path,),
        packages=tuple(_packages(seen)),
        details=tuple(_details(seen)),
        notes=tuple(_notes(seen)),
    )


def _packages(seen: _Seen) -> list[Package]:
    packages = {"skops": Package("skops", None, f"reads the file, which skops {seen.skops_version} wrote")}
    for module, name in seen.types:
        distribution = distribution_of(module)
        if distribution and distribution not in packages:
            packages[distribution] = Package(distribution, None, f"the model holds a {module}.{name}")
    if seen.sklearn_versions:
        version = seen.sklearn_versions.most_common(1)[0][0]
        packages["scikit-learn"] = Package(
            "scikit-learn", version, f"the model was saved with scikit-learn {version}"
        )
    return [packages[name] for name in sorted(packages)]


def _details(seen: _Seen) -> list[tuple[str, str]]:
    details = [("object", seen.root or "unknown")]
    if seen.features:
        details.append(("features", seen.features))
    return details


def _notes(seen: _Seen) -> list[str]:
    """skops refuses types that it does not know unless they are named when loading."""
    texts = (f"{module}.{name}" for module, name in seen.types)
    own = sorted(
        text
        for text in texts
        if not (text in SAFE_NAMES or SAFE_CLASSES.fullmatch(text) or SAFE_FUNCTIONS.fullmatch(text))
        and distribution_of(text) not in {"scikit-learn", "numpy", "scipy", None}
    )
    return [f"skops will load these types only if they are named as trusted: {', '.join(own[:5])}"] if own else []


FORMAT = Format("skops", (".skops",), _recognises, _read)
