"""The reference of lightship.toml is complete."""

from __future__ import annotations

from pathlib import Path

from lightship.project.validate import known_keys

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def test_every_key_is_documented_and_nothing_else() -> None:
    rows = [
        line.split("|")[1].strip().strip("`") for line in REFERENCE.read_text().splitlines() if line.startswith("| `")
    ]
    tables = {key.partition(".")[0] for key in known_keys() if "." in key}
    assert sorted(rows) == sorted(key for key in known_keys() if key not in tables or key == "base")
