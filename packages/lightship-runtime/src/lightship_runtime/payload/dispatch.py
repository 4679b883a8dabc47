"""From a Call to instances, and from a prediction to an Answer: the two doors of this room."""

from __future__ import annotations

from lightship_runtime.engines.engine import Prediction
from lightship_runtime.payload.call import Answer, Call, RequestError
from lightship_runtime.payload.formats import parse_predict
from lightship_runtime.payload.infer import parse_infer
from lightship_runtime.payload.json import write_error
from lightship_runtime.payload.parsed import Parsed, ServedModel


def parse(call: Call, model: ServedModel) -> Parsed:
    """What a request wants. Raises RequestError, and nothing else, whatever the body is."""
    if call.protocol == "predict":
        return parse_predict(call, model)
    if call.protocol == "infer":
        return parse_infer(call, model)
    if call.protocol == "embeddings":
        from lightship_runtime.payload.embeddings import parse_embeddings

        return parse_embeddings(call, model)
    if call.protocol != "grpc":
        raise RequestError("This model writes no text.", 404)
    from lightship_runtime.payload.grpc import parse_grpc

    return parse_grpc(call, model)


def encode(parsed: Parsed, prediction: Prediction, model: ServedModel) -> Answer:
    """The answer, in the form that the request wants.

    The prediction is that of this request alone: as many as `parsed.count`. Raises an exception of any kind where
    the model gave what cannot be written; that is the model's failure (500), not the request's.
    """
    if len(prediction.predictions) != parsed.count:
        raise RuntimeError(f"{len(prediction.predictions)} predictions for {parsed.count} instances")
    try:
        return parsed.reply(prediction, model)
    except RequestError as error:  # such as a form that needs a library which is not in the image
        return write_error(error)
