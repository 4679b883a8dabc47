"""What a wheel says of its licence, in every way that people write it, and in ways that nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.supply.families import Family
from lightship.supply.licence import LONGEST_NAME, Licence
from lightship.supply.wheel_licence import wheel_licence

BSD_TEXT = b"License: Copyright (c) 2001 Somebody.\n        All rights reserved.\n"


@pytest.mark.parametrize(
    ("header", "expression", "name", "family"),
    [
        (b"License-Expression: mit\n", "MIT", "MIT", Family.PERMISSIVE),
        (b"License-Expression: MIT OR GPL-2.0-only\nLicense: x\n", *2 * ("MIT OR GPL-2.0-only",), Family.PERMISSIVE),
        (b"License: Apache License, Version 2.0\n", "Apache-2.0", "Apache-2.0", Family.PERMISSIVE),
        (b"License: 3-Clause BSD License\n", "BSD-3-Clause", "BSD-3-Clause", Family.PERMISSIVE),
        (b"License: BSD\n", None, "BSD", Family.PERMISSIVE),
        (b"License: LGPLv2\n", None, "LGPLv2", Family.WEAK),
        (b"License: Our own terms\n", None, "Our own terms", Family.UNKNOWN),
        (b"Classifier: License :: OSI Approved :: MIT License\n", "MIT", "MIT", Family.PERMISSIVE),
        (b"Classifier: License :: OSI Approved :: BSD License\n", None, "BSD License", Family.PERMISSIVE),
        (b"Classifier: License :: OSI Approved\n", None, "", Family.UNKNOWN),
        (BSD_TEXT + b"Classifier: License :: OSI Approved :: BSD License\n", None, "BSD License", Family.PERMISSIVE),
        (BSD_TEXT, None, "Copyright (c) 2001 Somebody.", Family.UNKNOWN),
        (b"License: MIT License\n        \n        Permission is hereby granted\n", "MIT", "MIT", Family.PERMISSIVE),
        (
            b"Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)\n"
            b"Classifier: License :: OSI Approved :: MIT License\n",
            None,
            "GNU General Public License v3 (GPLv3); MIT License",
            Family.STRONG,
        ),
        (b"License: UNKNOWN\n", None, "", Family.UNKNOWN),
        (b"License-Expression: as you like it\n", None, "as you like it", Family.UNKNOWN),
        (b"LICENSE: mit\r\n", "MIT", "MIT", Family.PERMISSIVE),
        (b"Name: x\n\nLicense: MIT\n", None, "", Family.UNKNOWN),  # behind the header is the description
    ],
)
def test_what_is_stated_is_told(header: bytes, expression: str | None, name: str, family: Family) -> None:
    found = wheel_licence(header)
    assert (found.expression, found.name, found.family) == (expression, name, family)


def is_presentable(licence: Licence) -> bool:
    return licence.name.isprintable() and (licence.expression is not None or len(licence.name) <= LONGEST_NAME)


@pytest.mark.parametrize(
    "header",
    [
        b"License: " + b"x" * (2 << 20),
        b"License: \x1b[2J\x1b]0;title\x07 evil\x00\n",
        b"License: \xff\xfe\xfa\n",
        b"License-Expression: " + b"(" * 100_000 + b"MIT" + b")" * 100_000,
        b"License-Expression: " + b"MIT AND " * 100_000 + b"MIT",
        b"License: x\n" + b" y\n" * 500_000,
        b"Classifier: License :: z\n" * 40_000,
        b":\n" * 500_000,
        "License: \u202egpl\u2066\n".encode(),
        b"\0" * 100_000,
    ],
)
def test_hostile_headers_give_words_that_can_be_shown(header: bytes) -> None:
    assert is_presentable(wheel_licence(header))


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda data: b"License-Expression: " + data))
def test_any_bytes_have_a_licence(data: bytes) -> None:
    assert is_presentable(wheel_licence(data))


@given(st.text(alphabet="()MITANDORWITH GPL-2.0only+", max_size=60))
def test_any_expression_has_a_family(text: str) -> None:
    found = wheel_licence(f"License-Expression: {text}\n".encode())
    assert isinstance(found.family, Family)
