"""Requests that wait while another is computed are computed together, next.

Nothing waits for company: alone, a request starts at once. Under load, what came during one run
makes the next run's batch.
"""

from collections import deque
from collections.abc import Callable, Mapping
from threading import Condition

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Job:
    """A request's tensors, and what becomes of them."""

    def __init__(self, inputs: Arrays):
        self.inputs, self.rows = inputs, len(next(iter(inputs.values())))
        self.kind = tuple((name, x.shape[1:], reach(x)) for name, x in inputs.items())
        self.is_taken, self.outputs, self.error = False, None, None

    @property
    def is_done(self) -> bool:
        return self.outputs is not None or self.error is not None


def reach(array: np.ndarray) -> int:
    """How long the longest text is, in powers of four: a batch is padded to its longest."""
    if array.dtype != object or not array.size:
        return 0
    return max(map(len, array.flat)).bit_length() // 2


class Batcher:
    """Calls a function of arrays that all have one first dimension, the rows.

    Args:
        run: arrays by name → arrays by name, with as many rows.
        batch_size: the most rows that requests are joined to.
        at_once: how many runs may be under way.
    """

    def __init__(self, run: Callable[[Arrays], Arrays], batch_size: int, at_once: int):
        self.run, self.batch_size, self.at_once = run, batch_size, at_once
        self.changed, self.waiting, self.running = Condition(), deque(), 0

    def __call__(self, inputs: Arrays) -> Arrays:
        job = Job(inputs)
        with self.changed:
            self.waiting.append(job)
            while not job.is_done and (job.is_taken or self.running >= self.at_once):
                self.changed.wait()
            jobs = [] if job.is_done else self._take(job)
            self.running += bool(jobs)
        if jobs:
            self._answer(jobs)
            with self.changed:
                self.running -= 1
                self.changed.notify_all()
        if job.error is not None:
            raise job.error
        return job.outputs

    def _take(self, first: Job) -> list[Job]:
        """`first` and those that can be computed with it."""
        jobs, rows = [first], first.rows
        for job in self.waiting:
            fits = job is not first and job.kind == first.kind
            if fits and rows + job.rows <= self.batch_size:
                jobs.append(job)
                rows += job.rows
        for job in jobs:
            job.is_taken = True
            self.waiting.remove(job)
        return jobs

    def _answer(self, jobs: list[Job]):
        try:
            names = jobs[0].inputs
            joined = {name: np.concatenate([job.inputs[name] for job in jobs]) for name in names}
            outputs = self.run(joined if len(jobs) > 1 else jobs[0].inputs)
            ends = np.cumsum([job.rows for job in jobs])
            if len(jobs) > 1 and any(len(x) != ends[-1] for x in outputs.values()):
                raise ValueError("a signature whose answers are not one a row")
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].error = error
            else:  # one of them is at fault: the others have an answer still
                for job in jobs:
                    self._answer([job])
            return
        for job, end in zip(jobs, ends, strict=True):
            is_alone = len(jobs) == 1
            job.outputs = outputs if is_alone else {
                name: x[end - job.rows : end] for name, x in outputs.items()
            }  # fmt: skip
