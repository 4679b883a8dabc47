"""The OpenAPI document and the table of pages: valid, true to the model, small, and cached."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from page_site import Site, served
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from lightship_runtime.engines.engine import Signature, TensorSpec
from lightship_runtime.engines.sklearn import SklearnEngine
from lightship_runtime.generation.chat import parse_chat
from lightship_runtime.generation.completions import parse_completions
from lightship_runtime.generation.plain import parse_plain
from lightship_runtime.host.answering import Answering
from lightship_runtime.log import Log
from lightship_runtime.pages import PageSettings, pages, shell
from lightship_runtime.payload import Call, RequestError

NAMES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
ROW = [5.1, 3.5, 1.4, 0.2]
RECORD = dict(zip(NAMES, ROW, strict=True))
IDS = TensorSpec("ids", "INT64", (-1, 3))
MASK = TensorSpec("mask", "BOOL", (-1, 3))
SIGNATURES = {
    "named rows": Signature("rows", features=4, names=NAMES, probabilities=True, classes=("a", "b")),
    "rows": Signature("rows", features=4, outputs=(TensorSpec("variable", "FP32", (-1, 1)),)),
    "rows of inputs": Signature("rows", features=2, inputs=(TensorSpec("x", "FP32", (-1, 1)), MASK)),
    "unknown rows": Signature("rows"),
    "tensor": Signature("tensor", inputs=(TensorSpec("pixels", "UINT8", (-1, -1, 3)),), outputs=(IDS,)),
    "tensors": Signature("tensor", inputs=(IDS, MASK), outputs=(IDS, MASK)),
    "unknown tensor": Signature("tensor"),
    "text": Signature("text", example="Once upon a time"),
    "image": Signature("image", probabilities=True, classes=("cat", "dog")),
    "audio": Signature("audio"),
    "any": Signature(),
}
WRITERS: dict[str, dict[str, Any]] = {
    "prompts": {},
    "chats": {"chats": True, "context": 100},
    "everything": {
        **{"chats": True, "tools": True, "most_logprobs": 3, "keys": True},
        "response_formats": ("json_object", "json_schema"),
    },
}
STATUSES = {"200", "400", "406", "408", "413", "415", "429", "500", "503", "504"}


def document(signature: Signature, **settings: Any) -> dict[str, Any]:
    """As clients read it."""
    content = pages(signature, PageSettings("iris", **settings))["/openapi.json"].body
    return msgspec.json.decode(content, type=dict[str, Any])


def accepts(api: dict[str, Any], schema: str, value: Any) -> bool:
    root = {"$ref": f"#/components/schemas/{schema}", "components": api["components"]}
    return Draft202012Validator(root).is_valid(value)


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
@pytest.mark.parametrize("on", [True, False])
def test_the_document_is_valid_for_every_kind_of_model(signature: Signature, on: bool) -> None:
    check(document(signature, keys=on, streaming=on, inference=on, metrics=on, formats=("csv", "npy") if on else ()))


def check(api: dict[str, Any]) -> None:
    """Valid, whole, and without a name twice."""
    OpenAPIV31SpecValidator(api).validate()
    for schema in api["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    used = set(re.findall(r"#/components/schemas/(\w+)", str(api)))
    assert used <= set(api["components"]["schemas"])
    names = [operation["operationId"] for item in api["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    for item in api["paths"].values():
        for operation in item.values():
            assert all("description" in response for response in operation["responses"].values())


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_the_document_is_valid_for_models_that_write(writer: dict[str, Any]) -> None:
    api = document(SIGNATURES["text"], generates=True, **writer)
    check(api)
    chats = writer.get("chats", False)
    assert ("/v1/chat/completions" in api["paths"]) == chats
    schemas = api["components"]["schemas"]
    assert ("messages" in schemas["GenerateRequest"]["properties"]) == chats
    if chats:
        able = schemas["ChatRequest"]["properties"].keys()
        assert able >= {"messages", "temperature", "stream"}
        assert {name: name in able for name in ("tools", "logprobs", "response_format")} == dict.fromkeys(
            ("tools", "logprobs", "response_format"), "tools" in writer
        )
    generate = api["paths"]["/generate"]["post"]["responses"]["400"]["content"]["application/json"]["schema"]
    assert generate == {"$ref": "#/components/schemas/Error"}
    completions = api["paths"]["/v1/completions"]["post"]["responses"]["400"]["content"]["application/json"]["schema"]
    assert completions == {"$ref": "#/components/schemas/OpenAIError"}


def test_every_member_that_is_described_is_one_that_is_read() -> None:
    schemas = document(SIGNATURES["text"], generates=True, **WRITERS["everything"])["components"]["schemas"]
    for name, parse in (
        ("ChatRequest", parse_chat),
        ("CompletionRequest", parse_completions),
        ("GenerateRequest", parse_plain),
    ):
        for member in schemas[name]["properties"]:
            try:
                parse(Call("chat", msgspec.json.encode({member: {"wrong": "type"}})), None, None)  # type: ignore[arg-type]
            except RequestError as error:
                assert (error.code, error.param) != ("unknown_parameter", member)


def test_the_golden_request_is_the_example_of_its_form() -> None:
    golden = {"messages": [{"role": "user", "content": "Ahoy"}], "max_tokens": 3, "stream": True}
    api = document(SIGNATURES["text"], request=golden, generates=True, chats=True)
    bodies = {path: api["paths"][path]["post"]["requestBody"]["content"] for path in ("/v1/completions", "/predict")}
    chat = api["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    assert chat["examples"]["known"]["value"] == {
        "model": "iris",
        "messages": golden["messages"],
        "max_tokens": 3,
    }
    known = {path: body["application/json"]["examples"]["known"]["value"] for path, body in bodies.items()}
    assert known["/predict"] == {"instances": ["Once upon a time"]}
    assert known["/v1/completions"]["prompt"] == "Once upon a time"


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
def test_a_signature_that_travelled_as_json_gives_the_same_document(signature: Signature) -> None:
    travelled = msgspec.json.decode(msgspec.json.encode(signature), type=Signature)
    assert pages(travelled, PageSettings("iris")) == pages(signature, PageSettings("iris"))


def test_every_route_and_status_is_there() -> None:
    api = document(SIGNATURES["named rows"], health="/healthz")
    assert set(api["paths"]) == {
        *("/predict", "/health", "/healthz", "/readyz", "/startupz", "/livez", "/metrics", "/v2"),
        *("/v2/health/live", "/v2/health/ready"),
        *("/v2/models/iris", "/v2/models/iris/ready", "/v2/models/iris/infer"),
        *(f"/v2/models/iris/versions/1{rest}" for rest in ("", "/ready", "/infer")),
    }
    predict = api["paths"]["/predict"]["post"]["responses"]
    assert set(predict) == STATUSES
    assert set(predict["429"]["headers"]) == set(predict["503"]["headers"]) == {"Retry-After"}
    assert "security" not in api
    for status in STATUSES - {"200"}:
        assert predict[status]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


def test_what_is_off_is_not_there() -> None:
    api = document(SIGNATURES["named rows"], inference=False, metrics=False, formats=())
    assert set(api["paths"]) == {"/predict", "/health", "/readyz", "/startupz", "/livez"}
    assert set(api["paths"]["/predict"]["post"]["requestBody"]["content"]) == {"application/json"}


def test_with_keys_all_but_health_asks_for_one() -> None:
    api = document(SIGNATURES["text"], keys=True, open_metrics=True)
    assert api["security"] == [{"bearer": []}, {"header": []}]
    free = {
        path for path, item in api["paths"].items() for operation in item.values() if operation.get("security") == []
    }
    assert free == {path for path in api["paths"] if re.search("ready|live|health|start|metrics", path)}
    for path, item in api["paths"].items():
        for operation in item.values():
            assert ("401" in operation["responses"]) == (path not in free)


@pytest.mark.parametrize(
    ("signature", "good", "bad"),
    [
        (
            "named rows",
            [
                *(ROW, [ROW, ROW], RECORD, [RECORD, ROW], {"instances": [RECORD], "predict_proba": True}),
                *({"inputs": ROW}, {"inputs": RECORD}, {"instances": [ROW], "parameters": {"a": 1}}),
                {name: [1, 2] for name in NAMES},
                {"columns": {name: [1] for name in NAMES}},
                {"columns": list(NAMES[::-1]), "data": [ROW]},
                {"dataframe_records": [RECORD]},
                {"dataframe_split": {"columns": list(NAMES), "data": [ROW]}},
            ],
            [
                *([], {}, ROW[:3], [ROW[:3]], "text", {"instances": []}, {"instances": [RECORD], "more": 1}),
                *(
                    {**RECORD, "more": 1},
                    {"instances": [ROW], "inputs": [ROW]},
                    {"instances": [ROW], "predict_proba": 1},
                ),
            ],
        ),
        ("rows", [ROW, [ROW], {"instances": [ROW]}], [ROW[:2], [[*ROW, 1]], {"a": 1}]),
        ("text", ["a", ["a", "b"], {"instances": ["a"]}, {"inputs": "a"}], [1, [1], [["a"]], {"instances": "a"}]),
        ("tensor", [{"instances": [[[1, 2, 3]]]}], [{"instances": [[[1, 2]]]}, {"instances": [[[1, 2, 256]]]}]),
        (
            "tensors",
            [{"instances": [{"ids": [1, 2, 3], "mask": [True, False, True]}]}],
            [{"instances": [{"ids": [1, 2, 3]}]}, {"instances": [{"ids": [1, 2, 3], "mask": [1, 0, 1]}]}],
        ),
        ("image", [{"instances": ["aGk="]}, {"instances": [{"b64": "aGk="}]}], [{"instances": [1]}]),
        ("any", [[1], [{"a": [None]}], {"instances": ["x"]}], [{"instances": []}]),
    ],
)
def test_the_schema_tells_good_bodies_from_bad_ones(signature: str, good: list[Any], bad: list[Any]) -> None:
    api = document(SIGNATURES[signature])
    assert [body for body in good if not accepts(api, "PredictRequest", body)] == []
    assert [body for body in bad if accepts(api, "PredictRequest", body)] == []


@pytest.mark.parametrize(
    ("signature", "request_body", "instance"),
    [
        ("named rows", ROW, RECORD),
        ("named rows", [ROW, ROW], RECORD),
        ("named rows", {"instances": [ROW], "predict_proba": True}, RECORD),
        ("named rows", {"inputs": RECORD}, RECORD),
        ("rows", ROW, ROW),
        ("text", {"instances": ["a golden one"]}, "a golden one"),
        ("text", None, "Once upon a time"),
        ("any", [{"a": 1}], {"a": 1}),
    ],
)
def test_examples_come_from_what_the_model_is_known_to_answer(
    signature: str, request_body: Any, instance: Any
) -> None:
    api = document(SIGNATURES[signature], request=request_body)
    content = api["paths"]["/predict"]["post"]["requestBody"]["content"]
    example = content["application/json"]["examples"]["known"]["value"]
    assert example == {"instances": [instance]}
    assert accepts(api, "PredictRequest", example)
    if signature == "named rows":
        assert content["text/csv"]["example"] == ",".join(NAMES) + "\n5.1,3.5,1.4,0.2\n"


def test_columns_of_texts_are_known_by_the_example() -> None:
    api = document(Signature("rows", names=("city", "age"), features=2, example={"city": "Ulm", "age": 3}))
    cells = api["components"]["schemas"]["Instance"]["properties"]
    assert "string" in cells["city"]["type"]
    assert cells["age"]["type"] == ["number", "null"]


def test_tensors_of_the_inference_protocol_have_an_example() -> None:
    one = {"ids": [1, 2, 3], "mask": [True, True, False]}
    api = document(SIGNATURES["tensors"], request={"instances": [one]})
    body = api["paths"]["/v2/models/iris/infer"]["post"]["requestBody"]["content"]["application/json"]
    example = body["examples"]["known"]["value"]
    assert example["inputs"][0] == {"name": "ids", "shape": [1, 3], "datatype": "INT64", "data": [1, 2, 3]}
    assert accepts(api, "InferRequest", example)


def test_the_examples_are_answered() -> None:
    iris = load_iris(as_frame=True)
    engine = SklearnEngine(LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target]))
    api = msgspec.json.decode(pages(engine.signature, PageSettings("iris", request=ROW))["/openapi.json"].body)
    answering = Answering(engine, "iris", "sklearn", Log(io.StringIO()))
    bodies = {
        "predict": api["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"],
        "infer": api["paths"]["/v2/models/iris/infer"]["post"]["requestBody"]["content"]["application/json"],
    }
    for protocol, body in bodies.items():
        answer = answering.answer(Call(protocol, msgspec.json.encode(body["examples"]["known"]["value"])))
        assert (answer.status, b'"setosa"' in answer.body) == (200, True), answer
    csv = api["paths"]["/predict"]["post"]["requestBody"]["content"]["text/csv"]["example"]
    assert b"setosa" in answering.answer(Call("predict", csv.encode(), "text/csv")).body


def test_an_answer_fits_its_schema() -> None:
    api = document(SIGNATURES["named rows"])
    assert accepts(api, "PredictAnswer", {"predictions": ["a"], "probabilities": [[1, 0]], "classes": ["a", "b"]})
    assert not accepts(api, "PredictAnswer", {"predictions": ["neither"]})
    assert not accepts(api, "PredictAnswer", {"error": "no"})


def test_equal_models_have_equal_pages_and_others_another_tag() -> None:
    one, same, other = (pages(SIGNATURES["text"], PageSettings(name)) for name in ("a", "a", "b"))
    assert one == same
    assert one["/openapi.json"].etag != other["/openapi.json"].etag
    assert one["/"] == other["/"] == shell()["/"]


def test_a_page_that_the_browser_has_is_not_sent_again() -> None:
    page = shell()["/"]
    assert (b"etag", page.etag) in page.headers
    assert page.unchanged(page.etag)
    assert page.unchanged(b'"other", W/' + page.etag)
    assert page.unchanged(b"*")
    assert not page.unchanged(b"")
    assert not page.unchanged(b'"other"')


def test_pages_are_small_and_name_no_other_server() -> None:
    table = shell()
    assert {"/", "/docs", "/assets/try.js", "/assets/style.css"} <= set(table)
    assert sum(len(page.body) for page in table.values()) < 70_000
    for path, page in table.items():
        assert not re.search(rb"(?:https?:)?//[\w-]+\.\w", page.body.replace(b"http://www.w3.org/2000/svg", b"")), (
            path
        )
        assert page.public
        assert b"unsafe" not in dict(page.headers).get(b"content-security-policy", b"")
    assert not pages(SIGNATURES["text"], PageSettings("a"))["/openapi.json"].public


def test_who_serves_the_pages_needs_no_library_of_models() -> None:
    program = (
        "import sys; from lightship_runtime.pages import *; from lightship_runtime.engines.engine import Signature; "
        "pages(Signature(), PageSettings('a')); print(*sys.modules.keys() & {'numpy', 'sklearn', 'uvicorn', 'email'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_bodies_made_from_the_document_get_no_answer_that_it_does_not_name(tmp_path: Path) -> None:
    iris = load_iris(as_frame=True)
    engine = SklearnEngine(LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target]))
    settings = PageSettings("iris", request=ROW, inference=False, metrics=False, formats=())
    with served(Site(engine, settings)) as site:
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{site.url}openapi.json"),
            *("--include-path-regex", "^/(predict|readyz)$", "--max-examples", "60", "--seed", "4"),
            *("--checks", checks, "--phases", "examples,coverage,fuzzing", "--no-color"),
        ]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert len(site.asked) > 100
