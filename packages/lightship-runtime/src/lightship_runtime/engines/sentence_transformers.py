"""sentence-transformers folders: one vector per text, exactly as `SentenceTransformer.encode` gives it.

A request may say `normalize` (true or false), and `prompt_name` where the folder has prompts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
    TensorSpec,
)
from lightship_runtime.engines.gpu import gpu_is_there
from lightship_runtime.engines.transformers import TransformersEngine
from lightship_runtime.errors import IntegrityError

BATCH = 32  # as the library's own default


class SentenceTransformersEngine(Engine):
    """A `SentenceTransformer`, on the GPU where there is one."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers", "sentence_transformers")
    environment: ClassVar[Mapping[str, str]] = TransformersEngine.environment
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "one thread"  # as PyTorch

    def __init__(self, model: Any) -> None:
        self._model = model
        # Of version 5.4; before, the method had a longer name.
        size = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        self._signature = Signature(
            kind="text",
            inputs=(TensorSpec("input", "BYTES", (-1,)),),
            outputs=(TensorSpec("predictions", "FP32", (-1, size() or -1)),),
            example="This is a text.",
        )

    @classmethod
    def forking(cls) -> Fork:
        return "never" if gpu_is_there() else cls.fork

    @classmethod
    def load(cls, source: ModelSource) -> SentenceTransformersEngine:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(source.threads)
        pickled = sorted(
            str(file.relative_to(source.path))
            for file in source.path.rglob("*.bin")
            if not file.with_name("model.safetensors").is_file()
        )
        if pickled and not source.model.trust:
            raise IntegrityError(
                f"{source.model.path} has pickled weights, which can run code when they are loaded: "
                f"{', '.join(pickled[:5])}.",
                hint="Save the model again with save_pretrained(), which writes safetensors; or trust it.",
            )
        if pickled:
            warnings.warn(f"{source.model.path} may run code of its author: {', '.join(pickled[:5])}.", stacklevel=2)
        model = SentenceTransformer(str(source.path), local_files_only=True, trust_remote_code=source.model.trust)
        model.eval().requires_grad_(requires_grad=False)
        return cls(model)

    @property
    def model(self) -> Any:
        """The library's own object, which the builder converts."""
        return self._model

    @property
    def signature(self) -> Signature:
        return self._signature

    def predict(self, instances: Instances, options: Options) -> Prediction:
        texts = list(instances)
        if not all(isinstance(one, str) for one in texts):
            raise BadInstances("Every instance must be a text.")
        vectors = self._model.encode(
            texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, **self._arguments(options)
        )
        return Prediction(vectors, tokens=self._tokens(texts) if options.tokens else None)

    def _tokens(self, texts: list[str]) -> list[int] | None:
        """How many tokens of each text the model reads; None for modules without a tokenizer of the usual kind."""
        tokenizer = getattr(self._model, "tokenizer", None)
        if not callable(tokenizer):
            return None
        most = self._model.max_seq_length
        found = tokenizer(texts, truncation=most is not None, max_length=most)["input_ids"]
        return [len(one) for one in found]

    def set_threads(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def _arguments(self, options: Options) -> dict[str, Any]:
        given = dict(options.parameters)
        arguments: dict[str, Any] = {}
        if (normalize := given.pop("normalize", None)) is not None:
            if not isinstance(normalize, bool):
                raise BadInstances("normalize is true or false.")
            arguments["normalize_embeddings"] = normalize
        if (prompt := given.pop("prompt_name", None)) is not None:
            if prompt not in self._model.prompts:
                raise BadInstances(f"prompt_name is one of {', '.join(self._model.prompts) or 'none: it has none'}.")
            arguments["prompt_name"] = prompt
        if given:
            raise BadInstances("This model knows the parameters normalize and prompt_name.")
        return arguments
