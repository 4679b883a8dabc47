"""Plans: every decision with its reason, and refusals before anything is built."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from lightship.errors import ProjectError
from lightship.plan import Plan, make_plan
from lightship.project import load_project

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "serve.py").write_text(FASTAPI)
    (tmp_path / "requirements.txt").write_text("fastapi\nuvicorn\n")
    return tmp_path


def plan(folder: Path, **overrides: Any) -> Plan:
    return make_plan(load_project(folder, overrides))


def test_every_decision_has_a_reason(folder: Path) -> None:
    decisions = list(plan(folder).decisions())
    assert len({decision.name for decision in decisions}) == len(decisions)
    assert all(decision.shown and decision.reason for decision in decisions)


def test_the_base_is_bookworm_unless_something_asks_for_another_python(folder: Path) -> None:
    assert plan(folder).base.value.reference == "debian:bookworm"
    (folder / ".python-version").write_text("3.13\n")
    chosen = plan(folder).base
    assert chosen.value.reference == "debian:trixie"
    assert ".python-version" in chosen.evidence


def test_a_python_that_no_base_has_is_answered_with_who_has_which(folder: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        plan(folder, python={"version": "3.12"})
    assert "debian:bookworm has 3.11" in (caught.value.hint or "")


@pytest.mark.parametrize("version", ["three", "3", "4.1", "3.11.x"])
def test_a_python_version_that_is_none_is_refused(folder: Path, version: str) -> None:
    with pytest.raises(ProjectError, match="expected a version such as"):
        plan(folder, python={"version": version})


def test_packages_can_be_added_to_an_assembled_base_only(folder: Path) -> None:
    assert plan(folder, base={"packages": ["libgl1"]}).base.value.packages == ("libgl1",)
    with pytest.raises(ProjectError, match="assembled base only"):
        plan(folder, base={"image": "registry.example/python:3.12", "packages": ["libgl1"]})


def test_an_unknown_debian_release_is_answered_with_those_that_are_known(folder: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        plan(folder, base={"image": "debian:sid"})
    assert "debian:trixie" in (caught.value.hint or "")


def test_cuda_is_seen_in_the_requirements(folder: Path) -> None:
    (folder / "requirements.txt").write_text("onnxruntime-gpu==1.20.0\nnvidia-cudnn-cu12\nfastapi\n")
    assert plan(folder).accelerator.value == "cuda"


@pytest.mark.parametrize(("torch", "accelerator"), [("torch==2.13.0+cpu", "cpu"), ("torch==2.13.0", "cuda")])
def test_bitsandbytes_computes_on_what_torch_does(folder: Path, torch: str, accelerator: str) -> None:
    (folder / "requirements.txt").write_text(f"bitsandbytes==0.50.2\nfastapi\n{torch}\n")
    assert plan(folder).accelerator.value == accelerator


def test_requirements_that_are_missing_are_asked_for(folder: Path) -> None:
    (folder / "requirements.txt").unlink()
    with pytest.raises(ProjectError, match="has no requirements"):
        plan(folder)


def test_weights_and_code_are_told_apart(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "model.onnx").write_bytes(b"x")
    made = plan(folder)
    assert [file.path for file in made.weights_files] == ["models/model.onnx"]
    assert "serve.py" in [file.path for file in made.app_files]


class Evil:
    def __reduce__(self) -> Any:
        import os

        return (os.system, ("false",))


def test_a_pickle_that_would_run_a_program_is_refused_unless_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "requirements.txt").write_text("scikit-learn==1.7.2\n")
    with pytest.raises(ProjectError, match="system"):
        plan(tmp_path / "model.pkl")


def test_secrets_that_were_left_out_are_told_of(folder: Path) -> None:
    (folder / ".env").write_text("TOKEN=x\n")
    assert any(".env" in warning for warning in plan(folder).warnings)


def test_without_a_golden_request_the_plan_says_what_is_not_proven(folder: Path) -> None:
    assert plan(folder).proof.value is None
    (folder / "golden.json").write_text("{}")
    assert plan(folder).proof.value == folder / "golden.json"
