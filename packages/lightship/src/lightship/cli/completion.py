"""`lightship completion SHELL`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      lightship completion bash > ~/.local/share/bash-completion/completions/lightship
      lightship completion zsh > ~/.zfunc/_lightship
      lightship completion fish > ~/.config/fish/completions/lightship.fish
    """
    from lightship.cli.main import lightship

    completer = get_completion_class(shell)
    assert completer is not None  # the three shells are click's own
    click.echo(completer(lightship, {}, "lightship", "_LIGHTSHIP_COMPLETE").source())
