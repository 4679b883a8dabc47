"""The password of a private key: from the environment, else asked for where somebody can answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import click

from lightship.errors import ProjectError


def password_from(environ: Mapping[str, str], *, confirm: bool = False) -> Callable[[], str]:
    """How a password is come by, when it is needed: COSIGN_PASSWORD, which may be empty, or a question.

    Args:
        confirm: Ask twice, for a password that is only being chosen.
    """
    from lightship.supply.cosign_keys import PASSWORD_VARIABLE

    def password() -> str:
        if (found := environ.get(PASSWORD_VARIABLE)) is not None:
            return found
        if not sys.stdin.isatty():
            raise ProjectError(
                "The private key wants a password, and nobody is there to be asked.",
                hint=f"Set {PASSWORD_VARIABLE}.",
            )
        answer: str = click.prompt(
            "Password of the private key",
            hide_input=True,
            default="",
            show_default=False,
            confirmation_prompt=confirm,
            err=True,
        )
        return answer

    return password
