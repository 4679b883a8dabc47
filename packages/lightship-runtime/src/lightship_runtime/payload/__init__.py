"""Bodies: from a request's bytes to instances, from predictions to an answer's bytes. One file per format.

Runs in the process that has the model. May import `engines.engine`; libraries of a format inside functions only.
"""

from lightship_runtime.payload.call import Answer, Call, RequestError
from lightship_runtime.payload.json import encode_answer, parse_request, wants_probabilities

__all__ = ["Answer", "Call", "RequestError", "encode_answer", "parse_request", "wants_probabilities"]

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedModel:
    name: str
    signature: object
    version: str = "1"
    platform: str = ""


@dataclass(frozen=True)
class Parsed:
    instances: object
    options: object
    reply: object
    count: int


def parse(call, model):
    from lightship_runtime.engines.engine import Options

    r = parse_request(call.body, model.signature, probabilities=wants_probabilities(call.query.encode()))
    return Parsed(r.instances, Options(r.probabilities), lambda p, m: Answer(200, encode_answer(p)), len(r.instances))
