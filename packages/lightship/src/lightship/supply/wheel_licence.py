"""The licence of a wheel, from the header of its METADATA: three fields that say it in three ways.

Core metadata specification: `License-Expression` (2.4) is SPDX; `License` is free text, from an identifier to the
whole wording; classifiers name a licence, some of them without its version. The clearest that is there counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lightship.supply.families import Family, family_of, heaviest
from lightship.supply.licence import NOT_STATED, Licence, one_line, spdx_expression, stated

MOST_HEADER = 1 << 20  # bytes of METADATA that are looked at; the largest headers, with a licence's text, have 100 kB
_CLASSIFIER = "License :: "
_READ = ("license-expression", "license", "classifier")

# What people write where they mean an identifier; keys are without case, punctuation and the word "license".
_SPELLINGS = {
    "mit": "MIT",
    "mitmit": "MIT",
    "expat": "MIT",
    "apache20": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apachev2": "Apache-2.0",
    "apachev20": "Apache-2.0",
    "apacheversion20": "Apache-2.0",
    "apachesoftware20": "Apache-2.0",
    "apachesoftwareversion20": "Apache-2.0",
    "asl20": "Apache-2.0",
    "bsd3": "BSD-3-Clause",
    "bsd3clause": "BSD-3-Clause",
    "3clausebsd": "BSD-3-Clause",
    "newbsd": "BSD-3-Clause",
    "modifiedbsd": "BSD-3-Clause",
    "revisedbsd": "BSD-3-Clause",
    "bsdnew": "BSD-3-Clause",
    "bsd2clause": "BSD-2-Clause",
    "2clausebsd": "BSD-2-Clause",
    "simplifiedbsd": "BSD-2-Clause",
    "isc": "ISC",
    "iscl": "ISC",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "pythonsoftwarefoundation": "PSF-2.0",
    "mpl20": "MPL-2.0",
    "mozillapublic20": "MPL-2.0",
    "zlib": "Zlib",
    "hpnd": "HPND",
    "unlicense": "Unlicense",
    "boostsoftware10": "BSL-1.0",
    "lgplv3": "LGPL-3.0-only",
    "lgplv3+": "LGPL-3.0-or-later",
    "lgplv21+": "LGPL-2.1-or-later",
    "gplv2": "GPL-2.0-only",
    "gplv2+": "GPL-2.0-or-later",
    "gplv3": "GPL-3.0-only",
    "gplv3+": "GPL-3.0-or-later",
    "agplv3": "AGPL-3.0-only",
    "agplv3+": "AGPL-3.0-or-later",
}

# Classifiers by their last part that mean one licence. Those of MIT-like families with several members do not.
_CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "zlib/libpng License": "Zlib",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
}

# What a name without a version still tells.
_FAMILIES = (
    (re.compile(r"(?i)lesser general public|library general public|\blgpl"), Family.WEAK),
    (re.compile(r"(?i)general public license|\ba?gpl"), Family.STRONG),
    (re.compile(r"(?i)mozilla public|eclipse public|common development and distribution|\bmpl\b"), Family.WEAK),
    (
        re.compile(
            r"(?i)\bmit\b|\bbsd\b|apache|\bisc\b|public domain|python software foundation|\bpsf\b|zope public"
            r"|academic free|artistic license 2|\bncsa\b|\bw3c\b"
        ),
        Family.PERMISSIVE,
    ),
)


def wheel_licence(metadata: bytes) -> Licence:
    """The licence that a METADATA file states. Whatever the bytes are, the answer is a licence or `NOT_STATED`."""
    fields = _fields(metadata)
    expressions = fields.get("license-expression", ["", ""])
    words = _words(fields.get("license", ()))
    names = _classifiers(fields.get("classifier", ()))
    if expression := spdx_expression(expressions[0]):
        return stated(expression, "License-Expression")
    if expression := spdx_expression(words) or _SPELLINGS.get(_key(words)):
        return stated(expression, "License")
    if len(names) == 1 and names[0] in _CLASSIFIERS:
        return stated(_CLASSIFIERS[names[0]], "classifier")
    if names:
        return Licence(None, one_line("; ".join(names)), heaviest([_family(name) for name in names]), "classifier")
    if words:
        return Licence(None, words, _family(words), "License")
    text = one_line(expressions[0])
    return Licence(None, text, Family.UNKNOWN, "License-Expression") if text else NOT_STATED


def _classifiers(values: Iterable[str]) -> list[str]:
    """The last parts of the classifiers about licences, each once; the bare "OSI Approved" says nothing."""
    parts = (
        value.removeprefix(_CLASSIFIER).rpartition(" :: ")[2] for value in values if value.startswith(_CLASSIFIER)
    )
    return [name for name in dict.fromkeys(map(one_line, parts)) if name not in ("", "OSI Approved")]


def _words(values: Iterable[str]) -> str:
    """The first line of a License field; UNKNOWN is what old tools write where there is nothing to say."""
    text = one_line("\n".join(values))
    return "" if text.upper() == "UNKNOWN" else text


def _key(words: str) -> str:
    """The words without what everybody writes differently.

    >>> _key("BSD 3-Clause License"), _key("The Apache License, Version 2.0")
    ('bsd3clause', 'apacheversion20')
    """
    return re.sub(r"\b(the|licen[sc]e)\b|[^a-z0-9+]", "", words.lower())


def _family(name: str) -> Family:
    if expression := _CLASSIFIERS.get(name):
        return family_of(expression)
    return next((family for pattern, family in _FAMILIES if pattern.search(name)), Family.UNKNOWN)


def _fields(metadata: bytes) -> dict[str, list[str]]:
    """The header's fields, names in lower case, each value with its continuation lines.

    Read by hand, because the email package takes seconds and much memory for headers that are made to cost them.
    """
    fields: dict[str, list[list[str]]] = {}
    lines: list[str] | None = None
    for line in metadata[:MOST_HEADER].decode("utf-8", "replace").split("\n"):
        if not line.strip("\r"):
            break
        if line[0] in " \t|":  # `|` begins the lines of setuptools' folding
            if lines is not None:
                lines.append(line.strip())
            continue
        name, colon, value = line.partition(":")
        lines = [value.strip()] if colon and name.strip().lower() in _READ else None
        if lines is not None:
            fields.setdefault(name.strip().lower(), []).append(lines)
    return {name: ["\n".join(value) for value in values] for name, values in fields.items()}
