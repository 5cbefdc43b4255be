"""A system that is measured, and how its process is set up."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BACKENDS = ("tensorflow", "jax", "torch")


@dataclass(frozen=True)
class Settings:
    """What every system is told.

    Attributes:
        folder: what processes hand to each other lies there.
        run: a run folder of `kbert finetune` on Banking77, or None.
        quick: tiny samples.
    """

    folder: str
    run: str | None = None
    quick: bool = False

    @property
    def classifier(self) -> str:
        """The run folder, or MiniLM with a random classifier, which `material` makes."""
        return self.run or str(Path(self.folder, "random-run"))

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class System:
    """One row that is measured.

    Attributes:
        name: of the row.
        function: (settings, **given) -> what was measured, as JSON knows it.
        backend: Keras's.
        given: the function's other arguments.
        repeats: whether it takes part in every round; what makes files for others does not.
    """

    name: str
    function: Callable[..., dict]
    backend: str = "tensorflow"
    given: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = True

    def measure(self, settings: Settings) -> dict:
        return self.function(settings, **self.given)


def use(backend: str, threads: int):
    """Set up this process, before any library is imported: backend, CPU, cores and threads."""
    for name in ("OMP", "MKL", "OPENBLAS", "RAYON"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):  # JAX takes as many threads as it sees cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["KERAS_BACKEND"] = backend
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def progress(text: str, error: BaseException | None = None):
    """One line to standard error, and the traceback of an error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
    if error is not None:
        traceback.print_exception(error, file=sys.stderr)


def fastest(function: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some calls, after one that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
        progress(f"  {seconds[-1]:.3f} s")
    return min(seconds)


def fastest_in_turns(functions: Mapping[str, Callable[[], Any]], repeats: int, least=0.0) -> dict:
    """As `fastest` for several functions that take turns in one process.

    Args:
        functions: name → function.
        repeats: turns of each.
        least: seconds; in each turn a function is called until so many have gone by.

    Returns:
        name → `{"seconds"}` of one call, or `{"error"}`.
    """
    results: dict[str, dict] = {}
    for turn in range(repeats + 1):  # the first does not count
        for name, function in functions.items():
            if "error" in results.get(name, {}):
                continue
            try:
                seconds = _seconds_of_one(function, least if turn else 0.0)
            except Exception as error:  # the others go on
                progress(f"  {name} failed", error)
                results[name] = {"error": f"{type(error).__name__}: {error}"[:400]}
                continue
            if turn:
                before = results.get(name, {}).get("seconds", seconds)
                results[name] = {"seconds": min(before, seconds)}
    return results


def _seconds_of_one(function, least: float) -> float:
    calls, began = 0, time.perf_counter()
    while True:
        function()
        calls += 1
        seconds = time.perf_counter() - began
        if seconds >= least:
            return seconds / calls
