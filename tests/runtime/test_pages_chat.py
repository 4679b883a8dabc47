"""The page of a model that writes, in a real, headless Chromium in front of a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from page_site import Visit, check_access, chromium
from playwright.sync_api import Browser, expect
from runtime_servers import Runtime
from writing_model import config, write_app

expect.set_options(timeout=30_000)  # milliseconds; generous, because the machine may be busy with other tests
pytestmark = pytest.mark.tool("chromium")
COMPLETING = """
def generate(prompt, max_tokens):
    for word in prompt.split():
        yield word.upper() + " "
"""
# Says what it was given, so that a test can read it.
REPEATING = """
import json

def apply_chat_template(messages):
    return json.dumps(messages)

def generate(prompt, **options):
    stop = [one[::-1] for one in options.pop("stop")]  # as they are they would end the text
    yield json.dumps({"messages": json.loads(prompt), "stop": stop, **options})
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


Visiting = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, start: Any, tmp_path: Path) -> Iterator[Visiting]:
    """`visit(source)`: serve a model and have a page at hand; checked for misdeeds at the test's end."""
    visits: list[Visit] = []
    with ExitStack() as stack:

        def visiting(source: str | None = None, *, look: dict[str, Any] | None = None, **environment: str) -> Visit:
            folder = write_app(tmp_path) if source is None else write_app(tmp_path, source)
            server: Runtime = start(folder, config(), **environment).ready()
            context = stack.enter_context(browser.new_context(**(look or {})))
            made = Visit(context.new_page(), server)
            visits.append(made)
            return made

        yield visiting
        for one in visits:
            one.check()


def say(at: Visit, text: str) -> Any:
    """Say something and wait for the answer, which is returned."""
    at.page.get_by_label("Message").fill(text)
    at.page.keyboard.press("Enter")
    answer = at.page.locator(".message.model").last
    expect(answer.locator(".live")).to_have_count(0)
    return answer


def test_a_conversation_goes_on(visit: Visiting) -> None:
    at = visit()
    page = at.open()
    expect(page.get_by_role("heading", level=1)).to_have_text("writer")
    expect(page.get_by_role("button", name="Predict")).to_be_hidden()
    page.get_by_label("Most tokens").fill("6")
    answer = say(at, "Ahoy there")
    expect(answer.locator(".text")).to_have_text("user0 Ahoy1 there2 user3 Ahoy4 there5")
    expect(answer.locator(".facts")).to_contain_text("6 tokens")
    expect(answer.locator(".facts")).to_contain_text("first after")
    expect(answer.locator(".facts")).to_contain_text("ended at the most tokens")
    expect(page.get_by_label("Message")).to_have_value("")
    expect(page.get_by_label("Message")).to_be_focused()
    page.get_by_label("Most tokens").fill("20")
    answer = say(at, "Again")
    expect(answer.locator(".text")).to_contain_text("user0 Ahoy1 there2 assistant3 user04 Ahoy15")
    expect(page.locator(".message.user .text")).to_have_text(["Ahoy there", "Again"])
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".message")).to_have_count(0)
    page.get_by_label("Most tokens").fill("2")
    expect(say(at, "New").locator(".text")).to_have_text("user0 New1")


def test_everything_that_is_set_is_sent_and_nothing_else(visit: Visiting) -> None:
    at = visit(REPEATING)
    page = at.open()
    given = json.loads(say(at, "Hello").locator(".text").inner_text())
    assert given == {
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 256,
        "stop": [],
    }
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("System prompt").fill("Be brief.")
    values = {"Most tokens": "9", "Temperature": "0.5", "Seed": "-3", "Top p": "0.9", "Top k": "40"}
    for label, value in {**values, "Repetition penalty": "1.1", "Stop at, one a line": "END\n\nSTOP"}.items():
        page.get_by_label(label).fill(value)
    given = json.loads(say(at, "Hello").locator(".text").inner_text())
    assert given == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        **{"max_tokens": 9, "temperature": 0.5, "seed": -3, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1},
        "stop": ["DNE", "POTS"],
    }
    page.get_by_label("Temperature").fill("3")
    expect(page.locator("#wishes-error")).to_contain_text("Temperature")
    page.get_by_label("Message").fill("More")
    page.keyboard.press("Enter")
    expect(page.locator(".message.user")).to_have_count(1)


def test_a_text_comes_as_it_is_written_and_can_be_stopped(visit: Visiting) -> None:
    at = visit()
    page = at.open()
    page.get_by_role("tab", name="Completion").click()
    expect(page.get_by_label("System prompt")).to_be_hidden()
    page.get_by_label("Most tokens").fill("1900")
    page.get_by_label("Prompt", exact=True).fill("slow tide")
    page.get_by_role("button", name="Write").click()
    answer = page.locator(".message.model")
    expect(answer.locator(".text")).to_contain_text("slow0 tide1 slow2")
    expect(answer.locator(".facts")).to_contain_text("per second")
    expect(page.locator("#completion")).to_have_attribute("aria-busy", "true")
    page.get_by_role("button", name="Stop").click()
    expect(answer).to_contain_text("Stopped.")
    expect(answer.locator(".live")).to_have_count(0)
    expect(page.get_by_role("button", name="Write")).to_be_enabled()
    page.get_by_label("Prompt", exact=True).fill("running")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".message.model .text").last).to_have_text("1")  # the slot of the other has been freed


def test_a_model_without_a_chat_template_goes_on_from_prompts(visit: Visiting) -> None:
    at = visit(COMPLETING)
    page = at.open()
    expect(page.get_by_role("tab", name="Chat")).to_have_count(0)
    page.get_by_label("Prompt", exact=True).fill("one\ntwo")
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".message.model .text")).to_have_text("ONE TWO")


def test_what_goes_wrong_is_said_and_the_text_stays(visit: Visiting) -> None:
    at = visit()
    page = at.open()
    page.get_by_role("tab", name="Completion").click()
    page.get_by_label("Prompt", exact=True).fill("broken mast")
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".failure")).to_contain_text("The model failed on this request.")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("broken mast")
    page.get_by_label("Prompt", exact=True).fill("fail late")
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".message.model")).to_have_count(1)  # the failed one has gone
    expect(page.locator(".message.model .text")).to_have_text("fail0 late1 fail2")
    expect(page.locator(".failure")).to_contain_text("The model failed on this request.")
    page.get_by_label("Prompt", exact=True).fill("word " * 3000)
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".failure").last).to_contain_text("The prompt is too long")
    page.route("**/v1/completions", lambda route: route.abort())
    page.get_by_label("Prompt", exact=True).fill("a")
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".failure").last).to_contain_text("cannot be reached")


def test_nothing_that_a_model_writes_runs(visit: Visiting) -> None:
    at = visit(
        "def generate(prompt):\n    yield '<img src=x onerror=alert(1)>'\n    yield '<script>alert(1)</script>'\n"
    )
    page = at.open()
    page.get_by_label("Prompt", exact=True).fill("<b>bold</b>")
    page.get_by_role("button", name="Write").click()
    shown = page.locator(".message .text")
    expect(shown).to_have_text(["<b>bold</b>", "<img src=x onerror=alert(1)><script>alert(1)</script>"])


def test_the_same_from_code(visit: Visiting) -> None:
    at = visit()
    page = at.open()
    page.get_by_label("Most tokens").fill("3")
    page.get_by_label("Message").fill("It's $HOME")
    for program in (["bash", "-c"], [sys.executable, "-c"]):
        page.locator(f"#code-{'curl' if program[0] == 'bash' else 'python'}-tab").click()
        code = page.locator("#code pre:visible").text_content()
        done = subprocess.run([*program, code], capture_output=True, check=True, text=True)
        parts = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")]
        assert parts.pop() == "[DONE]"
        choices = [choice for part in parts for choice in json.loads(part)["choices"]]
        assert "".join(choice["delta"].get("content", "") for choice in choices) == "user0 It's1 $HOME2 "


def test_a_key_is_needed_and_sent(visit: Visiting) -> None:
    at = visit(LIGHTSHIP_API_KEYS="me:s3cret-key-of-mine", LIGHTSHIP_PAGES_OPEN="1")
    page = at.open()
    page.get_by_label("API key").fill("s3cret-key-of-mine")
    page.keyboard.press("Enter")
    page.get_by_label("Most tokens").fill("2")
    expect(say(at, "Ahoy").locator(".text")).to_have_text("user0 Ahoy1")
    expect(page.locator("#code-curl")).to_contain_text("Bearer $API_KEY")
    assert "s3cret-key" not in page.content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_people_who_see_or_type_differently_from_talking(visit: Visiting, scheme: str) -> None:
    at = visit(look={"color_scheme": scheme, "bypass_csp": True, "reduced_motion": "reduce"})
    page = at.open()
    page.get_by_label("Most tokens").fill("5")
    say(at, "Ahoy")
    check_access(page)
    page.get_by_role("tab", name="Chat").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_label("Prompt", exact=True).fill("broken")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".failure")).to_be_visible()
    check_access(page)
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_docs_show_the_routes_of_texts_and_their_examples_work(visit: Visiting) -> None:
    at = visit()
    page = at.open("docs")
    expect(page.locator("details summary code").first).to_have_text("/v1/chat/completions")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for operation in ("chat", "completions", "generate", "generate_query", "models", "model"):
        command = page.locator(f"#{operation} pre").first.inner_text()
        done = subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl -s ", 1)], capture_output=True, check=True
        )
        assert not {"error"} & json.loads(done.stdout).keys(), operation
    expect(page.locator("#schema-ChatRequest")).to_contain_text("temperature")
