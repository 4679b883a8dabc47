"""What happened, counted: plain numbers on the way of a request, Prometheus's text only when somebody asks for it.

One process answers all requests, so nothing has to be gathered from several: what the workers did comes with their
answers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lightship_runtime.front.state import State
from lightship_runtime.payload.call import Generated, Protocol

if TYPE_CHECKING:
    from lightship_runtime.front.dispatch import Dispatcher

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
# Of texts: names and bounds of OpenTelemetry's semantic conventions for generative AI, with its unit as Prometheus
# writes it (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/).
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_OPERATIONS = {"chat": "chat", "completions": "text_completion", "generate": "text_completion"}
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts of values by their upper bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """The counters of one server, and their text."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._dispatcher: Dispatcher | None = None
        self.requests: dict[tuple[str, int], int] = {}
        self.seconds: dict[str, Histogram] = {}
        self.queue = Histogram(SECONDS)
        self.predicting = Histogram(SECONDS)
        self.batches = Histogram(SIZES)
        self.instances = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.first_token: dict[str, Histogram] = {}
        self.per_token: dict[str, Histogram] = {}

    def watch(self, dispatcher: Dispatcher) -> None:
        """Whose queue is told of."""
        self._dispatcher = dispatcher

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has its answer."""
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        histogram = self.seconds.get(route)
        if histogram is None:
            histogram = self.seconds[route] = Histogram(SECONDS)
        histogram.observe(seconds)

    def waited(self, seconds: float) -> None:
        """Count how long a call waited for its batch."""
        self.queue.observe(seconds)

    def batch(self, calls: int, instances: int, seconds: float, predicting: float) -> None:
        """Count a batch."""
        self.batches.observe(calls)
        self.predicting.observe(predicting)
        self.instances += instances

    def generated(self, protocol: Protocol, waited: float, generated: Generated) -> None:
        """Count what was written for a request; `waited` are the seconds before the work on it began."""
        self.prompt_tokens += generated.prompt_tokens
        self.generation_tokens += generated.completion_tokens
        if generated.first is None:
            return
        operation = _OPERATIONS[protocol]
        self.first_token.setdefault(operation, Histogram(FIRST_TOKEN)).observe(waited + generated.first)
        if generated.longest > 1:
            seconds = (generated.seconds - generated.first) / (generated.longest - 1)
            self.per_token.setdefault(operation, Histogram(PER_TOKEN)).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterator[str]:
        yield from _head("lightship_requests_total", "counter", "Requests answered, by route and status.")
        for (route, status), count in sorted(self.requests.items()):
            yield f'lightship_requests_total{{route="{route}",status="{status}"}} {count}'
        yield from _head("lightship_request_seconds", "histogram", "From a request's first byte to its answer.")
        for route, histogram in sorted(self.seconds.items()):
            yield from _histogram("lightship_request_seconds", histogram, f'route="{route}"')
        yield from _head("lightship_queue_seconds", "histogram", "That calls waited for their batch.")
        yield from _histogram("lightship_queue_seconds", self.queue)
        yield from _head("lightship_predict_seconds", "histogram", "That batches took within the engine.")
        yield from _histogram("lightship_predict_seconds", self.predicting)
        yield from _head("lightship_batch_requests", "histogram", "Requests predicted together.")
        yield from _histogram("lightship_batch_requests", self.batches)
        yield from _head("lightship_instances_total", "counter", "Instances predicted.")
        yield f"lightship_instances_total {self.instances}"
        if self._state.abilities.generates:
            yield from self._texts()
        if self._dispatcher is not None:
            yield from _head("lightship_requests_waiting", "gauge", "Calls that wait for their batch.")
            yield f"lightship_requests_waiting {self._dispatcher.waiting}"
            if self._state.abilities.generates:
                yield from _head("lightship_prompt_tokens_waiting", "gauge", "Tokens of prompts that wait.")
                yield f"lightship_prompt_tokens_waiting {self._dispatcher.waiting_tokens}"
            yield from _head("lightship_requests_in_flight", "gauge", "Calls without an answer.")
            yield f"lightship_requests_in_flight {self._dispatcher.unfinished}"
            yield from _head("lightship_worker_batches_total", "counter", "Batches of each process that predicts.")
            for link in self._dispatcher.links:
                yield f'lightship_worker_batches_total{{pid="{link.pid}"}} {link.answered}'
        yield from _head("lightship_ready", "gauge", "Whether a request would be answered by the model now.")
        yield f"lightship_ready {int(self._state.ready)}"
        yield from _head("lightship_workers", "gauge", "Processes that predict.")
        yield f"lightship_workers {len(self._state.workers)}"
        yield from _head("lightship_start_seconds", "gauge", "That each phase of the start took.")
        for phase, seconds in sorted(self._state.phases.items()):
            yield f'lightship_start_seconds{{phase="{phase}"}} {seconds}'
        yield from _head("lightship_memory_bytes", "gauge", "Proportional memory (PSS) of each process.")
        for role, pid in [("front", "self"), *(("worker", str(pid)) for pid in sorted(self._state.workers))]:
            if (used := proportional_memory(pid)) is not None:
                name = f',pid="{pid}"' if role == "worker" else ""
                yield f'lightship_memory_bytes{{process="{role}"{name}}} {used}'

    def _texts(self) -> Iterator[str]:
        yield from _head("lightship_prompt_tokens_total", "counter", "Tokens of prompts.")
        yield f"lightship_prompt_tokens_total {self.prompt_tokens}"
        yield from _head("lightship_generation_tokens_total", "counter", "Tokens written.")
        yield f"lightship_generation_tokens_total {self.generation_tokens}"
        for name, text, histograms in (
            ("time_to_first_token", "From a request's arrival to the first token of its text.", self.first_token),
            ("time_per_output_token", "Of each token after the first.", self.per_token),
        ):
            full = f"gen_ai_server_{name}_seconds"
            yield from _head(full, "histogram", text)
            for operation, histogram in sorted(histograms.items()):
                yield from _histogram(full, histogram, f'gen_ai_operation_name="{operation}"')


def proportional_memory(pid: str) -> int | None:
    """The proportional set size of a process in bytes, None where the kernel does not say."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), None)


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _histogram(name: str, histogram: Histogram, label: str = "") -> Iterator[str]:
    before = f"{label}," if label else ""
    behind = f"{{{label}}}" if label else ""
    count = 0
    for bound, many in zip(histogram.bounds, histogram.counts):  # noqa: B905  # the last count has no bound
        count += many
        yield f'{name}_bucket{{{before}le="{bound}"}} {count}'
    count += histogram.counts[-1]
    yield f'{name}_bucket{{{before}le="+Inf"}} {count}'
    yield f"{name}_sum{behind} {histogram.total}"
    yield f"{name}_count{behind} {count}"
