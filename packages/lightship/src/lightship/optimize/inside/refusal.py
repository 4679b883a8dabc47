"""Why a model is not converted, in words for the user."""

from __future__ import annotations


class Refusal(Exception):
    """The model stays as it is: `message` says why, `hint` what can be done."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
