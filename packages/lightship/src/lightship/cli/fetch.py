"""`lightship fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightship.cli import options
from lightship.cli.display import Display

if TYPE_CHECKING:
    from lightship.hub.gguf_choice import Bits

MODEL_FOLDER = "model"


@click.command()
@click.argument("model", metavar="hf://ORG/NAME[/FILE][@REVISION]")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--trust", is_flag=True, help="Take pickled weights and Python files, which run code when loaded.")
@click.option(
    "--quantize",
    type=click.Choice(["4bit", "8bit", "none"]),
    help="Of GGUF files in many forms, the one with so many bits.",
)
@options.output
def command(model: str, folder: Path | None, trust: bool, quantize: Bits | None, quiet: bool, as_json: bool) -> None:
    """Bring a model from a hub into a project folder, named like the model unless FOLDER says otherwise.

    Only what serves it comes: one form of the weights, safetensors before all others, and no program. A commit is
    fetched, each file is checked, and from then on nobody asks the hub. HF_TOKEN and HF_ENDPOINT are heeded.
    Of GGUF files the one with Q4_K_M comes, unless --quantize or what FOLDER's settings say ([model] quantize,
    [target] memory) speaks against it.

    \b
    Examples:
      lightship fetch hf://sentence-transformers/all-MiniLM-L6-v2
      lightship fetch hf://org/name@v1.2 chat            a tag, into the folder chat
      lightship fetch hf://org/name-GGUF/name.Q4_K_M.gguf
    """
    from lightship.hub import HubReference, fetch
    from lightship.quantities import human_size

    reference = HubReference.parse(model)
    project = folder or Path(reference.name)
    display = Display(quiet, as_json)
    with options.session(display, offline=False) as session:
        asked, memory = _asked_for(project)
        bits = quantize or asked
        fetched = fetch(reference, project / MODEL_FOLDER, session, trust=trust, bits=bits, memory=memory)
    if as_json:
        display.document(
            {
                "folder": str(fetched.folder),
                "commit": fetched.commit,
                "reason": fetched.reason,
                "files": [{"path": file.path, "size": file.size} for file in fetched.files],
            }
        )
    if fetched.reason:
        display.line(f"of several forms of the model: {fetched.reason}")
    display.line(f"fetched {len(fetched.files)} files, {human_size(fetched.size)}, commit {fetched.commit}")
    display.line(f"`lightship plan {project}` shows what follows from it; `lightship up {project}` serves it")


def _asked_for(folder: Path) -> tuple[Bits | None, int | None]:
    """The bits and the memory (in bytes) that the settings of a project name which is there already."""
    from lightship.plan.generation import target_memory
    from lightship.project import read_settings

    settings, source = read_settings(folder)
    quantize = settings.model.quantize
    return None if quantize == "auto" else quantize, target_memory(settings, source)
