"""Models from a hub: the library's real client against a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
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
    fetched = fetch(HubReference.parse("hf://org/name/a.Q8_0.gguf"), tmp_path / "model", session)
    assert found(tmp_path / "model") == {"a.Q8_0.gguf": b"x" * 2000, "LICENSE": b"MIT"}
    assert fetched.reason == ""
    with pytest.raises(ProjectError, match="no such file") as refused:
        fetch(HubReference.parse("hf://org/name/a.Q2_K.gguf"), tmp_path / "other", session)
    assert "hf://org/name/a.Q4_K_M.gguf" in (refused.value.hint or "")


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


@pytest.mark.tool("unshare")
def test_a_disk_that_fills_up_is_told_with_what_is_missing(served: Hub, tmp_path: Path) -> None:
    disk = 'mount -t tmpfs -o size=80m tmpfs "$1" && exec "$2" "$3" "$4" "$1" full'
    inside = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace of its own, for a disk of its own, can be had here")
    script = [str(tmp_path), sys.executable, str(Path(__file__).with_name("full_disk.py")), served.url]
    told = subprocess.run([*inside, "sh", "-c", disk, "sh", *script], capture_output=True, text=True, check=False)
    kind, message, hint = told.stdout.splitlines()
    assert (told.returncode, kind) == (8, "StorageError"), told.stderr
    assert "The disk is full: model.safetensors could not be written" in message
    missing = int(message.partition(" bytes) are still to come")[0].rpartition("(")[2].replace(",", ""))
    assert 200_000 <= missing <= len(WEIGHTS)
    assert "goes on where it ended" in hint and str(tmp_path) in hint


def test_a_file_that_is_too_large_for_the_disk_is_told(served: Hub, tmp_path: Path) -> None:
    script = [sys.executable, Path(__file__).with_name("full_disk.py"), served.url, tmp_path, "small"]
    told = subprocess.run(script, capture_output=True, text=True, check=False)
    kind, message, hint = told.stdout.splitlines()
    assert (told.returncode, kind) == (8, "StorageError"), told.stderr
    assert "takes no file as large as model.safetensors" in message and "300,000 bytes" in message
    assert "ulimit -f" in hint


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


def test_of_many_forms_one_comes_with_its_reason(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lightship.cli.main import main

    parts = {f"Q8_0/a-Q8_0-0000{number}-of-00002.gguf": b"8" * 40_000 for number in (1, 2)}
    four = {"a-Q4_K_M.gguf": b"4" * 50_000, "a-Q2_K.gguf": b"2" * 20_000}
    served.files = {**four, **parts, "mmproj-F16.gguf": b"p" * 2000, "LICENSE": b"MIT"}
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.chdir(tmp_path)

    def fetched(*arguments: str) -> tuple[set[str], str]:
        with pytest.raises(SystemExit) as ended:
            main(["fetch", "hf://org/name", *arguments])
        assert not ended.value.code
        return set(found(tmp_path / arguments[0] / "model")), capsys.readouterr().out

    files, said = fetched("four")
    assert files == {"a-Q4_K_M.gguf", "LICENSE"}
    assert "Q4_K_M (50.0 kB): the usual one" in said and "Q2_K (20.0 kB), Q8_0 (80.0 kB) as well" in said
    files, said = fetched("eight", "--quantize", "8bit")
    assert files == {"a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"}
    # A project that is there already says what it needs.
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "lightship.toml").write_text('[target]\nmemory = "30kB"\n')
    files, said = fetched("small")
    assert files == {"a-Q2_K.gguf", "LICENSE"}
    assert "Q4_K_M (50.0 kB) is too much for 30.0 kB" in said


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
