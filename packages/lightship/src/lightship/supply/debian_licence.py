"""The licences of a Debian package, from its copyright file in the machine-readable form (DEP-5).

Such a file speaks of the source package: a stanza for each group of its files, of which a binary package holds some.
All that is named counts, except what is for Debian's own packaging alone. A file in free text cannot be read by a
program; what it refers to in /usr/share/common-licenses is told, and the family is unknown.
"""

from __future__ import annotations

import re

from lightship.supply.families import Family, family_of
from lightship.supply.licence import NOT_STATED, Licence, one_line, spdx_expression

SOURCE = "copyright"
LARGEST_COPYRIGHT = 4 << 20  # bytes that are looked at; the largest of a base has 120 kB
_READ = ("format", "files", "license")
_MOST_NAMES = 200  # licences of one package
_FORMAT = re.compile(r"(?i)https?://[^\s]*(?:copyright-format|dep5)")
_REFERENCE = re.compile(r"/usr/share/common-licenses/([A-Za-z]+(?:-[0-9]+(?:\.[0-9]+)?)?)")
_OPERATOR = re.compile(r"(?i)\s+(and|or)\s+")
_GNU = re.compile(
    r"(?i)(?P<name>A?GPL|LGPL|GFDL)(?P<niv>-NIV)?-?(?P<version>[0-9](?:\.[0-9])?)(?:\.0)?(?P<later>\+)?"
)

# Debian's short names that are not SPDX's (copyright-format 1.0, "Short name"), and what is met besides.
_NAMES = {
    "expat": "MIT",
    "mit/x11": "MIT",
    "public-domain": "LicenseRef-Debian-public-domain",
    "pd": "LicenseRef-Debian-public-domain",
    "pd-debian": "LicenseRef-Debian-public-domain",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "bsd-4-clause-uc": "BSD-4-Clause-UC",
    "apache-2": "Apache-2.0",
    "mpl-2": "MPL-2.0",
    "psf-2": "PSF-2.0",
    "zlib/libpng": "Zlib",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
    "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
}


def debian_licence(copyright_file: bytes) -> Licence:
    """The licences that a copyright file names. Whatever the bytes are, the answer is a licence or `NOT_STATED`."""
    text = copyright_file[:LARGEST_COPYRIGHT].decode("utf-8", "replace")
    names = _stanzas(text)
    if names is None:
        referred = sorted(set(_REFERENCE.findall(text)))
        name = f"free text, refers to {', '.join(referred)}" if referred else "free text"
        return Licence(None, one_line(name), Family.UNKNOWN, SOURCE) if text.strip() else NOT_STATED
    expressions = [_expression(name) for name in names]
    parts = sorted({part for expression in expressions for part in _conjuncts(expression)}, key=str.lower)
    if not parts or len(parts) > _MOST_NAMES:
        return NOT_STATED
    whole = " AND ".join(f"({part})" if " OR " in part and len(parts) > 1 else part for part in parts)
    return Licence(whole, whole, family_of(whole), SOURCE)


def _conjuncts(expression: str) -> list[str]:
    return [expression] if "(" in expression or " OR " in expression else expression.split(" AND ")


def _stanzas(text: str) -> list[str] | None:
    """The licences' names of the stanzas about files; None where the file is not in the machine-readable form.

    Only the first line of each licence is kept: what follows is its text, which may be of any length.
    """
    names: dict[str, None] = {}
    for number, stanza in enumerate(re.split(r"\n[ \t]*\n", text)):
        fields = _fields(stanza)
        if number == 0 and not _FORMAT.match("".join(fields.get("format", ()))):
            return None
        files = " ".join(fields.get("files", ())).split()
        packaging = bool(files) and all(name.startswith("debian/") for name in files)
        if (number == 0 or files) and not packaging and (name := fields.get("license", [""])[0]):
            names[name] = None
    return list(names)


def _fields(stanza: str) -> dict[str, list[str]]:
    """The fields of a stanza that matter here, names in lower case, a value's lines apart."""
    fields: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in stanza.split("\n"):
        if line.startswith((" ", "\t")):
            if lines is not None:
                lines.append(line.strip())
        elif not line.startswith("#"):
            name, _, value = line.partition(":")
            lines = fields.setdefault(name.lower(), [value.strip()]) if name.lower() in _READ else None
    return fields


def _expression(name: str) -> str:
    """A stanza's `License` as an SPDX expression; names that SPDX lacks become references of their own.

    >>> _expression("GPL-2+ or Artistic")
    'GPL-2.0-or-later OR Artistic-1.0-Perl'
    >>> _expression("BSD-variant")
    'LicenseRef-Debian-BSD-variant'
    """
    if "," in name:  # changes which of the two words binds closer
        return _reference(name)
    parts = _OPERATOR.split(name)
    return " ".join(part.upper() if number % 2 else _short_name(part.strip()) for number, part in enumerate(parts))


def _short_name(name: str) -> str:
    base, with_, exception = name.partition(" with ")
    if gnu := _GNU.fullmatch(base):
        version = gnu["version"] if "." in gnu["version"] else f"{gnu['version']}.0"
        without = "-no-invariants" if gnu["niv"] else ""
        base = f"{gnu['name'].upper()}-{version}{without}-{'or-later' if gnu['later'] else 'only'}"
    else:
        base = _NAMES.get(base.lower(), base)
    if with_:
        spdx = {"openssl exception": "openvpn-openssl-exception"}.get(exception.strip().lower(), exception.strip())
        base = f"{base} WITH {spdx}"
    return spdx_expression(base) or _reference(name)


def _reference(name: str) -> str:
    return "LicenseRef-Debian-" + (re.sub(r"[^A-Za-z0-9.]+", "-", one_line(name)).strip("-.") or "unnamed")
