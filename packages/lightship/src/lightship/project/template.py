"""The commented lightship.toml that `lightship init` writes: what was found is set, everything else is shown."""

from __future__ import annotations

from lightship.project.project import Project


def settings_template(project: Project) -> str:
    """A settings file for a project that has none; it means the same as having no file."""
    serves_app = project.app is not None
    model = "" if project.model is None else project.model.relative_to(project.directory).as_posix()
    golden = project.golden
    return "\n".join(
        [
            "# What Lightship builds an image from. Every key is optional; `lightship plan` shows what follows.",
            "",
            'base = "debian:bookworm"  # Python 3.11; else "debian:trixie" (3.13), "oci:DIR", "REGISTRY/NAME:TAG"',
            "",
            "[model]",
            _line("path", model or "model.joblib", active=bool(model)),
            _line("engine", "sklearn", active=False, comment="how it is loaded; found from the file"),
            "# trust = false  # build even where the pickle names functions that are known to be dangerous",
            '# task = "zero-shot-classification"  # of transformers folders, where config.json does not say it',
            '# network = "net.py:Net"  # of safetensors files: what builds the network that the weights are for',
            '# input_dtype = "float32"  # of TorchScript and safetensors files, which do not say it',
            "# input_shape = [3, 224, 224]  # of one instance; -1 where any length will do",
            "# context = 4096  # of language models: tokens that prompt and answer may have together",
            '# quantize = "auto"  # of language models: "4bit", "8bit" or "none"',
            "# trusted_types = []  # for skops files: types beyond its own list, such as sklearn.tree._tree.Tree",
            "",
            "[serve]",
            _line("app", project.app or "serve:app", active=serves_app, comment="your own ASGI server, MODULE:NAME"),
            "# port = 8080",
            _line("health", "/health", active=False, comment="the path that answers 200 when the server is ready"),
            "",
            "[python]",
            _line(
                "requirements",
                "requirements.txt",
                active=False,
                comment="else uv.lock, pylock.toml, requirements.txt, pyproject.toml: the first there is",
            ),
            "",
            "[image]",
            _line("name", project.name, active=True),
            _line("tag", "latest", active=False),
            '# platforms = ["linux/amd64"]  # or several, with "linux/arm64": one index, built without emulation',
            _line("compression", "zstd", active=False, comment='"gzip" for Docker before 23, "estargz", "none"'),
            _line(
                "prune", "safe", active=False, comment='or "used", "traced" (what golden.json does without), "none"'
            ),
            "# keep = []  # distributions, or patterns of their files, that are never left out",
            "# include = []  # files to take along that a rule leaves out, in .dockerignore's patterns",
            "# exclude = []  # files to leave out",
            "# environment = {}",
            "",
            "[test]",
            _line(
                "golden",
                golden.name if golden else "golden.json",
                active=golden is not None,
                comment='{"request": ..., "response": ...}: asked of every image before it counts as built',
            ),
            "",
        ]
    )


def _line(key: str, value: str, *, active: bool, comment: str = "") -> str:
    line = f'{key} = "{value}"'
    if comment:
        line += f"  # {comment}"
    return line if active else f"# {line}"
