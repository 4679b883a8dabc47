"""Reading the bodies of OpenAI's API: what is wrong is said with the member's name.

A member that changes nothing of the answer (`user`, `metadata`) is taken and left alone; one that would change it and
cannot be had is refused, unless it asks for what happens anyway; one that OpenAI does not know either is refused as
OpenAI does, so that a misspelt name is noticed.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from lightship_runtime.payload.call import RequestError

Body = TypeVar("Body", bound=msgspec.Struct)
_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`")
_MISSING = re.compile(r"^Object missing required field `(.*)`")
_SHOWN = 60  # characters of a name that a client has sent


def read(body: bytes, kind: type[Body]) -> Body:
    """A body as a Struct. Raises RequestError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError("The body is not valid JSON.") from error
    except RecursionError as error:
        raise RequestError("The body is nested too deeply.") from error


def invalid(error: msgspec.ValidationError) -> RequestError:
    """The error for a body whose members are not what they must be, with the member's name."""
    text = str(error)
    place = _PLACE.search(text)
    inner = place[1] if place else ""
    why = _PLACE.sub("", text)
    if found := _UNKNOWN.match(why):
        name = _shown(f"{inner}.{found[1]}" if inner else found[1])
        return RequestError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    if found := _MISSING.match(why):
        name = f"{inner}.{found[1]}" if inner else found[1]
        return RequestError(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    if not inner:
        return RequestError("The body must be a JSON object.")
    param = _shown(inner)
    if why.startswith("Invalid"):  # these quote the value
        why = "It is none of the values that are allowed"
    return RequestError(f"Invalid '{param}': {why}.", param=param, code="invalid_value")


def unsupported(param: str, why: str) -> RequestError:
    """The error for what this server or this model cannot do."""
    return RequestError(f"Unsupported parameter: '{param}'. {why}", param=param, code="unsupported_parameter")


def check_model(given: str | None, name: str) -> None:
    """Raises RequestError (404) where a request is for another model than the one that is here."""
    if given is not None and given != name:
        raise no_such_model(name)


def no_such_model(name: str) -> RequestError:
    """The error for a model that is not here."""
    return RequestError(
        f"There is no such model. This server has '{name}'.", 404, param="model", code="model_not_found"
    )


def neutral(value: Any, *allowed: Any) -> bool:
    """Whether a member asks for nothing but what happens anyway: null, nothing, or one of `allowed`."""
    return value is None or value in ([], {}, "") or any(value == one for one in allowed)


def _shown(name: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in name[:_SHOWN])
