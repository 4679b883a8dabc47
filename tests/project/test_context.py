"""The files that go into an image: what is needed, nothing secret, Docker's ignore rules."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import ProjectError
from lightship.project.context import _compiled, read_context


def make(directory: Path, *names: str) -> Path:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return directory


def paths(directory: Path, **options: tuple[str, ...]) -> list[str]:
    return [file.path for file in read_context(directory, **options).files]


def test_code_and_weights_go_in_and_the_rest_of_a_working_folder_stays_out(tmp_path: Path) -> None:
    make(tmp_path, "serve.py", "lib/a.py", "models/model.joblib", ".git/config", "__pycache__/a.pyc", ".venv/x.py")
    make(tmp_path, "lightship.toml", "lightship.lock", "requirements.txt", "Dockerfile", "lib/b.pyc")
    context = read_context(tmp_path)
    assert [file.path for file in context.files] == ["lib/a.py", "models/model.joblib", "serve.py"]
    assert [file.path for file in context.files if file.is_weights] == ["models/model.joblib"]


@pytest.mark.parametrize("name", [".env", ".env.local", "server.key", "cert.pem", "id_rsa", "kaggle.json", ".netrc"])
def test_a_secret_stays_out_and_is_told_of(tmp_path: Path, name: str) -> None:
    make(tmp_path, "serve.py", name)
    context = read_context(tmp_path)
    assert [file.path for file in context.files] == ["serve.py"]
    assert context.secrets == (name,)


def test_include_takes_back_what_a_rule_leaves_out(tmp_path: Path) -> None:
    make(tmp_path, "serve.py", "ca.pem")
    assert paths(tmp_path, include=("ca.pem",)) == ["ca.pem", "serve.py"]


def test_ignore_files_follow_docker(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.txt", "sub/a.txt", "sub/c.log", "deep/er/c.log", "data/x.csv", "data/keep.csv")
    (tmp_path / ".dockerignore").write_text("# comment\n/a.txt\n**/*.log\ndata\n!data/keep.csv\n")
    assert paths(tmp_path) == ["b.txt", "data/keep.csv", "sub/a.txt"]


def test_lightships_own_ignore_file_wins(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.txt")
    (tmp_path / ".dockerignore").write_text("*\n")
    (tmp_path / ".lightshipignore").write_text("a.txt\n")
    assert paths(tmp_path) == ["b.txt"]


def test_a_link_out_of_the_project_is_refused(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "secret.txt")
    project = make(tmp_path / "project", "serve.py")
    (project / "link").symlink_to(outside)
    with pytest.raises(ProjectError, match="outside the project"):
        read_context(project)


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(ProjectError, match="broken symbolic link"):
        read_context(tmp_path)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    make(tmp_path, "a/b.txt")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert paths(tmp_path) == ["a/b.txt"]


@given(st.text(max_size=30))
def test_a_pattern_compiles_or_is_refused_in_words(pattern: str) -> None:
    with contextlib.suppress(ProjectError):
        _compiled(pattern)


def test_a_pattern_that_is_no_pattern_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    with pytest.raises(ProjectError, match="ignore pattern"):
        paths(tmp_path, exclude=("[z-a]",))


def test_a_name_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/model-\xff.bin")).write_bytes(b"x")
    with pytest.raises(ProjectError, match="not UTF-8"):
        read_context(tmp_path)


def test_no_platforms_lock_goes_into_an_image(tmp_path: Path) -> None:
    make(tmp_path, "serve.py", "lightship.lock", "lightship.arm64.lock")
    assert [file.path for file in read_context(tmp_path).files] == ["serve.py"]
