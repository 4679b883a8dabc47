"""The `lightship` command: finds the subcommand, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence

import click

from lightship import __version__
from lightship.errors import LightshipError

# name -> one line for the list. The command's module is imported only when it is called: `--version` and
# shell completion must not pay for what they do not use.
COMMANDS = {
    "init": "Write a commented lightship.toml from what the folder holds.",
    "fetch": "Bring a model from a hub into a project folder.",
    "plan": "Show every decision with its reason; build nothing.",
    "lock": "Resolve and write lightship.lock.",
    "update": "Move the base in lightship.lock to the newest, and leave the wheels.",
    "build": "Build the image.",
    "serve": "Serve a model here, without an image.",
    "run": "Run the image and wait until it is ready.",
    "up": "Build, run, ask the golden request, compare the answer.",
    "push": "Build the image and bring it into a registry.",
    "sbom": "Print the image's bill of materials, as SPDX or CycloneDX.",
    "licences": "Show the licences of everything in the image.",
    "pull": "Bring an image from a registry into the cache, or into a layout.",
    "keygen": "Make a pair of keys to sign images with.",
    "sign": "Sign an image in its registry.",
    "verify-signature": "Check that an image in a registry is signed with a key.",
    "scan": "Look for known vulnerabilities.",
    "inspect": "Show what an image holds, and who brought it.",
    "diff": "Show what changed between two images.",
    "cache": "Show the cache, or make it smaller.",
    "completion": "Print the completion script of a shell.",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"lightship.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from error
            raise


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Documentation of every key: lightship init --help. Exit codes: docs/exit-codes.md.",
)
@click.version_option(__version__, prog_name="lightship", message="%(prog)s %(version)s")
def lightship() -> None:
    """A model and its requirements in; a small, non-root, reproducible, proven container image out.

    \b
    Start here:
      lightship up examples/iris      build the image, start it, ask it, stop with Ctrl-C
      lightship plan model.joblib     see what would be built, and why
      lightship build -o image.tar    a file for `docker load`, `podman load` and every OCI tool
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = lightship.main(args=arguments, prog_name="lightship", standalone_mode=False)
    except LightshipError as error:
        _render(error.message, error.hint, error.exit_code, as_json="--json" in arguments)
        status = error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "lightship"
        _render(error.format_message(), f"See `{where} --help`.", error.exit_code, as_json="--json" in arguments)
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _render(message: str, hint: str | None, exit_code: int, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": {"message": message, "hint": hint, "exit_code": exit_code}}))
        return
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)
    if hint:
        click.secho("  fix: ", fg="green", bold=True, nl=False, err=True)
        click.echo(hint, err=True)
