"""One run in several processes, on one host or many (JAX): they start together, each trains on its
share of every batch, and the first alone writes the run folder.

Keras's own environment variables say who a process is; they are set before it starts:

    KERAS_DISTRIBUTION_JOB_ADDRESSES    "10.0.0.1:1234,10.0.0.2:1234", or the first one's alone
    KERAS_DISTRIBUTION_NUM_PROCESSES    "2"
    KERAS_DISTRIBUTION_PROCESS_ID       "0" is the first
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kbert.errors import InputError
from kbert.training import run_folder
from kbert.training.state import SaveState, State, latest

if TYPE_CHECKING:
    import tensorflow as tf

ADDRESSES, NUMBER, THIS = (
    f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)
SILENCE = 30  # seconds without a sign of life after which a process counts as dead


def are_several() -> bool:
    """Whether the environment says that this process is one of several."""
    return os.environ.get(NUMBER, "1") != "1"


def place() -> tuple[int, int]:
    """How many processes have come together, and which of them this is."""
    if not are_several():
        return 1, 0
    import jax

    return jax.process_count(), jax.process_index()


def is_first() -> bool:
    return not are_several() or os.environ[THIS] == "0"


def join() -> None:
    """Meet the others that the environment names; once, and before any computation.

    `keras.distribution.initialize` does the same, but has a dead process found out after 100 s.

    Raises:
        InputError: the variables are wrong, or not all came.
    """
    import jax

    if not are_several() or jax.distributed.is_initialized():
        return
    first, total, this = environment()
    try:
        jax.distributed.initialize(first, total, this, heartbeat_timeout_seconds=SILENCE)
    except RuntimeError as error:
        raise InputError(
            f"process {this} of {total} cannot meet the others at {first} ({error}): start all of "
            f"them, each with its {THIS}, and before JAX computes anything."
        ) from error


def environment() -> tuple[str, int, int]:
    """The first process's address, how many there are, which one this is."""
    found = {name: os.environ.get(name, "") for name in (ADDRESSES, NUMBER, THIS)}
    first, *others = found[ADDRESSES].split(",")
    host, _, port = first.rpartition(":")
    total, this = found[NUMBER], found[THIS]
    if not (total.isdecimal() and this.isdecimal() and int(this) < int(total)):
        raise InputError(
            f"expected {NUMBER} as a number of processes and {THIS} as one below it, came "
            f"{total!r} and {this!r}."
        )
    if not (host and port.isdecimal()) or len(others) + 1 not in (1, int(total)):
        raise InputError(
            f"{ADDRESSES}: expected HOST:PORT of the first process, or of all {total} with "
            f"commas between; came {found[ADDRESSES]!r}."
        )
    return first, int(total), int(this)


def share_of(dataset: "tf.data.Dataset") -> "tf.data.Dataset":
    """This process's rows of every batch: the whole batches, cut in equal parts.

    Keras's own way (`auto_shard_dataset`) wants batches of one known size.
    """
    total, this = place()
    if total == 1:
        return dataset
    import tensorflow as tf

    def part(x):
        size = tf.shape(x)[0] // total
        return x[this * size : (this + 1) * size]

    return dataset.map(lambda *element: tf.nest.map_structure(part, element))


def wait(name: str) -> None:
    """Until every process has come here."""
    if are_several():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


class FollowState(SaveState):
    """Puts a state back as `SaveState` does, and leaves the saving to the first process."""

    def save(self):
        pass


def begin(output: Path, settings: dict, resume: bool) -> tuple[Path, State | None]:
    """`run_folder.begin` by the first process; the others get a folder that goes, and its state.

    Raises:
        InputError: also if the others see another state than the first.
    """
    if is_first():
        work, start = run_folder.begin(output, settings, resume)
        wait("begun")
    else:
        wait("begun")
        work = Path(tempfile.mkdtemp(prefix="kbert-"))
        start = latest(run_folder.partial_of(output)) if resume else None
    _check_all_see(output, start)
    return work, start


def _check_all_see(output: Path, start: State | None) -> None:
    if not are_several():
        return
    import numpy as np
    from jax.experimental import multihost_utils

    mine = np.array([start.epoch, start.batch] if start else [-1, -1])
    if (multihost_utils.process_allgather(mine) != mine).any():
        raise InputError(
            f"{output}: not all processes see the state with which the run goes on. It must be on "
            "a disk that all hosts share."
        )


def by_first(act: Callable[[], None]) -> Callable[[], None]:
    """The function for the first process; one that does nothing for the others."""
    return act if is_first() else lambda: None


def finish(work: Path, finish_run: Callable, stopped: BaseException | None):
    """What `finish_run` gives the first process, which the others wait for; to them, None.

    Raises:
        InputError, KeyboardInterrupt: the run was stopped; so does `finish_run`, which tells more.
    """
    try:
        if is_first():
            return finish_run()
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(stopped, KeyboardInterrupt):
            raise stopped
        if stopped is not None:
            raise InputError(f"training stopped: {stopped}. The first process tells more.")
        return None
    finally:
        if not isinstance(stopped, KeyboardInterrupt):  # the others may still be at a step
            wait("finished")


@contextlib.contextmanager
def all_alive() -> Iterator[None]:
    """Within it a computation that breaks off because another process did is told so.

    Raises:
        InputError: in place of the engine's own error.
    """
    if not are_several():
        yield
        return
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            "another process of this run ended or cannot be reached "
            f"({str(error).splitlines()[0][:200]}). Start all of them again with --resume."
        ) from error
