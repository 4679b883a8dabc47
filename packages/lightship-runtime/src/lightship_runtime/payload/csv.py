"""CSV (RFC 4180, UTF-8, commas), in and out of `POST /predict`.

In: a line per instance. A header is recognised by the model's column names, or, for a model without names, by its
having no number; `Content-Type: text/csv; header=present` (or `absent`) says so for certain. An empty cell and `NaN`
are missing values. What reads as a number in decimal is one, unless the model takes texts in that column.

Out: a header and a line per instance: `prediction` (`prediction_0` and so on, where it is several numbers), and
`probability_<class>` where probabilities were asked for. NaN is an empty cell; what is no scalar is written as JSON.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from lightship_runtime.engines.engine import Prediction, Signature
from lightship_runtime.payload.call import Answer, RequestError
from lightship_runtime.payload.columns import Column, answer_columns
from lightship_runtime.payload.json import plain
from lightship_runtime.payload.media import MediaType, text_of
from lightship_runtime.payload.parsed import Content, ServedModel, bounded
from lightship_runtime.payload.tables import column_names, from_split

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,300}")
_NUMBERS = msgspec.json.Decoder(list[list[int | float]])


def read(body: bytes, kind: MediaType, signature: Signature) -> Content:
    """The instances in a body. Raises RequestError where it is malformed, or its columns are not the model's."""
    declared = kind.parameters.get("header")
    if declared not in (None, "present", "absent"):
        raise RequestError("The parameter `header` of text/csv is present or absent.", 415)
    bounded(max(body.count(b"\n"), body.count(b"\r")))
    names = column_names(signature)
    texts = {one.name for one in signature.inputs if one.datatype == "BYTES"}  # stay texts, whatever they look like
    if signature.rows and not texts and (rows := _all_numbers(body, declared, names, signature)) is not None:
        return Content(rows)
    lines = _lines(text_of(body, kind))
    if not lines:
        return Content([])
    if signature.kind == "text":
        return Content(_column(lines, declared == "present"))
    if declared == "present" or (declared is None and _is_header(lines, names)):
        return Content(from_split(lines[0], _values(lines[1:], lines[0], texts), signature))
    return Content(_checked(_values(lines, names or (), texts), signature))


def write(prediction: Prediction, model: ServedModel) -> Answer:
    """The answer as CSV. Raises TypeError where a prediction is nothing that JSON can express."""
    columns = answer_columns(prediction, model)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    writer.writerows(zip(*(_cells(column) for column in columns)))  # noqa: B905  # lengths are equal
    return Answer(200, file.getvalue().encode(), "text/csv; charset=utf-8; header=present")


def _all_numbers(
    body: bytes, declared: str | None, names: Sequence[str] | None, signature: Signature
) -> list[list[Any]] | None:
    """The rows, where all cells are numbers as JSON writes them: its decoder is 30 times as fast as a CSV reader."""
    if declared != "present" and (rows := _quick(body)) is not None:
        return (
            None if declared is None and _is_header([list(map(str, rows[0]))], names) else _checked(rows, signature)
        )
    end = body.find(b"\n")
    first = body[: max(end, 0)]
    if declared == "absent" or not first.strip() or b'"' in first:
        return None
    rows = _quick(body[end + 1 :])
    if rows is None:
        return None
    header = _lines(text_of(first, MediaType("text/csv", {})))[0]
    if declared is None and not _is_header([header, []], names):
        return None
    return from_split(header, rows, signature)


def _quick(body: bytes) -> list[list[Any]] | None:
    if b"[" in body or b"]" in body:
        return None
    lines = b"],[".join(line for line in body.splitlines() if line)
    try:
        return _NUMBERS.decode(b"[[" + lines + b"]]") if lines else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _lines(text: str) -> list[list[str]]:
    try:
        return [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise RequestError("The body is not valid CSV.") from error


def _checked(rows: list[list[Any]], signature: Signature) -> list[list[Any]]:
    width = (signature.rows and signature.features) or len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise RequestError(f"Row {number} has {len(row)} values; {width} are expected.")
    return rows


def _column(lines: list[list[str]], header: bool) -> list[str]:
    if any(len(line) != 1 for line in lines):
        raise RequestError("This model takes texts: every line must have one cell (in quotes, if it has commas).")
    return [line[0] for line in lines[header:]]


def _is_header(lines: list[list[str]], names: Sequence[str] | None) -> bool:
    if names is not None:
        return set(names) <= set(lines[0]) or any(cell in names and not _NUMBER.fullmatch(cell) for cell in lines[0])
    return len(lines) > 1 and all(cell and not _NUMBER.fullmatch(cell) for cell in lines[0])


def _values(lines: list[list[str]], names: Sequence[str], texts: set[str]) -> list[list[Any]]:
    as_text = {place for place, name in enumerate(names) if name in texts}
    if not as_text:
        return [[_value(cell) for cell in line] for line in lines]
    return [[cell if place in as_text else _value(cell) for place, cell in enumerate(line)] for line in lines]


def _value(cell: str) -> int | float | str | None:
    stripped = cell.strip(" \t")
    if not stripped or stripped in ("NaN", "nan"):
        return None
    if _WHOLE.fullmatch(stripped):
        return int(stripped)
    if _NUMBER.fullmatch(stripped):
        value = float(stripped)
        if value in (float("inf"), float("-inf")):
            raise RequestError("A number is out of range.")
        return value
    return cell


def _cells(column: Column) -> list[Any]:
    values = column.values if isinstance(column.values, list) else column.values.tolist()
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    if value is None or value != value:  # noqa: PLR0124  # NaN is not equal to itself
        return ""
    if type(value) in (str, int, float):
        return value
    return msgspec.json.encode(value, enc_hook=plain).decode()
