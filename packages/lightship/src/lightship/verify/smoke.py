"""The smoke run: start the image, wait until it is ready, ask the golden request and compare the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightship.errors import ProjectError, VerificationError
from lightship.oci.image import Image
from lightship.progress import Progress, Silent
from lightship.run.engine import Container, Engine, RunOptions
from lightship.session import Session
from lightship.verify.causes import cause_of

if TYPE_CHECKING:
    from lightship_runtime.golden import Golden

HEALTH = "/health"
READY_TIMEOUT = 120.0  # seconds; a large model may take most of them
ANSWER_TIMEOUT = 120.0  # seconds for the golden answer: a large language model on a small machine
# Of a container that is stopped when it has answered: no balancer knows it, so that our server need not linger.
BRIEF = RunOptions(environment=(("LIGHTSHIP_LINGER", "0"),))
_LOOPBACK = "127.0.0.1"
_PAUSE = 0.01  # seconds between two questions
_ONE_QUESTION = 5.0  # seconds for one answer of the health check; a server that loads may accept and not answer
_CHECK_SHARE = 10  # ask the engine whether the container lives for at most a tenth of the time: `docker` is slow
_LAST_LINES = 20
_MOST = 64 << 20  # bytes of an answer; as much as a golden file may hold
_SHOWN = 500  # characters of an unexpected answer


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `seconds` is how long it took."""

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as JSON. Raises ValueError where it is none."""
        import json

        return json.loads(self.body)


@dataclass(frozen=True)
class Proof:
    """An image that works, and the container that showed it, which still runs.

    Attributes:
        container: To be used, and stopped by whoever asked for the proof.
        seconds_to_ready: From the container's start to the first 200 of its health check.
        seconds_to_answer: From the container's start to the golden answer (the cold start); None without a golden.
        answer: The answer to the golden request, as JSON values; None without a golden.
        golden: Whether the answer was compared with a golden one.
    """

    container: Container
    seconds_to_ready: float
    seconds_to_answer: float | None = None
    answer: Any = None
    golden: bool = False


def prove(
    image: Image,
    engine: Engine,
    session: Session,
    *,
    golden: Path | Golden | None = None,
    health: str = HEALTH,
    timeout: float = READY_TIMEOUT,
    options: RunOptions | None = None,
) -> Proof:
    """Run the image until it has given the golden answer (or is ready, without one), and leave it running.

    Args:
        golden: A golden request and answer, or the file that has them.
        health: The path that answers 200 when the server is ready.
        timeout: Seconds to wait for readiness.
        options: Of the container; by default those of one that is stopped at once.

    Raises:
        VerificationError: It did not become ready, or the answer differs. The container is gone then.
        ProjectError: The golden file cannot be read.
        EngineError: The engine cannot run the image.
    """
    expected = _load(golden) if isinstance(golden, Path) else golden
    container = engine.start(image, session, options or BRIEF)
    started = time.monotonic()
    try:
        ready = wait_until_ready(container, health, timeout, session.progress)
        if expected is None:
            return Proof(container, ready)
        with session.progress.task(f"golden request {expected.path}"):
            answer = check_golden(container, expected)
        return Proof(container, ready, time.monotonic() - started, answer.json(), golden=True)
    except BaseException:  # Ctrl-C too leaves nothing behind
        container.stop()
        raise


def wait_until_ready(
    container: Container, path: str = HEALTH, timeout: float = READY_TIMEOUT, progress: Progress | None = None
) -> float:
    """Ask the health check until it answers 200, and return how many seconds that took.

    Raises:
        VerificationError: The container ended, the server has no such path, or it was not ready in time.
    """
    started = time.monotonic()
    alive_until = started
    with (progress or Silent()).task(f"wait for {path}"):
        while True:
            answer = _health(container, path, max(_PAUSE, min(_ONE_QUESTION, started + timeout - time.monotonic())))
            now = time.monotonic()
            if answer and 200 <= answer.status < 300:
                return now - started
            if answer and 300 <= answer.status < 500 and answer.status != 429:
                raise VerificationError(
                    f"The server runs, but answers {path} with the status {answer.status}, so nobody can see that "
                    f"it is ready.{_last_words(container)}",
                    hint="Answer 200 there when the model is loaded, or name another path: [serve] health = ...",
                )
            if now >= alive_until:
                if (status := container.wait(0)) is not None:
                    raise _ended(container, status)
                alive_until = time.monotonic() + _CHECK_SHARE * (time.monotonic() - now)
            if now - started >= timeout:
                raise _not_ready(container, path, timeout, answer)
            time.sleep(_PAUSE)


def ask(container: Container, golden: Golden, timeout: float = ANSWER_TIMEOUT) -> Answer:
    """Send the golden request and return what comes back, whatever it is.

    Raises:
        VerificationError: No answer came.
    """
    try:
        return _request(container.port, "POST", golden.path, golden.body, timeout)
    except (OSError, HTTPException) as error:
        status = container.wait(1.0)
        if status is not None:
            raise _ended(container, status) from error
        why = f"in {timeout:g} seconds" if isinstance(error, TimeoutError) else f"({error or type(error).__name__})"
        raise VerificationError(
            f"The golden request to {golden.path} got no answer {why}.{_last_words(container)}"
        ) from error


def check_golden(container: Container, golden: Golden, timeout: float = ANSWER_TIMEOUT) -> Answer:
    """Ask the golden request; the answer, where it is the golden one.

    Raises:
        VerificationError: It is not; the message lists the differences.
    """
    answer = ask(container, golden, timeout)
    shown = answer.body[:_SHOWN].decode("utf-8", "replace").strip() or "nothing more"
    if answer.status != 200:
        cause = cause_of(container.logs())
        because = f"\nThe cause: {cause.reason}." if cause else ""
        raise VerificationError(
            f"The golden request to {golden.path} was answered with the status {answer.status}: {shown}"
            f"{because}{_last_words(container)}",
            hint=cause.hint if cause else "Does the golden request have the form that this server expects?",
        )
    try:
        value = answer.json()
    except (ValueError, RecursionError):
        raise VerificationError(f"The answer of {golden.path} is not JSON: {shown}") from None
    if differences := golden.differences(value):
        listed = "\n".join(f"  {difference}" for difference in differences)
        raise VerificationError(
            f"The model in the image does not give the golden answer:\n{listed}",
            hint="Are the versions those that the model was trained with? If the new answer is right, keep it.",
        )
    return answer


def _load(path: Path) -> Golden:
    from lightship_runtime.golden import GoldenError, load_golden

    try:
        return load_golden(path)
    except GoldenError as error:
        raise ProjectError(str(error), hint='It holds {"request": ..., "response": ...}.') from error


def _health(container: Container, path: str, timeout: float) -> Answer | None:
    try:
        return _request(container.port, "GET", path, None, timeout)
    except (OSError, HTTPException):
        return None  # not listening yet, or not answering yet


def _request(port: int, method: str, path: str, body: bytes | None, timeout: float) -> Answer:
    started = time.monotonic()
    connection = HTTPConnection(_LOOPBACK, port, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body, headers | {"Connection": "close"})
        response = connection.getresponse()
        content = response.read(_MOST + 1)
        if len(content) > _MOST:
            raise VerificationError(f"The answer of {path} is larger than {_MOST >> 20} MiB.")
        return Answer(response.status, content, time.monotonic() - started)
    finally:
        connection.close()


def _ended(container: Container, status: int) -> VerificationError:
    cause = cause_of(container.logs(), status)
    why = f": {cause.reason}" if cause else f", with the exit status {status}"
    return VerificationError(
        f"The container ended before it was ready{why}.{_last_words(container)}",
        hint=cause.hint if cause else "Its last lines say what it met.",
    )


def _not_ready(container: Container, path: str, timeout: float, answer: Answer | None) -> VerificationError:
    cause = cause_of(container.logs())
    why = f"{path} answers {answer.status}" if answer else f"nothing answers on the port {container.port}"
    if cause:
        why = f"{why}, because {cause.reason}"
    listens = (
        "Does the server listen on the port that LIGHTSHIP_PORT (or PORT) names, and does loading take longer? "
        "[test] timeout gives it more seconds."
    )
    return VerificationError(
        f"The server was not ready after {timeout:g} seconds: {why}.{_last_words(container)}",
        hint=cause.hint if cause else listens,
    )


def _last_words(container: Container) -> str:
    lines = container.logs().rstrip().splitlines()[-_LAST_LINES:]
    if not lines:
        return " It wrote nothing."
    return "\nIts last lines:\n" + "\n".join(f"  {line}" for line in lines)
