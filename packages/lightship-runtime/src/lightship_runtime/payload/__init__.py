"""Bodies: from a request's bytes to instances, from predictions to an answer's bytes. One file per format.

Runs in the process that has the model. May import `engines.engine`; libraries of a format inside functions only.
"""

from lightship_runtime.payload.call import Answer, Call, RequestError
from lightship_runtime.payload.json import encode_answer, parse_request, wants_probabilities

__all__ = ["Answer", "Call", "RequestError", "encode_answer", "parse_request", "wants_probabilities"]
