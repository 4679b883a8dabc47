"""A body that the model is known to answer: the golden request's instance, else the engine's own example."""

from __future__ import annotations

import csv
import io
from typing import Any

from lightship_runtime.engines.engine import Signature
from lightship_runtime.payload.tables import column_names


def known_instance(signature: Signature, body: Any) -> Any:
    """One instance: the first of a known body, else the engine's, which may be mere zeros; None if there is none."""
    one = _first(signature, body)
    if one is None:
        one = signature.example
    names = column_names(signature)
    if names and isinstance(one, list) and len(one) == len(names):
        return dict(zip(names, one))  # noqa: B905  # equally long
    return one


def known_body(signature: Signature, body: Any) -> Any:
    """A body of `POST /predict`, as people would write it; None where nobody knows one."""
    one = known_instance(signature, body)
    return body if one is None else {"instances": [one]}


def known_csv(signature: Signature, body: Any) -> str | None:
    """The same as CSV; None where the columns have no names, or nobody knows one."""
    one = known_instance(signature, body)
    if not isinstance(one, dict) or not signature.rows:
        return None
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([one.keys(), one.values()])
    return written.getvalue()


def _first(signature: Signature, body: Any) -> Any:
    """The first instance of a body in one of its plain forms."""
    if signature.kind == "text" and isinstance(body, dict) and body.keys().isdisjoint(("instances", "inputs")):
        return None  # a request of another form, such as one for text
    if isinstance(body, dict) and len(body) <= 3 and ("instances" in body or "inputs" in body):
        body = body.get("instances", body.get("inputs"))
    if not isinstance(body, list):
        plain = isinstance(body, dict) and not any(isinstance(value, (list, dict)) for value in body.values())
        return body if plain or isinstance(body, str) else None  # objects of lists may be columns, or tensors
    if signature.rows and not any(isinstance(value, (list, dict)) for value in body):
        return body or None
    return body[0] if body else None
