"""Tables with named columns become rows in the model's own order, whichever way the columns were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightship_runtime.engines.engine import Signature
from lightship_runtime.payload.call import RequestError


def from_columns(columns: Mapping[str, Sequence[Any]], signature: Signature) -> list[Any]:
    """One sequence of values per column. Raises RequestError where lengths differ or columns do not fit."""
    if not columns:
        raise RequestError("There are no columns.")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise RequestError("The columns must have equal lengths.")
    if not signature.rows:
        names = list(columns)
        return [dict(zip(names, row)) for row in zip(*columns.values())]  # noqa: B905  # lengths are equal
    return [list(row) for row in zip(*(columns[name] for name in column_order(list(columns), signature)))]  # noqa: B905


def from_split(names: Sequence[str], rows: Sequence[Sequence[Any]], signature: Signature) -> list[Any]:
    """The columns' names once, then rows. Raises RequestError where a row's length or the columns do not fit."""
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise RequestError(f"Row {number} has {len(row)} values for {len(names)} columns.")
    order = column_order(names, signature)
    if not signature.rows:
        return [dict(zip(names, row)) for row in rows]  # noqa: B905  # lengths are equal
    if list(names) == order:
        return [list(row) for row in rows]
    places = [names.index(name) for name in order]
    return [[row[place] for place in places] for row in rows]


def column_order(names: Sequence[str], signature: Signature) -> list[str]:
    """The names in the order that the model wants. Raises RequestError where one is missing, twice, or too many.

    A model trained without names takes the columns as they come; it only knows how many there are.
    """
    if len(set(names)) != len(names):
        raise RequestError("A column is there twice.")
    wanted = column_names(signature)
    if not signature.rows or wanted is None:
        if signature.rows and signature.features not in (None, len(names)):
            raise RequestError(f"There are {len(names)} columns; the model takes {signature.features}.")
        return list(names)
    given = set(names)
    missing = [name for name in wanted if name not in given]
    if missing:
        raise RequestError(f"The column {missing[0]!r} is missing.")
    if len(names) > len(wanted):
        raise RequestError("There are columns that the model does not know.")
    return list(wanted)


def column_names(signature: Signature) -> tuple[str, ...] | None:
    """What a table's columns are called: as the model was trained, or one input per column; None if nobody knows."""
    if signature.names is not None:
        return signature.names
    if signature.rows and len(signature.inputs) > 1:
        return tuple(one.name for one in signature.inputs)
    return None
