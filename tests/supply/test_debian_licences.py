"""What the copyright file of a Debian package says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.supply.debian_licence import debian_licence
from lightship.supply.families import Family, family_of

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


def of(*stanzas: str) -> bytes:
    return "\n".join([FORMAT, *(f"{stanza}\n" for stanza in stanzas)]).encode()


@pytest.mark.parametrize(
    ("stanzas", "expression", "family"),
    [
        (["Files: *\nLicense: Expat\n The text"], "MIT", Family.PERMISSIVE),
        (["Files: *\nLicense: GPL-2+"], "GPL-2.0-or-later", Family.STRONG),
        (["Files: *\nLicense: LGPL-2.1"], "LGPL-2.1-only", Family.WEAK),
        (["Files: *\nLicense: Apache-2.0", "Files: debian/*\nLicense: GPL-3"], "Apache-2.0", Family.PERMISSIVE),
        (
            ["Files: *\nLicense: ISC", "Files: debian/*\n doc/*\nLicense: GPL-3"],
            *("GPL-3.0-only AND ISC", Family.STRONG),
        ),
        (["Files: *\nLicense: MPL-1.1 or GPL-2+"], "MPL-1.1 OR GPL-2.0-or-later", Family.WEAK),
        (
            ["Files: *\nLicense: Zlib", "Files: a\nLicense: MIT or GPL-2"],
            "(MIT OR GPL-2.0-only) AND Zlib",
            Family.PERMISSIVE,
        ),
        (["Files: *\nLicense: public-domain"], "LicenseRef-Debian-public-domain", Family.PERMISSIVE),
        (["Files: *\nLicense: BSD-variant"], "LicenseRef-Debian-BSD-variant", Family.UNKNOWN),
        (["Files: *\nLicense: GFDL-NIV-1.3+"], "GFDL-1.3-no-invariants-or-later", Family.WEAK),
        (["Files: *\nLicense: A or B, and C"], "LicenseRef-Debian-A-or-B-and-C", Family.UNKNOWN),
        (["Files: *\nLicense:\n only a text"], None, Family.UNKNOWN),
        (["License: GPL-2\n a text that no file is under"], None, Family.UNKNOWN),
    ],
)
def test_stanzas_about_files_are_read(stanzas: list[str], expression: str | None, family: Family) -> None:
    found = debian_licence(of(*stanzas))
    assert (found.expression, found.family) == (expression, family)


def test_free_text_is_not_guessed_at() -> None:
    found = debian_licence(b"On Debian the text is in /usr/share/common-licenses/GPL-2. See LGPL as well.\n")
    assert (found.expression, found.family, found.name) == (None, Family.UNKNOWN, "free text, refers to GPL-2")
    assert debian_licence(b"").name == ""


@pytest.mark.parametrize(
    "content",
    [
        FORMAT.encode() + b"\nFiles: *\nLicense: " + b"x " * 1_000_000,
        FORMAT.encode() + b"\nFiles: *\nLicense: \x1b[2J\n" * 10_000,
        FORMAT.encode() + b"".join(b"\nFiles: *\nLicense: L%d\n" % number for number in range(10_000)),
        FORMAT.encode() + b"\n \n" * 500_000,
        b"/usr/share/common-licenses/" * 100_000,
        b"\xff" * 100_000,
    ],
)
def test_hostile_files_give_words_that_can_be_shown(content: bytes) -> None:
    assert debian_licence(content).name.isprintable()


@given(st.binary(max_size=300).map(lambda data: FORMAT.encode() + b"\nFiles: *\nLicense: " + data))
def test_any_name_makes_a_sound_expression(content: bytes) -> None:
    from packaging.licenses import canonicalize_license_expression

    if expression := debian_licence(content).expression:
        assert canonicalize_license_expression(expression)


@pytest.mark.parametrize(
    ("expression", "family"),
    [
        ("GPL-3.0-or-later WITH GCC-exception-3.1", Family.WEAK),
        ("GPL-2.0-only WITH Unheard-of-exception", Family.STRONG),
        ("MIT AND (GPL-2.0-only OR BSD-3-Clause)", Family.PERMISSIVE),
        ("MIT AND LicenseRef-own", Family.UNKNOWN),
        ("LicenseRef-own AND AGPL-3.0-only", Family.STRONG),
        ("LicenseRef-own OR AGPL-3.0-only", Family.UNKNOWN),
        ("LGPL-2.1+", Family.WEAK),
        ("MulanPSL-2.0 AND HDF5 AND Unicode-3.0", Family.PERMISSIVE),
        ("mplus", Family.UNKNOWN),  # begins like a licence that it is not
        ("(MIT", Family.UNKNOWN),
        ("MIT)", Family.UNKNOWN),
        ("", Family.UNKNOWN),
    ],
)
def test_families_of_expressions(expression: str, family: Family) -> None:
    assert family_of(expression) is family
