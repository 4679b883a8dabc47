"""Models from a hub: the library's real client against a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub, hub

from lightship.cache import Cache
from lightship.errors import IntegrityError, LightshipError, NetworkError, ProjectError
from lightship.hub import HubReference, fetch
from lightship.session import Session

pytest.importorskip("huggingface_hub")
WEIGHTS = os.urandom(300_000)
FILES = {
    "config.json": b'{"architectures": ["BertModel"]}',
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b"{}",
    "README.md": b"# a model",
    "LICENSE": b"Apache-2.0",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle" * 1000,
    "tf_model.h5": b"h5" * 1000,
    "onnx/model.onnx": b"onnx" * 1000,
    "modeling_own.py": b"import os",
}
SERVED = {"config.json", "tokenizer.json", "1_Pooling/config.json", "LICENSE", "model.safetensors"}
REFERENCE = HubReference("org/name")


@pytest.fixture
def served() -> Iterator[Hub]:
    with hub(dict(FILES)) as state:
        yield state


def session_for(state: Hub, tmp_path: Path, **environ: str) -> Session:
    return Session(Cache(tmp_path / "cache"), environ={"HF_ENDPOINT": state.url, **environ})


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_serves_the_model_comes_and_nothing_else(served: Hub, tmp_path: Path) -> None:
    fetched = fetch(REFERENCE, tmp_path / "model", session_for(served, tmp_path))
    assert found(tmp_path / "model") == {path: FILES[path] for path in SERVED}
    assert fetched.commit == COMMIT and {file.path for file in fetched.files} == SERVED
    assert not list(tmp_path.glob(".model*"))
    # Everything is of the commit that the list was of, whatever the branch is meanwhile.
    assert all(path.startswith(("/api/", f"/org/name/resolve/{COMMIT}/")) for _, path, _ in served.asked)


def test_pickles_and_programs_come_only_where_they_are_trusted(served: Hub, tmp_path: Path) -> None:
    served.files = {path: content for path, content in FILES.items() if path != "model.safetensors"}
    session = session_for(served, tmp_path)
    with pytest.raises(ProjectError, match="pickles only"):
        fetch(REFERENCE, tmp_path / "model", session)
    assert not (tmp_path / "model").exists()
    fetch(REFERENCE, tmp_path / "model", session, trust=True)
    assert {"pytorch_model.bin", "modeling_own.py"} <= found(tmp_path / "model").keys()


def test_one_file_of_many(served: Hub, tmp_path: Path) -> None:
    served.files = {"a.Q4_K_M.gguf": WEIGHTS, "a.Q8_0.gguf": b"x" * 2000, "README.md": b"", "LICENSE": b"MIT"}
    session = session_for(served, tmp_path)
    with pytest.raises(ProjectError, match="no weights") as refused:
        fetch(REFERENCE, tmp_path / "model", session)
    assert "hf://org/name/a.Q4_K_M.gguf" in (refused.value.hint or "")
    fetch(HubReference.parse("hf://org/name/a.Q4_K_M.gguf"), tmp_path / "model", session)
    assert found(tmp_path / "model") == {"a.Q4_K_M.gguf": WEIGHTS, "LICENSE": b"MIT"}


def test_a_folder_of_genai_within_a_repository(served: Hub, tmp_path: Path) -> None:
    served.files = {"cpu/genai_config.json": b"{}", "cpu/model.onnx": WEIGHTS, "README.md": b""}
    fetch(REFERENCE, tmp_path / "model", session_for(served, tmp_path))
    assert found(tmp_path / "model") == {"genai_config.json": b"{}", "model.onnx": WEIGHTS}
    served.files = {**served.files, "gpu/genai_config.json": b"{}"}
    with pytest.raises(ProjectError, match="2 forms"):
        fetch(REFERENCE, tmp_path / "other", session_for(served, tmp_path))


def test_a_cut_transfer_is_gone_on_with(served: Hub, tmp_path: Path) -> None:
    served.cut["model.safetensors"] = 100_000
    session = session_for(served, tmp_path)
    try:
        fetch(REFERENCE, tmp_path / "model", session)
    except NetworkError:  # where the library does not go on by itself
        fetch(REFERENCE, tmp_path / "model", session)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == WEIGHTS


def test_other_bytes_than_the_hub_lists_are_refused(served: Hub, tmp_path: Path) -> None:
    served.listed["model.safetensors"] = (len(WEIGHTS), hashlib.sha256(b"other").hexdigest())
    with pytest.raises(IntegrityError, match=r"model\.safetensors has another sha256"):
        fetch(REFERENCE, tmp_path / "model", session_for(served, tmp_path))
    served.listed["model.safetensors"] = (len(WEIGHTS) + 1, hashlib.sha256(WEIGHTS).hexdigest())
    with pytest.raises(LightshipError):
        fetch(REFERENCE, tmp_path / "model", session_for(served, tmp_path))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("path", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "..\\evil.json"])
def test_no_name_leads_out_of_the_folder(served: Hub, tmp_path: Path, path: str) -> None:
    served.files = {**FILES, path: b"{}"}
    with pytest.raises(ProjectError, match="outside of the repository"):
        fetch(REFERENCE, tmp_path / "deep" / "model", session_for(served, tmp_path))
    assert not list(tmp_path.rglob("evil.json"))


def test_tokens_revisions_and_terms(served: Hub, tmp_path: Path) -> None:
    served.token = "hf_secret"
    with pytest.raises(ProjectError, match="no such model") as refused:
        fetch(REFERENCE, tmp_path / "model", session_for(served, tmp_path))
    assert "HF_TOKEN" in (refused.value.hint or "")
    session = session_for(served, tmp_path, HF_TOKEN="hf_secret")
    with pytest.raises(ProjectError, match="no such model"):
        fetch(replace(REFERENCE, revision="v9"), tmp_path / "model", session)
    served.gated = True
    with pytest.raises(ProjectError, match="accepted its terms"):
        fetch(replace(REFERENCE, revision="v1"), tmp_path / "model", session)
    served.gated = False
    assert fetch(replace(REFERENCE, revision="v1"), tmp_path / "model", session).commit == COMMIT


def test_no_hub_and_no_network(tmp_path: Path) -> None:
    nobody = Session(Cache(tmp_path / "cache"), environ={"HF_ENDPOINT": "http://127.0.0.1:9"})
    with pytest.raises(NetworkError, match="hub"):
        fetch(REFERENCE, tmp_path / "model", nobody)
    with pytest.raises(NetworkError, match="offline"):
        fetch(REFERENCE, tmp_path / "model", replace(nobody, offline=True))


def test_what_is_there_stays(served: Hub, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ProjectError, match="there already"):
        fetch(REFERENCE, tmp_path / "model", session_for(served, tmp_path))
    assert served.asked == []


@pytest.mark.parametrize(
    "text", ["org/name", "hf://", "hf://a/b/../c", "hf://a/../b", "hf://org/na me", "hf://org/name@", "hf:///x/y"]
)
def test_what_names_no_model(text: str) -> None:
    with pytest.raises(ProjectError, match="names no model"):
        HubReference.parse(text)


def test_the_command_makes_a_project(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lightship.cli.main import main

    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["fetch", "hf://org/name", "--json"])
    assert not ended.value.code
    document = json.loads(capsys.readouterr().out)
    assert document["commit"] == COMMIT and (tmp_path / "name" / "model" / "model.safetensors").is_file()
    with pytest.raises(SystemExit) as ended:
        main(["plan", "hf://org/name"])
    assert ended.value.code == 2
    assert "lightship fetch hf://org/name" in capsys.readouterr().err
