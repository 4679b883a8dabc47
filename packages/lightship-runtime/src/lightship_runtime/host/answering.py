"""Calls to answers with one engine: read each body, predict together what may go together, write each answer.

One bad call never spoils the others: what cannot be read is refused by itself, and where predicting a group fails its
calls are predicted one by one, so that each gets its own error.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from lightship_runtime.engines.engine import BadInstances, Engine, Instances, Options, Prediction
from lightship_runtime.log import Level, Log, where
from lightship_runtime.payload import Answer, Call, Parsed, RequestError, ServedModel, encode, parse, write_error
from lightship_runtime.payload.call import FAILURES, GENERATING, Outcome

if TYPE_CHECKING:
    from lightship_runtime.generation.answering import GenerationAnswering


class Answering:
    """Answers calls with one engine. `seconds` and `instances` are the engine's share of the last `answer_all`."""

    def __init__(self, engine: Engine, name: str, platform: str, log: Log) -> None:
        self._engine = engine
        self._model = ServedModel(name, engine.signature, platform=platform)
        self._log = log
        self._generation = self._generating(name) if engine.generates else None

    def _generating(self, name: str) -> GenerationAnswering:
        from lightship_runtime.generation.answering import GenerationAnswering
        from lightship_runtime.generation.engine import GenerationEngine

        assert isinstance(self._engine, GenerationEngine)
        failed = lambda error: self._note("generation failed", "error", error)  # noqa: E731
        return GenerationAnswering(self._engine, name, failed, time.perf_counter)

    def answer(self, call: Call) -> Answer:
        """The answer to one call."""
        if call.protocol in GENERATING and self._generation is not None:
            try:
                return self._generation.answer(call)
            except RequestError as error:
                return write_error(error, call.protocol)
        return self.answer_all([call])[0][0]

    def answer_all(self, calls: list[Call]) -> tuple[list[Answer], float, int]:
        """The answers to calls, in order; the seconds within the engine, and how many instances were predicted."""
        answers: list[Answer | None] = [None] * len(calls)
        groups: dict[Any, list[tuple[int, Parsed]]] = {}
        for number, call in enumerate(calls):
            try:
                parsed = parse(call, self._model)
            except RequestError as error:
                answers[number] = write_error(error, call.protocol)
                continue
            except FAILURES as error:
                answers[number] = self.failure(error)
                continue
            groups.setdefault(_group(parsed), []).append((number, parsed))
        seconds, instances = 0.0, 0
        for group in groups.values():
            began = time.perf_counter()
            for number, answer in self._answer_group(group):
                answers[number] = answer
            seconds += time.perf_counter() - began
            instances += sum(parsed.count for _, parsed in group)
        return [answer for answer in answers if answer is not None], seconds, instances

    def prompt_tokens(self, call: Call) -> int:
        """How many tokens the prompt of a call for text has. Raises RequestError for what cannot be answered."""
        return self._generation.prompt_tokens(call) if self._generation is not None else 0

    def stream(self, call: Call, outcome: Outcome | None = None) -> Generator[bytes, None, None]:
        """The parts of one answer as JSON; `outcome` is filled in. Raises RequestError.

        A part without content says that the work goes on: texts are written in this way whether or not the request
        asks for parts, so that they can be ended when nobody waits for them.
        """
        if call.protocol in GENERATING and self._generation is not None:
            yield from self._generation.parts(call, outcome or Outcome())
            return
        try:
            parsed = parse(call, self._model)
        except RequestError:
            raise
        except FAILURES as error:
            self._note("prediction failed", "error", error)
            raise RequestError("The model failed on this request.", status=500) from error
        if parsed.count != 1:
            raise RequestError("Only one instance at a time can be answered in parts.")
        instance = parsed.instances[0]
        try:
            for part in self._engine.stream(instance, parsed.options):
                yield msgspec.json.encode(part)
        except (BadInstances, RequestError) as error:
            raise RequestError(str(error)) from error
        except self._engine.refused as error:
            raise self._refused(error) from error
        except FAILURES as error:
            self._note("prediction failed", "error", error)
            raise RequestError("The model failed on this request.", status=500) from error

    def _answer_group(self, group: list[tuple[int, Parsed]]) -> Iterator[tuple[int, Answer]]:
        options = group[0][1].options
        if len(group) == 1 or not self._engine.batches:
            for number, parsed in group:
                yield number, self._answer_one(parsed)
            return
        instances = _joined([parsed.instances for _, parsed in group])
        total = sum(parsed.count for _, parsed in group)
        try:
            prediction = self._predict(instances, options, total)
        except RequestError:
            prediction = None
        if prediction is None:  # somebody's instances were wrong, or the model failed: whose is found one by one
            for number, parsed in group:
                yield number, self._answer_one(parsed)
            return
        start = 0
        for number, parsed in group:
            end = start + parsed.count
            yield number, self._encoded(parsed, _cut(prediction, start, end))
            start = end

    def _answer_one(self, parsed: Parsed) -> Answer:
        try:
            return self._encoded(parsed, self._predict(parsed.instances, parsed.options, parsed.count))
        except RequestError as error:
            return write_error(error)

    def _predict(self, instances: Instances, options: Options, count: int) -> Prediction:
        """Predict, and see that there is one prediction per instance. Raises RequestError."""
        try:
            prediction = self._engine.predict(instances, options)
        except BadInstances as error:
            raise RequestError(str(error)) from error
        except self._engine.refused as error:
            raise self._refused(error) from error
        except FAILURES as error:
            self._note("prediction failed", "error", error)
            raise RequestError("The model failed on this request.", status=500) from error
        if len(prediction.predictions) != count:
            given = f"{len(prediction.predictions)} predictions for {count} instances"
            self._note("prediction failed", "error", RuntimeError(given), detail=given)
            raise RequestError("The model failed on this request.", status=500)
        return prediction

    def _encoded(self, parsed: Parsed, prediction: Prediction) -> Answer:
        try:
            return encode(parsed, prediction, self._model)
        except RequestError as error:
            return write_error(error)
        except FAILURES as error:
            return self.failure(error)

    def _refused(self, error: Exception) -> RequestError:
        self._note("input refused by the model", "warning", error)
        return RequestError("The model refused this input.")

    def failure(self, error: BaseException) -> Answer:
        """The answer where something failed that should not; the log says what and where."""
        self._note("prediction failed", "error", error)
        return write_error(RequestError("The model failed on this request.", status=500))

    def _note(self, event: str, level: Level, error: BaseException, detail: str | None = None) -> None:
        """Log what went wrong and where. The exception's text stays out: libraries quote the values they choke on."""
        self._log.event(
            event, level=level, error=type(error).__name__, where=where(error.__traceback__), detail=detail
        )


def _group(parsed: Parsed) -> Any:
    """What calls must have in common to be predicted together."""
    options = parsed.options
    parameters = msgspec.json.encode(options.parameters, order="deterministic") if options.parameters else None
    instances = parsed.instances
    if isinstance(instances, list):
        return (options.probabilities, options.tokens, parameters)
    return (options.probabilities, options.tokens, parameters, instances.dtype, instances.shape[1:])


def _joined(several: list[Instances]) -> Instances:
    """Instances of several calls as one batch: all lists, or all arrays of one type and shape, by their group."""
    if isinstance(several[0], list):
        return [instance for instances in several for instance in instances]
    import numpy

    return numpy.concatenate(several)


def _cut(prediction: Prediction, start: int, end: int) -> Prediction:
    probabilities = prediction.probabilities
    return Prediction(
        prediction.predictions[start:end],
        None if probabilities is None else probabilities[start:end],
        prediction.classes,
        None if prediction.tokens is None else prediction.tokens[start:end],
    )
