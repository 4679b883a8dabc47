"""The one thread that steps a model of ONNX Runtime GenAI: its Engines and requests belong to the thread they are of.

Jobs come through a queue, are put into lanes, and every lane goes one step in turn. What fails fails for the jobs of
its lane, and is told to those who wait for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty

from lightship_runtime.engines.genai_lanes import Job, Lane, grouped
from lightship_runtime.engines.job_thread import JobThread

_FAILURES = (Exception,)


class LaneThread(JobThread[Job]):
    """Takes jobs from any thread.

    Attributes:
        lanes: Those that are on their way: none when nobody waits for a text.
    """

    def __init__(
        self, lane: Callable[[Sequence[Job]], Lane], most: int, refusal: Callable[[Exception, Job], Exception]
    ) -> None:
        """`lane` makes a lane of at most `most` jobs; `refusal` is what to tell where one that is alone fails."""
        self._make = lane
        self._most = most
        self._refusal = refusal
        self.lanes: list[Lane] = []
        super().__init__()

    def _run(self) -> None:
        while True:
            arrived, ending = self._arrived()
            for jobs in grouped([job for job in arrived if not job.reader.cancelled], self._most):
                self._open(jobs)
            if ending:
                break
            self.lanes = [lane for lane in self.lanes if self._step(lane)]
        for lane in self.lanes:
            self._end(lane, RuntimeError("the engine was closed"))
        self.lanes = []

    def _arrived(self) -> tuple[list[Job], bool]:
        """The jobs that wait, and whether this is the end. Waits where there is nothing else to do."""
        jobs: list[Job] = []
        try:
            while True:
                job = self._jobs.get() if not self.lanes and not jobs else self._jobs.get_nowait()
                if job is None:
                    return jobs, True
                jobs.append(job)
        except Empty:
            return jobs, False

    def _open(self, jobs: Sequence[Job]) -> None:
        try:
            self.lanes.append(self._make(jobs))
        except _FAILURES as error:
            if len(jobs) == 1:
                jobs[0].reader.fail(self._refusal(error, jobs[0]))
                return
            for job in jobs:  # one of them is the reason: the others shall not suffer for it
                self._open([job])

    def _step(self, lane: Lane) -> bool:
        try:
            if lane.step():
                return True
            lane.close()
        except _FAILURES as error:
            self._end(lane, self._refusal(error, lane.jobs[0]) if len(lane.jobs) == 1 else error)
        return False

    def _end(self, lane: Lane, error: Exception) -> None:
        for job in lane.jobs:
            job.reader.fail(error)  # one that has ended is not read any more
        try:
            lane.close()
        except _FAILURES:
            return  # nothing to be told to anybody: the jobs have their error
