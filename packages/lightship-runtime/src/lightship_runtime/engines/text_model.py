"""What the builder knows of a model of texts that it converted to ONNX, kept in the file's metadata.

lightship.signature    the signature of the model before, as JSON
lightship.text         a TextModel, as JSON: what becomes of a text before and after the graph
lightship.tokenizer    tokenizer.json of the `tokenizers` library, its truncation set to what the model reads
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from lightship_runtime.engines.converted import SIGNATURE
from lightship_runtime.engines.engine import Signature
from lightship_runtime.errors import StartError

TEXT = "lightship.text"
TOKENIZER = "lightship.tokenizer"


class TextModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How texts go in and answers come out.

    Attributes:
        task: What the graph's output is: `scores`, a score for each label; `tokens`, such scores for each token;
            `states`, a vector for each token; `vector`, one for the text.
        pad: The token that fills up shorter texts of a batch.
        pad_type: Its token type.
        pad_left: Whether it goes before the text.
        labels: The labels of tokens, in the order of their scores.
        unknown: The token for what the tokenizer does not know.
        strip: Whether white space around a text is taken off.
        lower: Whether texts become lower case.
        prompts: What may be put before a text, by name.
        prompt: The name of the one that is put there unless another is asked for.
    """

    task: Literal["scores", "tokens", "states", "vector"]
    pad: int = 0
    pad_type: int = 0
    pad_left: bool = False
    labels: tuple[str, ...] = ()
    unknown: int | None = None
    strip: bool = False
    lower: bool = False
    prompts: dict[str, str] = {}
    prompt: str | None = None


def read_text_model(metadata: Mapping[str, str]) -> tuple[Signature, TextModel, str]:
    """The signature, the text model and tokenizer.json. Raises StartError where one is missing or damaged."""
    try:
        signature = msgspec.json.decode(metadata[SIGNATURE], type=Signature)
        return signature, msgspec.json.decode(metadata[TEXT], type=TextModel), metadata[TOKENIZER]
    except (KeyError, msgspec.DecodeError) as error:
        raise StartError(
            f"The model is not one of texts that the builder converted: {error} in its metadata.",
            hint="Build the image again; a model of your own that takes tensors is run by the engine onnxruntime.",
        ) from error
