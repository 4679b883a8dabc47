"""Projects: where settings come from, what is served, and errors that say what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightship.errors import ProjectError
from lightship.project import load_project
from lightship.project.template import settings_template
from lightship.project.validate import known_keys, settings_from

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "serve.py").write_text(FASTAPI)
    (tmp_path / "model.onnx").write_bytes(b"x")
    return tmp_path


def test_settings_come_from_lightship_toml(folder: Path) -> None:
    (folder / "lightship.toml").write_text('base = "debian:trixie"\n[serve]\napp = "serve:app"\nport = 9000\n')
    project = load_project(folder)
    assert project.app == "serve:app"
    assert project.settings.serve.port == 9000
    assert project.settings.base_table.image == "debian:trixie"


def test_settings_come_from_pyproject_where_there_is_no_lightship_toml(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.lightship.image]\nname = "chosen"\n')
    assert load_project(folder).name == "chosen"


def test_a_folder_without_settings_serves_the_application_it_holds(folder: Path) -> None:
    project = load_project(folder)
    assert (project.app, project.model) == ("serve:app", None)
    assert "FastAPI" in project.app_reason


def test_a_model_that_is_named_is_served_whatever_else_is_there(folder: Path) -> None:
    project = load_project(folder / "model.onnx")
    assert (project.app, project.model) == (None, folder / "model.onnx")
    assert project.name == "model"


def test_a_server_file_that_is_named_is_the_application(folder: Path) -> None:
    (folder / "other.py").write_text("import starlette.applications as s\nasgi: object = s.Starlette()\n")
    assert load_project(folder / "other.py").app == "other:asgi"


def test_the_command_line_wins_over_the_file(folder: Path) -> None:
    (folder / "lightship.toml").write_text('base = "debian:trixie"\n[image]\nname = "a"\n')
    project = load_project(folder, {"base": {"image": "debian:bookworm"}, "image": {"name": "b"}})
    assert (project.settings.base_table.image, project.name) == ("debian:bookworm", "b")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[srve]\nport = 1\n", "srve: there is no such key", "Did you mean serve?"),
        ("[serve]\nprot = 1\n", "serve.prot: there is no such key", "Did you mean serve.port?"),
        ("[image]\npackages = []\n", "image.packages: there is no such key", "Did you mean base.packages?"),
        ("[image]\nzzz = 1\n", "image.zzz: there is no such key", "Valid here: image.compression"),
        ("port = 8080\n", "port: there is no such key", "Did you mean serve.port?"),
        ('[serve]\nport = "x"\n', "serve.port: expected int, got str", None),
        ("[serve]\nport = 70000\n", "serve.port: expected int <= 65535", None),
        ('[image]\ncompression = "lzma"\n', "image.compression: invalid enum value 'lzma'", None),
        ('[serve]\napp = "serve"\n', "expected MODULE:NAME", None),
        ('[serve]\napp = "gone:app"\n', "there is no", "project's folder"),
        ('[model]\npath = "gone.joblib"\n', "model.path: there is no", "Train or fetch"),
        ('[model]\npath = "../outside.onnx"\n', "is outside the project's folder", "one place"),
        ("[serve\n", "is not valid TOML", None),
        ("base = 3\n", "base: expected", None),
    ],
)
def test_a_mistake_is_answered_with_file_key_and_remedy(
    folder: Path, text: str, message: str, hint: str | None
) -> None:
    (folder.parent / "outside.onnx").touch()
    (folder / "lightship.toml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(folder)
    assert message in caught.value.message
    assert "lightship.toml" in caught.value.message
    if hint:
        assert hint in (caught.value.hint or "")


def test_a_target_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="There is no"):
        load_project(tmp_path / "gone")


def test_a_server_file_with_a_syntax_error_is_named(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text("def (:\n")
    with pytest.raises(ProjectError, match="not valid Python"):
        load_project(tmp_path)


@pytest.mark.parametrize("folder_name", ["My Model", "--", "Ünï", "a.b_c"])
def test_the_name_is_one_that_registries_take(tmp_path: Path, folder_name: str) -> None:
    directory = tmp_path / folder_name
    directory.mkdir()
    (directory / "serve.py").write_text(FASTAPI)
    name = load_project(directory).name
    assert name and all(character.isascii() and (character.isalnum() or character == "-") for character in name)


def test_the_template_means_the_same_as_no_file(folder: Path) -> None:
    before = load_project(folder)
    (folder / "lightship.toml").write_text(settings_template(before))
    after = load_project(folder)
    assert (after.name, after.app, after.model) == (before.name, before.app, before.model)


def test_every_table_of_the_settings_is_listed() -> None:
    assert {"serve.port", "model.path", "base.packages", "test.golden", "image.name"} <= set(known_keys())


def test_defaults_need_no_file() -> None:
    assert settings_from({}, "nothing").serve.port == 8080
