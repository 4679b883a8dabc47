"""The pages in a real, headless Chromium that can reach nothing but the server that is tested."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from page_site import Site, Visit, check_access, chromium, served
from playwright.sync_api import Browser, expect
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
)
from lightship_runtime.engines.sklearn import SklearnEngine
from lightship_runtime.pages import PageSettings

expect.set_options(timeout=30_000)  # milliseconds; generous, because the machine may be busy with other tests
pytestmark = pytest.mark.tool("chromium")
ROW = [5.1, 3.5, 1.4, 0.2]
# A picture of one pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Speller(Engine):
    """Answers a text with its words, in parts; one of them may be waited for."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[tuple[Instances, Options]] = []

    @classmethod
    def load(cls, source: ModelSource) -> Speller:
        raise NotImplementedError

    @property
    def signature(self) -> Signature:
        return Signature("text", example="once upon a time")

    def predict(self, instances: Instances, options: Options) -> Prediction:
        self.asked.append((instances, options))
        return Prediction([text.upper() for text in instances])

    def stream(self, instance: Any, options: Options) -> Iterator[Any]:
        for number, word in enumerate(instance.split()):
            if number == 2:
                self.gate.wait(30)
            if word == "bad":
                raise BadInstances("There was a bad word.")
            yield word + " "


class Labeller(Speller):
    """Answers anything with what it is told to."""

    def __init__(self, prediction: Any, signature: Signature | None = None) -> None:
        super().__init__()
        self._prediction = prediction
        self._signature = signature or Signature()

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        self.asked.append((instances, options))
        return Prediction([self._prediction for _ in instances])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


Visiting = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visiting]:
    """`visit(engine, settings)`: serve a model and have a page at hand; checked for misdeeds at the test's end."""
    visits = []
    with ExitStack() as stack:

        def visiting(
            engine: Engine, settings: PageSettings, *, look: dict[str, Any] | None = None, **site: Any
        ) -> Visit:
            running = stack.enter_context(served(Site(engine, settings, **site)))
            context = stack.enter_context(browser.new_context(**(look or {})))
            made = Visit(context.new_page(), running)
            visits.append(made)
            return made

        yield visiting
        for one in visits:
            one.check()


@pytest.fixture(scope="module")
def iris() -> SklearnEngine:
    data = load_iris(as_frame=True)
    return SklearnEngine(LogisticRegression(max_iter=1000).fit(data.data, data.target_names[data.target]))


@pytest.fixture
def settings() -> PageSettings:
    return PageSettings("iris", description="Which iris it is.", request=ROW)


def test_a_filled_form_is_answered_as_the_model_answers(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings)
    page = at.open()
    expect(page.get_by_role("status")).to_have_text("Ready")
    expect(page.get_by_role("heading", level=1)).to_have_text("iris")
    expect(page.get_by_text("Which iris it is.")).to_be_visible()
    expect(page.get_by_label("sepal length (cm)")).to_have_value("5.1")
    for name, value in zip(iris.signature.names or (), ("6.3", "3.3", "6", "2.5"), strict=True):
        page.get_by_label(name).fill(value)
    at.predict()
    prediction = iris.predict([[6.3, 3.3, 6, 2.5]], Options(probabilities=True))
    label = str(prediction.predictions[0])
    probabilities = [float(share) for share in prediction.probabilities[0]]  # type: ignore[index]
    expect(at.result.locator(".value")).to_have_text(label)
    shares = sorted(probabilities, reverse=True)
    words = [f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %" for share in shares]
    expect(at.result.locator(".bars .share")).to_have_text(words)
    widths = at.result.locator(".bars i").evaluate_all("all => all.map(one => parseFloat(one.style.width))")
    assert widths == pytest.approx([100 * share for share in shares], rel=1e-3)
    expect(at.facts).to_contain_text("200 OK")
    expect(at.facts).to_contain_text("predict 1.5 ms")
    page.locator("#answer-json-tab").click()
    shown = json.loads(page.locator("#answer-json pre").inner_text())
    assert shown["predictions"] == [label]
    assert shown["probabilities"] == [probabilities]


def test_probabilities_come_only_when_they_are_wanted(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings)
    wanted = at.open().get_by_label("Probabilities")
    expect(wanted).to_be_checked()
    wanted.uncheck()
    at.predict()
    expect(at.result).to_have_text("setosa")
    assert at.site.asked[-1].query == ""


def test_an_error_is_shown_with_the_servers_words(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings)
    page = at.open()
    page.locator("#ask-json-tab").click()
    page.locator("#json").fill("[[1, 2, 3]]")
    at.predict()
    expect(page.locator(".failure")).to_contain_text("Row 1 has 3 values; 4 are expected.")
    expect(at.facts).to_contain_text("400 Bad Request")
    page.locator("#json").fill("[1, 2")
    expect(page.locator("#json-error")).to_contain_text("not valid JSON")
    assert page.locator("#json").get_attribute("aria-invalid") == "true"


def test_a_server_that_has_gone_is_said_to_be_gone(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings)
    page = at.open()
    expect(page.get_by_label("petal width (cm)")).to_have_value("0.2")
    page.route("**/predict*", lambda route: route.abort())
    at.predict()
    expect(page.locator(".failure")).to_contain_text("cannot be reached")


def test_form_and_json_are_two_views_of_one_request(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings)
    page = at.open()
    page.get_by_label("petal width (cm)").fill("")
    page.locator("#ask-json-tab").click()
    body = json.loads(page.locator("#json").input_value())
    assert body["instances"][0]["petal width (cm)"] is None
    page.locator("#json").fill(json.dumps({"instances": [[7, 3, 5, 2]]}))
    page.locator("#ask-form-tab").click()
    expect(page.get_by_label("sepal length (cm)")).to_have_value("7")
    page.locator("#ask-json-tab").click()
    page.locator("#json").fill("[[1, 2, 3, 4], [1, 2, 3, 4]]")
    page.locator("#ask-form-tab").click()  # two instances have no place in the form
    expect(page.locator("#json")).to_be_visible()
    expect(page.locator("#json-error")).to_contain_text("one instance")
    page.get_by_role("button", name="Example").click()
    page.locator("#ask-form-tab").click()
    expect(page.get_by_label("petal width (cm)")).to_have_value("0.2")


def test_the_snippets_do_what_the_page_did(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings, tmp_path: Path
) -> None:
    at = visit(iris, settings, look={"permissions": ["clipboard-read", "clipboard-write"]})
    page = at.open()
    at.predict()
    page.locator("#answer-json-tab").click()
    shown = json.loads(page.locator("#answer-json pre").inner_text())
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == page.locator("#code-curl").inner_text()
    done = subprocess.run(["bash", "-c", command.replace("curl ", "curl -s ", 1)], capture_output=True, check=True)
    assert json.loads(done.stdout) == shown
    page.get_by_role("tab", name="Python").click()
    program = page.locator("#code-python").inner_text()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert eval(done.stdout) == shown
    assert at.site.asked[-1].query == at.site.asked[-2].query == "predict_proba=true"


def test_snippets_quote_what_the_shell_and_python_would_take_for_their_own(visit: Visiting) -> None:
    text = 'It\'s $HOME `id` "x" \\n é 🚢 \u2028'
    at = visit(Speller(), PageSettings("speller"))
    page = at.open()
    page.get_by_label("Text").fill(text)
    for program in (["bash", "-c"], [sys.executable, "-c"]):
        page.locator(f"#code-{'curl' if program[0] == 'bash' else 'python'}-tab").click()
        code = page.locator("#code pre:visible").text_content()
        subprocess.run([*program, code], capture_output=True, check=True)
        assert json.loads(at.site.asked[-1].body) == {"instances": [text]}


@pytest.mark.parametrize("form", ["events", "lines"])
def test_a_stream_is_shown_as_it_comes(visit: Visiting, form: str) -> None:
    engine = Speller()
    engine.gate.clear()
    at = visit(engine, PageSettings("speller", streaming=True))
    page = at.open()
    page.get_by_label("Stream").select_option(form)
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".streamed")).to_have_text("once upon")
    expect(page.locator(".streamed")).to_have_class("streamed live")
    engine.gate.set()
    expect(page.locator(".streamed")).to_have_text("once upon a time")
    expect(page.locator(".streamed")).to_have_class("streamed")
    expect(at.facts).to_contain_text("4 parts")
    expect(at.facts).to_contain_text("per second")
    page.get_by_label("Text").fill("one bad word")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".failure")).to_have_text("There was a bad word.")
    expect(page.locator(".streamed")).to_have_text("one")


def test_a_stream_can_be_stopped(visit: Visiting) -> None:
    engine = Speller()
    engine.gate.clear()
    at = visit(engine, PageSettings("speller", streaming=True))
    page = at.open()
    page.get_by_label("Stream").select_option("events")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".streamed")).to_have_text("once upon")
    page.get_by_role("button", name="Stop").click()
    expect(at.result).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Predict")).to_be_enabled()
    engine.gate.set()
    assert at.site.streams_ended.acquire(timeout=30)


def test_while_the_model_loads_the_phase_is_shown(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings, ready=False)
    page = at.open()
    expect(page.get_by_role("status")).to_contain_text("Loading the model 62 %")
    expect(page.get_by_role("button", name="Predict")).to_be_disabled()
    at.site.ready = True
    expect(page.get_by_role("status")).to_have_text("Ready")
    expect(page.get_by_label("petal width (cm)")).to_have_value("0.2")
    at.predict()
    expect(at.result.locator(".value")).to_have_text("setosa")


@pytest.mark.parametrize("path", ["", "docs"])
def test_a_key_is_asked_for_and_kept_nowhere(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings, path: str
) -> None:
    at = visit(iris, settings, key="s3cret-key")
    page = at.open(path)
    expect(page.get_by_role("status")).to_have_text("Key needed")
    page.get_by_label("API key").fill("another")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_text("does not know this key")).to_be_visible()
    page.get_by_label("API key").fill("s3cret-key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("iris")
    expect(page.get_by_label("API key")).to_be_hidden()
    if not path:
        at.predict()
        expect(at.result.locator(".value")).to_have_text("setosa")
        expect(page.locator("#code-curl")).to_contain_text("Bearer $API_KEY")
    assert "s3cret-key" not in page.content()
    page.reload()
    expect(page.get_by_label("API key")).to_have_value("")


def test_a_file_is_sent_as_it_is(visit: Visiting, tmp_path: Path) -> None:
    engine = Labeller([{"label": "ship", "score": 0.75}, {"label": "boat", "score": 0.25}], Signature("image"))
    at = visit(engine, PageSettings("pictures"))
    page = at.open()
    expect(page.get_by_text("Drop an image file here")).to_be_visible()
    at.predict()
    expect(page.locator(".failure")).to_have_text("Choose a file first.")
    page.get_by_label("Choose an image file").set_input_files(
        {"name": "a b.png", "mimeType": "image/png", "buffer": PNG}
    )
    expect(page.get_by_alt_text("The chosen image")).to_be_visible()
    expect(page.locator("#code-curl")).to_contain_text("--data-binary '@a b.png'")
    at.predict()
    assert (at.site.asked[-1].body, at.site.asked[-1].content_type) == (PNG, "image/png")
    expect(at.result.locator(".bars .label")).to_have_text(["ship", "boat"])


@pytest.mark.parametrize(
    ("prediction", "shown"),
    [
        (3.5, "3.5"),
        (None, "null"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ({"label": "calm", "score": 0.9}, "calmcalm90.0 %"),
        ({"labels": ["a", "b"], "scores": [0.2, 0.8]}, "b80.0 %a20.0 %"),
        ({"a": [1, 2]}, '{"a": [1, 2]}'),
    ],
)
def test_whatever_is_predicted_is_shown_and_nothing_of_it_runs(visit: Visiting, prediction: Any, shown: str) -> None:
    at = visit(
        Labeller(prediction), PageSettings("<b>model</b>", description="<script>alert(1)</script>", request=[["x"]])
    )
    page = at.open()
    expect(page.get_by_role("heading", level=1)).to_have_text("<b>model</b>")
    expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
    at.predict()
    expect(at.result).to_have_text(shown)


def test_inline_code_is_refused_by_the_policy(visit: Visiting, iris: SklearnEngine, settings: PageSettings) -> None:
    at = visit(iris, settings)
    page = at.open()
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    page.wait_for_function("window.violations.length === 1")
    assert page.evaluate("window.ran") is None
    page.evaluate("window.violations.length = 0")


def test_the_keyboard_is_enough(visit: Visiting, iris: SklearnEngine, settings: PageSettings) -> None:
    at = visit(iris, settings)
    page = at.open()
    page.get_by_label("sepal length (cm)").focus()
    page.keyboard.press("Enter")
    expect(at.result.locator(".value")).to_have_text("setosa")
    page.locator("#ask-form-tab").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#ask-json-tab")).to_be_focused()
    expect(page.locator("#json")).to_be_visible()
    page.locator("#json").focus()
    page.locator("#json").fill("[6.3, 3.3, 6, 2.5]")
    page.keyboard.press("Control+Enter")
    expect(at.result.locator(".value")).to_have_text("virginica")


def test_the_docs_show_every_route_and_its_example_works(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings)
    page = at.open("docs")
    routes = set(json.loads(at.site.pages["/openapi.json"].body)["paths"])
    expect(page.locator("details summary code").first).to_have_text("/predict")
    assert routes <= set(page.locator("details summary code").all_inner_texts())
    command = page.locator("#predict pre").first.inner_text()
    done = subprocess.run(["bash", "-c", command.replace("curl ", "curl -s ", 1)], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"predictions": ["setosa"]}
    expect(page.locator("#predict")).to_contain_text("Retry-After")
    page.locator("#contents").get_by_text("Instance", exact=True).click()
    expect(page.locator("#schema-Instance")).to_have_attribute("open", "")
    expect(page.locator("#schema-Instance")).to_contain_text("petal width (cm)")


def test_it_works_behind_a_proxy_that_gives_it_a_part_of_its_paths(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings
) -> None:
    at = visit(iris, settings, prefix="/models/iris")
    page = at.open()
    at.predict()
    expect(at.result.locator(".value")).to_have_text("setosa")
    expect(page.locator("#code-curl")).to_contain_text(f"{at.site.url}predict")
    page.get_by_role("link", name="API", exact=True).click()
    expect(page.locator("#predict summary code")).to_have_text("/predict")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "docs"])
def test_nothing_bars_people_who_see_or_type_differently(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings, scheme: str, path: str
) -> None:
    at = visit(iris, settings, look={"color_scheme": scheme, "bypass_csp": True, "reduced_motion": "reduce"})
    page = at.open(path)
    if path:
        expect(page.locator("details").first).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    else:
        at.predict()
        expect(at.result.locator(".bars")).to_be_visible()
    check_access(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nor_does_anything_where_something_is_missing_or_wrong(
    visit: Visiting, iris: SklearnEngine, settings: PageSettings, scheme: str
) -> None:
    look = {"color_scheme": scheme, "bypass_csp": True, "reduced_motion": "reduce"}
    page = visit(iris, settings, key="s3cret-key", look=look).open()
    expect(page.get_by_label("API key")).to_be_visible()
    check_access(page)
    page = visit(iris, settings, ready=False, look=look).open()
    expect(page.get_by_role("status")).to_contain_text("Loading")
    check_access(page)
    at = visit(Speller(), PageSettings("speller", streaming=True), look=look)
    page = at.open()
    page.get_by_label("Text").fill("one bad word")
    page.get_by_label("Stream").select_option("events")
    at.predict()
    page.locator("#ask-json-tab").click()
    page.locator("#json").fill("[")
    expect(page.locator("#json-error")).to_be_visible()
    check_access(page)
