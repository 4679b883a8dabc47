"""The proof, against real servers in real containers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from machine import absent

from lightship.errors import ProjectError, VerificationError
from lightship.layers import Layer
from lightship.oci.image import Image
from lightship.run import RunOptions
from lightship.run.embedded import EmbeddedEngine
from lightship.session import Session
from lightship.verify import Proof, prove

SERVE = 'exec /bin/busybox httpd -f -p "$LIGHTSHIP_HOST:$LIGHTSHIP_PORT" -h /app'
GOLDEN = {"request": [5.1, 3.5], "response": {"predictions": ["setosa"]}, "path": "/cgi-bin/predict"}
ECHO_SETOSA = """#!/bin/sh
read -r body
[ "$body" = '[5.1,3.5]' ] || { echo 'Status: 400 Bad Request'; echo; echo "got $body"; exit; }
echo 'Content-Type: application/json'
echo
echo '{"predictions": ["setosa"], "seconds": 0.1}'
"""

Prove = Callable[..., Proof]


@pytest.fixture
def engine() -> EmbeddedEngine:
    engine = EmbeddedEngine()
    if why := engine.why_not():
        absent(f"the embedded engine does not work here: {why}")
    return engine


@pytest.fixture
def proven(
    engine: EmbeddedEngine,
    session: Session,
    busybox_image: Callable[..., Image],
    make_layer: Callable[..., Layer],
    tmp_path: Path,
) -> Prove:
    """`proven(script, predict=, golden=, ...)`: prove an image that runs a shell script and a CGI program."""

    def run(
        script: str = SERVE,
        *,
        predict: str = ECHO_SETOSA,
        golden: object = None,
        options: RunOptions | None = RunOptions(grace=0.1),  # noqa: B008  # frozen
        **others: object,
    ) -> Proof:
        layer = make_layer({"app/health": (b"ready", 0o644), "app/cgi-bin/predict": (predict.encode(), 0o755)})
        image = busybox_image(command=("sh", "-c", script))
        image = replace(image, layers=(*image.layers, layer), settings=replace(image.settings, working_directory="/"))
        path = None
        if golden is not None:
            path = tmp_path / "golden.json"
            path.write_text(json.dumps(golden))
        return prove(image, engine, session, golden=path, options=options, **others)  # type: ignore[arg-type]

    return run


def launchers() -> list[str]:
    """The containers that this process started and did not stop."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and b"launcher.py" in path.with_name("cmdline").read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_server_that_gives_the_golden_answer_is_proven_and_left_running(proven: Prove) -> None:
    proof = proven(golden=GOLDEN)
    try:
        assert proof.golden
        assert proof.answer == {"predictions": ["setosa"], "seconds": 0.1}
        assert proof.seconds_to_answer is not None
        assert 0 < proof.seconds_to_ready <= proof.seconds_to_answer
        assert proof.container.wait(0) is None
    finally:
        proof.container.stop()


def test_without_a_golden_request_readiness_is_all(proven: Prove) -> None:
    proof = proven()
    proof.container.stop()
    assert (proof.golden, proof.answer, proof.seconds_to_answer) == (False, None, None)


def test_a_server_that_only_proves_itself_is_told_not_to_linger(proven: Prove) -> None:
    told = 'trap "exit 0" TERM; echo "linger: $LIGHTSHIP_LINGER."; (' + SERVE + ") & wait"
    for options, words in ((None, "linger: 0."), (RunOptions(grace=0.1), "linger: .")):
        proof = proven(told, options=options)
        proof.container.stop()
        assert words in proof.container.logs()


def test_readiness_is_waited_for(proven: Prove) -> None:
    proof = proven(f"sleep 0.5; {SERVE}")
    proof.container.stop()
    assert proof.seconds_to_ready >= 0.4


def test_a_wrong_answer_is_shown_with_its_place(proven: Prove) -> None:
    wrong = ECHO_SETOSA.replace("setosa", "virginica")
    with pytest.raises(VerificationError, match="golden answer") as caught:
        proven(predict=wrong, golden=GOLDEN)
    assert '$.predictions[0]: expected "setosa", got "virginica"' in caught.value.message
    assert not launchers()


def test_an_answer_that_is_not_json_is_shown(proven: Prove) -> None:
    text = "#!/bin/sh\necho 'Content-Type: text/plain'; echo; echo 'hello there'\n"
    with pytest.raises(VerificationError, match="not JSON: hello there"):
        proven(predict=text, golden=GOLDEN)


def test_an_error_of_the_server_comes_with_its_status_and_log(proven: Prove) -> None:
    with pytest.raises(VerificationError, match="status 501") as caught:
        proven(f"echo 'loading the model'; {SERVE}", golden=GOLDEN | {"path": "/none"})
    assert "loading the model" in caught.value.message
    assert not launchers()


def test_a_server_that_ends_while_it_answers_is_told(proven: Prove) -> None:
    ends = "#!/bin/sh\nkill -TERM 1\nkill -KILL -1\n"
    script = f"{SERVE.removeprefix('exec ')} & wait $!; echo 'std::bad_alloc' >&2; exit 134"
    with pytest.raises(VerificationError, match="the memory is not enough"):
        proven(script, predict=ends, golden=GOLDEN)


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        (
            "echo 'OSError: libgomp.so.1: cannot open shared object file: No such file or directory'; exit 1",
            "shared library libgomp.so.1 is not in the image",
            "libgomp1",
        ),
        (
            "echo \"ModuleNotFoundError: No module named 'sklearn'\" >&2; exit 1",
            "Python module sklearn is not in the image",
            "scikit-learn",
        ),
        ("sh -c 'kill -9 $$'; exit $?", "was killed", "memory"),
        ("echo 'something odd'; exit 3", "with the exit status 3.*something odd", "last lines"),
        ("exit 3", "with the exit status 3.*wrote nothing", "last lines"),
    ],
)
def test_a_server_that_ends_is_told_at_once_and_why(proven: Prove, script: str, message: str, hint: str) -> None:
    with pytest.raises(VerificationError) as caught:
        proven(script, timeout=600)  # which nobody waits for
    assert caught.match(f"(?s){message}")
    assert hint in str(caught.value.hint)


def test_a_server_that_never_listens_is_given_up_with_the_port(proven: Prove) -> None:
    with pytest.raises(VerificationError, match="nothing answers on the port"):
        proven("while :; do sleep 0.1; done", timeout=0.3)
    assert not launchers()


def test_a_server_without_the_health_path_is_told_so(proven: Prove) -> None:
    with pytest.raises(VerificationError, match="answers /ready with the status 404") as caught:
        proven(health="/ready")
    assert "health" in str(caught.value.hint)


def test_a_server_that_says_not_yet_is_asked_again(proven: Prove) -> None:
    later = """#!/bin/sh
if [ -e /tmp/asked ]; then echo; echo ready; else echo >/tmp/asked; echo 'Status: 503 Not Yet'; echo; fi
"""
    proof = proven(predict=later, health="/cgi-bin/predict")
    proof.container.stop()


def test_a_bad_golden_file_is_the_projects_fault_and_nothing_is_started(proven: Prove) -> None:
    with pytest.raises(ProjectError, match="not a golden request"):
        proven(golden={"reqest": 1})
    assert not launchers()
