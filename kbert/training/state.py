"""A run's state, saved while it trains: with it a killed run goes on as if nothing had happened.

    state/0001-00000340/variables.safetensors    the model's (its random states too), the
                                                 optimizer's, the metrics'
    state/0001-00000340/state.json               epochs and batches done, history, best epoch

A state is written beside and renamed, and an older one goes only then: a kill at any moment leaves
the last whole one.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kbert.errors import InputError
from kbert.hub import write_json
from kbert.weights import safetensors

FOLDER = "state"
VARIABLES, POSITION = "variables.safetensors", "state.json"
UNFINISHED, OUTDATED = "unfinished", "outdated"
RANDOM = "random"


@dataclass(frozen=True)
class Saving:
    """When the state of a run is saved, beside the end of each epoch, and how many are kept.

    Attributes:
        steps: training steps between two states; 0 for any number.
        minutes: minutes between two; 0 for any number.
        keep: states that stay, the latest ones.
    """

    steps: int = 0
    minutes: float = 10.0
    keep: int = 1


@dataclass(frozen=True)
class State:
    """A saved state: where the run was, and what it had.

    Attributes:
        folder: holds it.
        epoch, batch: epochs done, and batches of the next one.
        arrays: name → variable.
        lines: the history's, one an epoch.
        best: the best epoch and its figure, or None.
    """

    folder: Path
    epoch: int
    batch: int
    arrays: dict[str, np.ndarray]
    lines: list[dict[str, float]]
    best: tuple[int, float] | None

    def restore(self, model: keras.Model) -> None:
        """Give the variables of a compiled and built model the values they had.

        Raises:
            InputError: the model has other variables.
        """
        arrays = {name: x for name, x in self.arrays.items() if not name.startswith(RANDOM)}
        variables = variables_of(model)
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if shapes != {name: array.shape for name, array in arrays.items()}:
            other = [n for n, a in arrays.items() if shapes.get(n) != a.shape]
            raise InputError(
                f"{self.folder}: expected the variables of this run ({len(shapes)}), came "
                f"{len(arrays)}, {len(other)} of them others ({', '.join(other[:3])}): start "
                "anew with --overwrite."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def restore_random(self) -> None:
        """Give PyTorch's generators, which are no variables, the states that they had."""
        states = [self.arrays[name] for name in sorted(self.arrays) if name.startswith(RANDOM)]
        if not states:
            return
        import torch

        torch.set_rng_state(torch.from_numpy(states[0]))
        for device, x in enumerate(states[1 : 1 + torch.cuda.device_count()]):
            torch.cuda.set_rng_state(torch.from_numpy(x), device)


def variables_of(model: keras.Model) -> dict[str, keras.Variable]:
    """Everything that a training step changes: name → variable."""
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}/{number:05}": variable  # paths have numbers that a process counts
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def latest(folder: Path) -> State | None:
    """The state that was saved last in a run folder; None if there is none.

    Raises:
        InputError: it cannot be read.
    """
    states = _states(folder / FOLDER)
    if not states:
        return None
    found = states[-1]
    try:
        told = json.loads((found / POSITION).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{found}: not a whole state ({error}); take it away.") from error
    arrays = safetensors.read([found / VARIABLES])
    best = told["best"] and tuple(told["best"])
    return State(found, told["epoch"], told["batch"], arrays, told["history"], best)


def is_in(folder: Path) -> bool:
    """Whether a folder holds a state."""
    return bool(_states(folder / FOLDER))


def _states(folder: Path) -> list[Path]:
    """The whole states, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(x for x in folder.iterdir() if re.fullmatch(r"\d{4,}-\d{8,}", x.name))


class SaveState(keras.callbacks.Callback):
    """Saves the state at the end of every epoch, and within one as `saving` says.

    It stands behind the callbacks whose figures it saves.

    Args:
        folder: the run folder.
        saving: when, and how many are kept.
        history, best: the `callbacks.History` and `callbacks.SaveBest` of the run.
        start: the state with which the run goes on; it is put back as the first epoch begins.
    """

    def __init__(self, folder: Path, saving: Saving, history, best, start: State | None = None):
        super().__init__()
        self.folder = Path(folder) / FOLDER
        self.saving = saving
        self.history, self.best = history, best
        self.start = start
        self.first_batch = self.epoch = self.batch = self.unsaved = 0
        self.saved_at = time.monotonic()
        self.is_within_epoch = False
        if start:
            self.epoch, self.batch = start.epoch, start.batch
            history.lines[:] = start.lines
            if start.best:
                best.best_epoch, best.best = start.best

    def on_epoch_begin(self, epoch, logs=None):
        self.first_batch = 0
        if self.start:  # behind the reset of the metrics
            self.first_batch = self.start.batch
            self.start.restore(self.model)
            self.start.restore_random()
            if not self.first_batch:
                self.start = None
        self.epoch, self.batch = epoch, self.first_batch

    def on_train_batch_begin(self, batch, logs=None):
        if self.start:  # a pass over data draws a number, too, which in that epoch was drawn before
            self.start.restore_random()
            self.start = None

    def on_train_batch_end(self, batch, logs=None):
        done = self.first_batch + batch + 1
        self.unsaved, self.batch = self.unsaved + done - self.batch, done
        self.is_within_epoch = batch + 1 < self.params["steps"]
        minutes = (time.monotonic() - self.saved_at) / 60
        if 0 < self.saving.steps <= self.unsaved or 0 < self.saving.minutes <= minutes:
            self.save_within_epoch()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch, self.batch, self.is_within_epoch = epoch + 1, 0, False
        self.save()

    def save_within_epoch(self):
        """Save the state that the last step left; behind an epoch's last, its end is to come."""
        if self.is_within_epoch:
            self.save()

    def save(self):
        """Save the state that the model has now.

        Raises:
            InputError: it cannot be written; the states before it stay.
        """
        try:
            self._write()
        except OSError as error:
            shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
            states = _states(self.folder)
            kept = f"The last one saved, {states[-1].name}, stays" if states else "None was saved"
            raise InputError(
                f"the state of the run cannot be saved in {self.folder} ({error}). {kept}: make "
                "room, then go on with --resume."
            ) from error
        self.unsaved, self.saved_at = 0, time.monotonic()

    def _write(self):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        new, name = self.folder / UNFINISHED, f"{self.epoch:04}-{self.batch:08}"
        if (self.folder / name).exists():
            return
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        variables = variables_of(self.model).items()
        arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables}
        safetensors.write(new / VARIABLES, arrays | _random_states())
        best = self.best
        position: dict[str, Any] = {
            "epoch": self.epoch,
            "batch": self.batch,
            "history": self.history.lines,
            "best": None if best.best_epoch is None else [best.best_epoch, best.best],
        }
        write_json(new / POSITION, position)
        _synced([new / VARIABLES, new / POSITION, new])
        os.rename(new, self.folder / name)
        _synced([self.folder])
        gone = self.folder / OUTDATED
        shutil.rmtree(gone, ignore_errors=True)
        for old in _states(self.folder)[: -self.saving.keep]:
            os.rename(old, gone)  # what is half gone has another name
            shutil.rmtree(gone)


def _random_states() -> dict[str, np.ndarray]:
    """What dropout draws from beside variables: PyTorch's own generators."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return {f"{RANDOM}/{number:05}": x.numpy() for number, x in enumerate(states)}


def _synced(paths: Sequence[Path]):
    """On the disk, not in the machine's memory alone."""
    for path in paths:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
