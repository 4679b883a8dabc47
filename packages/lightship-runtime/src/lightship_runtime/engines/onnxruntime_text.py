"""Models of texts that the builder converted to ONNX: `tokenizers` and ONNX Runtime answer what transformers would.

What goes in and comes out is the engine's of the model before: transformers.py (see transformers_tasks.py) or
sentence_transformers.py, with the same parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lightship_runtime.engines.engine import (
    BadInstances,
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
)
from lightship_runtime.engines.gpu import gpu_is_there
from lightship_runtime.engines.onnxruntime import SMALL, OnnxEngine, make_session
from lightship_runtime.engines.text_entities import STRATEGIES, Words, entities
from lightship_runtime.engines.text_model import TextModel, read_text_model
from lightship_runtime.errors import StartError

if TYPE_CHECKING:
    import numpy

BATCH = 32  # texts in one pass through the network, as with transformers
_TOKENS = 4096  # of one pass, in which memory grows with the square of the longest text
_PARAMETERS = {
    "scores": (),
    "tokens": ("aggregation_strategy",),
    "states": ("pooling",),
    "vector": ("normalize", "prompt_name"),
}


class OnnxTextEngine(Engine):
    """A tokenizer and an `InferenceSession`. Texts of a request that are about as long share a pass."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime", "tokenizers")
    environment: ClassVar[Mapping[str, str]] = {
        **OnnxEngine.environment,
        "TOKENIZERS_PARALLELISM": "false",  # its threads do not survive a fork
    }
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = OnnxEngine.fork

    def __init__(self, source: ModelSource) -> None:
        from tokenizers import Tokenizer

        self._source = source
        self._threads = source.threads
        self._session = make_session(source, source.threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._signature, self._text, tokenizer = read_text_model(metadata)
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer)
        except Exception as error:  # the library raises nothing more particular
            raise StartError(f"The tokenizer cannot be read: {error}.", hint="Build the image again.") from error
        self._inputs = frozenset(one.name for one in self._session.get_inputs())

    @classmethod
    def forking(cls) -> Fork:
        return "never" if gpu_is_there() else cls.fork

    @classmethod
    def load(cls, source: ModelSource) -> OnnxTextEngine:
        return cls(source)

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def text_model(self) -> TextModel:
        """How texts go in and answers come out."""
        return self._text

    def predict(self, instances: Instances, options: Options) -> Prediction:
        if not all(isinstance(one, str) for one in instances):
            raise BadInstances("Every instance must be a text.")
        task, given = self._text.task, dict(options.parameters)
        if unknown := sorted(set(given) - set(_PARAMETERS[task])):
            known = ", ".join(_PARAMETERS[task]) or "none"
            raise BadInstances(f"This model knows no parameter {unknown[0][:40]!r}; it knows {known}.")
        if task == "scores":
            return self._classified(self.tokenized(list(instances)), options)
        if task == "tokens":
            return self._entities(list(instances), given.get("aggregation_strategy", "none"))
        if task == "states":
            return self._pooled(self.tokenized(list(instances)), given.get("pooling", "mean"), options)
        prompt = given.get("prompt_name", self._text.prompt)
        if prompt is not None and prompt not in self._text.prompts:
            raise BadInstances(f"prompt_name is one of {', '.join(self._text.prompts) or 'none: it has none'}.")
        normalize = given.get("normalize", False)
        if not isinstance(normalize, bool):
            raise BadInstances("normalize is true or false.")
        before = self._text.prompts[prompt] if prompt is not None else ""
        return self._embedded(self.tokenized([before + one for one in instances]), options, normalize=normalize)

    def set_threads(self, threads: int) -> None:
        """More threads need a session of one's own; a large model stays shared, and keeps the one thread it has."""
        if threads != self._threads and self._source.path.stat().st_size <= SMALL:
            self._session = make_session(self._source, threads)
            self._threads = threads

    def tokenized(self, texts: Sequence[str]) -> list[Any]:
        """The `Encoding` of each text, no longer than the model reads."""
        if self._text.strip:
            texts = [text.strip() for text in texts]
        if self._text.lower:
            texts = [text.lower() for text in texts]
        found: list[Any] = self._tokenizer.encode_batch(list(texts))
        return found

    def _classified(self, encodings: list[Any], options: Options) -> Prediction:
        import numpy

        labels = list(self._signature.classes or ())
        scores: list[Any] = [None] * len(encodings)
        for chosen, _, result in self._passes(encodings):
            for position, row in zip(chosen, result):  # noqa: B905  # one row per text
                scores[position] = row
        best = [int(numpy.argmax(row)) for row in scores]
        told = [{"label": labels[one], "score": float(row[one])} for one, row in zip(best, scores)]  # noqa: B905
        if not options.probabilities:
            return Prediction(told)
        return Prediction(told, [row.tolist() for row in scores], labels)

    def _entities(self, texts: list[str], strategy: Any) -> Prediction:
        if strategy not in STRATEGIES:
            raise BadInstances("aggregation_strategy is none, simple, first, average or max.")
        encodings = self.tokenized(texts)
        prefixed = bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))
        words = Words(self._tokenizer.decoder, prefixed, self._text.unknown)
        found: list[Any] = [None] * len(texts)
        for chosen, mask, result in self._passes(encodings):
            for position, kept, row in zip(chosen, mask, result):  # noqa: B905  # one of each per text
                scores = row[kept == 1]
                found[position] = entities(
                    texts[position], encodings[position], scores, self._text.labels, strategy, words
                )
        return Prediction(found)

    def _pooled(self, encodings: list[Any], pooling: Any, options: Options) -> Prediction:
        import numpy

        if pooling not in ("mean", "cls", "none"):
            raise BadInstances("pooling is mean, cls or none.")
        vectors: list[Any] = [None] * len(encodings)
        for chosen, mask, states in self._passes(encodings):
            weights = mask[:, :, None].astype(states.dtype)
            pooled = states[:, 0]
            if pooling == "mean":
                pooled = (states * weights).sum(axis=1) / numpy.maximum(weights.sum(axis=1), 1e-9)
            for row, position in enumerate(chosen):
                vectors[position] = states[row][mask[row] == 1].tolist() if pooling == "none" else pooled[row]
        tokens = _lengths(encodings) if options.tokens else None
        return Prediction(vectors if pooling == "none" else numpy.stack(vectors), tokens=tokens)

    def _embedded(self, encodings: list[Any], options: Options, *, normalize: bool) -> Prediction:
        import numpy

        found: list[Any] = [None] * len(encodings)
        for chosen, _, result in self._passes(encodings):
            for position, row in zip(chosen, result):  # noqa: B905  # one row per text
                found[position] = row
        vectors = numpy.stack(found)
        if normalize:
            vectors /= numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return Prediction(vectors, tokens=_lengths(encodings) if options.tokens else None)

    def _passes(self, encodings: list[Any]) -> Iterator[tuple[list[int], numpy.ndarray, numpy.ndarray]]:
        """The positions of texts that went through the network together, their masks, and its output."""
        lengths = _lengths(encodings)
        left = sorted(range(len(encodings)), key=lengths.__getitem__)
        while left:
            size = min(BATCH, max(1, _TOKENS // max(1, lengths[left[-1]])))
            chosen, left = left[-size:], left[:-size]
            feed = self._feed([encodings[position] for position in chosen])
            (output,) = self._session.run(None, {name: feed[name] for name in self._inputs})
            yield chosen, feed["attention_mask"], output

    def _feed(self, encodings: list[Any]) -> dict[str, numpy.ndarray]:
        """Rows of one length: shorter texts are filled up, and masked there."""
        import numpy

        text = self._text
        shape = (len(encodings), max(1, *_lengths(encodings)))
        feed = {
            "input_ids": numpy.full(shape, text.pad, numpy.int64),
            "attention_mask": numpy.zeros(shape, numpy.int64),
            "token_type_ids": numpy.full(shape, text.pad_type, numpy.int64),
        }
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            place = slice(shape[1] - length, None) if text.pad_left else slice(0, length)
            feed["input_ids"][row, place] = encoding.ids
            feed["attention_mask"][row, place] = 1
            feed["token_type_ids"][row, place] = encoding.type_ids
        return feed


def _lengths(encodings: Sequence[Any]) -> list[int]:
    return [len(one.ids) for one in encodings]
