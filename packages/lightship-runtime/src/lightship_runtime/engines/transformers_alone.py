"""Texts one after the other, through transformers' own `generate()`: for models whose texts cannot share a step."""

from __future__ import annotations

from typing import Any

from lightship_runtime.engines.job_thread import JobThread
from lightship_runtime.engines.transformers_text import Job, WrittenText
from lightship_runtime.generation.request import GenerationRequest

_SEEDS = 1 << 63  # of PyTorch's generators


class AloneThread(JobThread[Job]):
    """The thread that a model writes in, in the order in which texts were asked for.

    Attributes:
        writing: Texts on their way: one at most.
    """

    def __init__(self, model: Any, tokenizer: Any, ends: frozenset[int]) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._ends = ends
        self.writing = 0
        super().__init__()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.reader.cancelled:
                continue
            self.writing = 1
            try:
                self._write(job)
            except Exception as error:  # whoever waits for the text is told
                job.reader.fail(error)
            finally:
                self.writing = 0

    def _write(self, job: Job) -> None:
        import torch

        request = job.request
        if request.seed is None:
            torch.seed()  # whoever came before may have set one
        else:
            torch.manual_seed(request.seed % _SEEDS)
        text = WrittenText(job, self._tokenizer, self._ends)
        streamer = _Streamer(job, text)
        watch = self._model.register_forward_hook(streamer.see) if request.logprobs is not None else None
        try:
            with torch.inference_mode():
                prompt = torch.tensor([job.prompt], device=self._model.device)
                self._model.generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    streamer=streamer,
                    stopping_criteria=[streamer.stopped],
                    max_new_tokens=job.most,
                    pad_token_id=min(self._ends, default=0),  # of one text nothing is padded: only to keep it quiet
                    **_sampling(request),
                )
        finally:
            if watch is not None:
                watch.remove()
        text.finish()


def _sampling(request: GenerationRequest) -> dict[str, Any]:
    """What is asked for, in the library's words; what is not said is as the model's own configuration has it."""
    options: dict[str, Any] = {}
    if request.repetition_penalty is not None:
        options["repetition_penalty"] = request.repetition_penalty
    if request.temperature == 0:
        return {**options, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    asked = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    asked = {name: value for name, value in asked.items() if value is not None}
    return {**options, **asked, "do_sample": True} if asked else options


class _Streamer:
    """What `generate()` calls a streamer and a stopping criterion: it hands over tokens, and stops when asked to."""

    def __init__(self, job: Job, text: WrittenText) -> None:
        self._job = job
        self._text = text
        self._prompt = True
        self._scores: Any = None

    def put(self, tokens: Any) -> None:
        """A token of the text; the prompt comes first, whole."""
        if self._prompt:
            self._prompt = False
            return
        self._text.wrote(int(tokens.flatten()[0]), self._scores)

    def end(self) -> None:
        """The library's word for the end of a stream: the text itself says why."""

    def stopped(self, tokens: Any, _scores: Any, **_more: Any) -> Any:
        """Whether to stop, for each text: asked after each token."""
        import torch

        return torch.full((tokens.shape[0],), self._job.reader.cancelled, device=tokens.device, dtype=torch.bool)

    def see(self, _model: Any, _given: Any, output: Any) -> None:
        """Keep the scores of the next token, of the model itself: before temperature and penalties."""
        self._scores = output.logits[0, -1]
