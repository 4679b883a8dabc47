"""What tests need of the machine: where it is missing they are skipped, and say so; in CI they fail."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI") == "true"


def absent(reason: str) -> NoReturn:
    """Skip the test for want of a part of the machine; in CI every part must be there."""
    if IN_CI:
        pytest.fail(f"{reason}, but in CI it must be")
    pytest.skip(reason)
