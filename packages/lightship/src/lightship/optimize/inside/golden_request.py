"""The golden request as the server in the image will be asked."""

from __future__ import annotations

import msgspec

from lightship_runtime.engines import Engine
from lightship_runtime.golden import Golden
from lightship_runtime.payload import Call, RequestError, ServedModel, encode, parse


def golden_call(golden: Golden) -> Call:
    """The request, before it is read."""
    path, _, query = golden.path.partition("?")
    return Call("embeddings" if path == "/v1/embeddings" else "predict", golden.body, query=query)


def golden_differences(engine: Engine, golden: Golden) -> list[str]:
    """How an engine's answer differs from the golden one."""
    model = ServedModel("model", engine.signature)
    try:
        asked = parse(golden_call(golden), model)
    except RequestError as error:
        return [f"the request is refused: {error.message}"]
    answer = encode(asked, engine.predict(asked.instances, asked.options), model)
    return golden.differences(msgspec.json.decode(answer.body))
