"""Chat templates: a conversation becomes the prompt that a model was trained on.

A template is a program in Jinja that comes with the model. It runs in Jinja's immutable sandbox, which keeps it from
Python's objects (CVE-2024-34359: a template without one ran code), and its size and its result have bounds. What
it may use is what transformers gives it: `raise_exception`, `strftime_now`, `tojson`, `{% generation %}` and loop
controls.
Its author can still make it slow, as he can his model; a request cannot, for nothing of a request is a template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lightship_runtime.engines.engine import BadInstances
from lightship_runtime.errors import StartError

LONGEST_TEMPLATE = 1 << 20  # characters; real ones have some thousands
LONGEST_PROMPT = 16 << 20  # characters; a context of a million tokens is about a quarter of it
_MAX_CONFIG = 64 << 20  # bytes; tokenizer_config.json lists every added token


class _Refused(Exception):  # not an error of ours: what `raise_exception` raises
    """The template does not take this conversation."""


class ChatTemplate:
    """One compiled template, and the special tokens that it may name."""

    def __init__(
        self, source: str, tokens: Mapping[str, str] | None = None, now: Callable[[], datetime] = datetime.now
    ) -> None:
        """Raises StartError for what is no template."""
        from jinja2 import TemplateError, meta, nodes

        if len(source) > LONGEST_TEMPLATE:
            raise StartError(f"The chat template has {len(source)} characters; {LONGEST_TEMPLATE} are the most.")
        environment = _environment(now)
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise StartError(
                f"The chat template cannot be read: {type(error).__name__}: {error}.",
                hint="Take the template of the model's own tokenizer, chat_template.jinja.",
            ) from error
        self._tokens = dict(tokens or {})
        # A text that stands in the template may be shown to a client; one that it has put together may quote it.
        self._reasons = {
            argument.value
            for call in tree.find_all(nodes.Call)
            if isinstance(call.node, nodes.Name) and call.node.name == "raise_exception"
            for argument in call.args
            if isinstance(argument, nodes.Const) and isinstance(argument.value, str)
        }
        self.tools = "tools" in meta.find_undeclared_variables(tree)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt, with the beginning of the model's own message at its end. Raises BadInstances."""
        variables = {
            **self._tokens,
            "messages": [dict(message) for message in messages],
            "tools": [dict(tool) for tool in tools] or None,
            "documents": None,
            "add_generation_prompt": True,
        }
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate(variables):
                length += len(part)
                if length > LONGEST_PROMPT:
                    raise BadInstances("The chat template makes too long a prompt of these messages.")
                parts.append(part)
        except BadInstances:
            raise
        except _Refused as error:
            reason = str(error)
            shown = f": {reason[:200]}" if reason in self._reasons else "."
            raise BadInstances(f"The chat template refuses these messages{shown}") from error
        except Exception as error:  # whatever a template can run into: a role it does not know, a content it expects
            raise BadInstances("The chat template cannot do with these messages.") from error
        return "".join(parts)


def folder_template(folder: Path) -> ChatTemplate | None:
    """The chat template of a Hugging Face folder; None where it has none. Raises StartError."""
    config = _json(folder / "tokenizer_config.json")
    source = config.get("chat_template")
    if isinstance(source, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        source = named.get("default")
    file = folder / "chat_template.jinja"
    if file.is_file():
        with file.open(encoding="utf-8", errors="replace") as opened:
            source = opened.read(LONGEST_TEMPLATE + 1)
    return ChatTemplate(source, _special_tokens(config)) if isinstance(source, str) else None


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    tokens = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_CONFIG))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise StartError(f"{path.name} cannot be read: {error}.", hint="Copy the model's folder again.") from error
    return content if isinstance(content, dict) else {}


def _environment(now: Callable[[], datetime]) -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):  # type: ignore[misc]  # jinja2 is not there where types are checked
        """`{% generation %}` marks what the model has written, for training: here its content is just there."""

        tags = {"generation"}  # noqa: RUF012  # as Jinja has it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    class Bounded(ImmutableSandboxedEnvironment):  # type: ignore[misc]
        """The sandbox, in which no single operation makes a huge value: neither 'a' * 10**9 nor 9 ** 9 ** 9."""

        intercepted_binops = frozenset(("*", "**", "%"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
            if operator != "*" and not numbers:
                raise _Refused("only numbers have this operator here")  # '%999999999d' % 1 is a huge text
            if operator == "**" and (abs(left) > 1 << 16 or abs(right) > 64):
                raise _Refused("too large a power")
            if operator == "*" and not numbers and _size(left) * _size(right) > LONGEST_TEMPLATE:
                raise _Refused("too long a repetition")
            return super().call_binop(context, operator, left, right)

    def refuse(message: object = "") -> None:
        raise _Refused(str(message))

    environment = Bounded(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols], autoescape=False
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: now().strftime(str(form)[:100])
    return environment


def _size(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else abs(int(value))


def _to_json(value: Any, indent: int | None = None, **more: Any) -> str:
    """JSON as models were trained on it: not escaped for HTML, as Jinja's own filter would."""
    allowed = {name: more[name] for name in ("separators", "sort_keys") if name in more}
    return json.dumps(value, ensure_ascii=False, indent=min(indent, 16) if indent else indent, **allowed)
