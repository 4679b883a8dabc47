"""What a URL's query says about a prediction; other names in it are left to proxies and tracers."""

from __future__ import annotations

from urllib.parse import parse_qs

from lightship_runtime.payload.call import RequestError

_MAX_FIELDS = 32


def wants_probabilities(query: str) -> bool:
    """Whether a query such as `predict_proba=true` asks for probabilities. Raises RequestError."""
    return _flag(query, "predict_proba")


def wants_parts(query: str) -> bool:
    """Whether a query such as `stream=true` asks for the answer in parts. Raises RequestError."""
    return _flag(query, "stream")


def _flag(query: str, name: str) -> bool:
    if not query:
        return False
    try:
        values = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS).get(name, [])
    except ValueError as error:
        raise RequestError("The query is malformed.") from error
    if any(value.lower() not in ("", "1", "true", "0", "false") for value in values):
        raise RequestError(f"{name} is true or false.")
    return bool(values) and values[-1].lower() not in ("0", "false")
