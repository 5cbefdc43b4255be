"""Fine-tune a checkpoint on a task with `model.fit`, and leave a run folder.

A run folder is a Hugging Face folder (config.json with the labels, model.safetensors, tokenizer
files) with metrics.json, history.csv, settings.json and TensorBoard logs beside (`run_folder.py`).
"""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras

from kbert import checkpoint, inference, loading
from kbert.errors import InputError, Terminated
from kbert.inputs.batches import with_integer_masks
from kbert.training import callbacks, run_folder
from kbert.training.distribution import distribution
from kbert.training.optimizer import adamw
from kbert.training.schedules import WarmupDecay
from kbert.training.state import SaveState, Saving, State

Records = Sequence[Mapping[str, Any]]
CURE_OF_NAN = "Lower the learning rate, or train in float32."


@dataclass(frozen=True)
class Recipe:
    """How to train; written to settings.json.

    Attributes:
        epochs: passes over the training records.
        batch_size: rows in a batch over all devices together.
        token_budget: tokens in a batch with padding, instead of rows: short texts then come in
            larger batches; 0 for `batch_size` rows.
        learning_rate: the highest one.
        schedule: "linear", "cosine" or "constant" after the warm-up.
        warmup: share of all steps in which the rate rises.
        weight_decay: see `optimizer.adamw`.
        clip_norm: largest norm of all gradients together; 0 for no clipping.
        dropout: probability of dropping a value in the encoder; None as its checkpoint says.
        seed: of the order of the data, of dropout and of new weights.
        dtype: "float32", "mixed_bfloat16", or "auto": mixed bfloat16 where products of it are
            faster (a CPU with AMX, except on JAX; a GPU or TPU), float32 elsewhere.
        strategy: see `distribution.distribution`.
        deterministic: whether the same run gives the same bits; slower on a GPU.
    """

    epochs: int = 3
    batch_size: int = 32
    token_budget: int = 0
    learning_rate: float = 3e-4
    schedule: str = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    dropout: float | None = None
    seed: int = 0
    dtype: str = "auto"
    strategy: str = "none"
    deterministic: bool = False


@dataclass
class Run:
    """What a fine-tuning left: the folder, the test's figures, the history of the epochs."""

    folder: Path
    metrics: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)


def finetune(
    task,
    train: Records,
    test: Records | None,
    source: str | os.PathLike,
    output: str | os.PathLike,
    recipe: Recipe | None = None,
    *,
    validation: Records | None = None,
    overwrite: bool = False,
    resume: bool = False,
    saving: Saving | None = None,
    verbose: int | str = "auto",
) -> Run:
    """Fine-tune a checkpoint.

    Args:
        task: e.g. `TextClassification`; its labels must cover all records.
        train, test, validation: records with the task's columns. With `validation`, the epoch
            that is best on it is kept; without, the last. `test` is measured once, at the end.
        source: checkpoint folder or hub name.
        output: the run folder; must not exist, unless `overwrite`.
        recipe: how to train.
        resume: go on with the run that was broken off there, from its last state; begin it if
            there is none. All else must be given as before.
        saving: when the state is saved.
        verbose: as in `model.fit`.

    Returns:
        A `Run`.

    Raises:
        InputError: something given cannot be used; nothing is written then. Or the loss became
            NaN; the last good epoch is kept then, if there was one. Or the disk is full.
        KeyboardInterrupt: as it came, after the run folder was made usable.
        Terminated: SIGTERM came, and the state was saved.
    """
    recipe = recipe or Recipe()
    output = Path(output)
    run_folder.check(output, overwrite, resume)
    keras.utils.set_random_seed(recipe.seed)
    _make_deterministic(recipe.deterministic)
    with distribution(recipe.strategy) as num_devices:
        _check_batch(recipe, num_devices)
        loaded = checkpoint.load(source, training_dtype(recipe.dtype), recipe.dropout)
        _check_length(task, loaded.config, source)
        if test:
            task.check(test)  # unknown labels are found before anything is written
        dataset = partial(_dataset, task, train, loaded.tokenizer, recipe)
        checked = validation and _dataset(task, validation, loaded.tokenizer, recipe, False)
        whole = dataset()
        model = _compiled(task, loaded.encoder, recipe, len(whole))
    told = run_folder.settings_of(source, recipe, task, train, loaded.tokenizer)
    work, start = run_folder.begin(output, told, resume)
    settings = task.settings(loaded.settings)
    save = partial(checkpoint.save, work, model, settings, loaded.tokenizer)
    watch = _Watch(work, save, task.monitor if validation else None, saving or Saving(), start)
    fit = partial(model.fit, validation_data=checked, shuffle=False, verbose=verbose)
    if start:
        _build_state(model, whole)
    stopped = watch.run(partial(_passes, fit, dataset, whole, recipe.epochs, start))
    if watch.best.best_epoch is None:
        _keep_unfinished(stopped, work, save)
    return _finish(work, output, watch, test, stopped)


def _build_state(model: keras.Model, dataset) -> None:
    """Make what TensorFlow's `fit` makes in its first step: variables of optimizer and metrics."""
    model.optimizer.build(model.trainable_variables)
    if keras.backend.backend() == "tensorflow":
        model.test_on_batch(*next(iter(dataset)))


def _passes(fit, dataset, whole, epochs: int, start: State | None, callbacks) -> None:
    """`model.fit` on the epochs to come; what is left of a broken one is a pass of its own."""
    epoch = start.epoch if start else 0
    if start and start.batch:
        rest = dataset(first_epoch=epoch, first_batch=start.batch)
        fit(rest, initial_epoch=epoch, epochs=epoch + 1, callbacks=callbacks)
        epoch += 1
    if epoch < epochs:
        remaining = dataset(first_epoch=epoch) if epoch else whole
        fit(remaining, initial_epoch=epoch, epochs=epochs, callbacks=callbacks)


def evaluate(folder: str | os.PathLike, records: Records, dtype: str = "float32") -> dict:
    """The task's figures for a run folder on records."""
    return load_predictor(folder, dtype)[1].scores(records)


def load_predictor(folder: str | os.PathLike, dtype: str = "float32"):
    """A run folder's task, and a `Predictor` with its weights.

    Raises:
        InputError: not a run folder: no labels, or no weights for the head.
    """
    loaded = checkpoint.load(folder, dtype=dtype)
    task, model = loading.task_model(loaded, folder)
    return task, inference.Predictor(model, task, loaded.tokenizer)


def training_dtype(name: str) -> str:
    """The dtype policy that "auto" stands for on this machine; other names as they are."""
    if name != "auto":
        return name
    backend = keras.backend.backend()
    if backend == "torch":  # for which keras.distribution knows no devices
        devices = [str(keras.ops.zeros(()).device)]
    else:
        devices = keras.distribution.list_devices()
    if any(device.split(":")[0] != "cpu" for device in devices):
        return "mixed_bfloat16"
    cpu = Path("/proc/cpuinfo")
    has_amx = cpu.is_file() and "amx_bf16" in cpu.read_text()
    return "mixed_bfloat16" if has_amx and backend != "jax" else "float32"


def _dataset(task, records, tokenizer, recipe: Recipe, training: bool = True, **first):
    size = {"batch_size": recipe.batch_size}
    if recipe.token_budget:
        size = {"token_budget": recipe.token_budget}
    dataset = task.dataset(
        records, tokenizer, shuffle=training, seed=recipe.seed, remainder="fill", **size, **first
    )
    if recipe.strategy == "mirrored":
        return with_integer_masks(dataset)
    return dataset


def _compiled(task, encoder, recipe: Recipe, steps_per_epoch: int) -> keras.Model:
    total = steps_per_epoch * recipe.epochs
    rate = WarmupDecay(
        recipe.learning_rate, total, math.ceil(total * recipe.warmup), recipe.schedule
    )
    model = task.model(encoder)
    model.compile(
        optimizer=adamw(rate, recipe.weight_decay, recipe.clip_norm or None),
        loss=task.loss(),
        weighted_metrics=task.metrics(),
        # On TensorFlow's CPU the step is faster without XLA, and MirroredStrategy fails with it.
        jit_compile=keras.backend.backend() == "jax",
    )
    return model


class _Watch:
    """The callbacks of a run: its lines, its saved epoch and state, what stops it."""

    def __init__(self, work: Path, save, monitor: str | None, saving: Saving, start):
        self.history = callbacks.History(work / "history.csv")
        self.best = callbacks.SaveBest(save, monitor)
        self.logs = keras.callbacks.TensorBoard(work / "logs", write_graph=False)
        self.state = SaveState(work, saving, self.history, self.best, start)

    def run(self, passes) -> BaseException | None:
        """Train; what stopped it, if not the last epoch's end.

        Raises:
            Terminated: by SIGTERM; the state has been saved.
        """
        try:
            with callbacks.interrupt_after_step() as interrupt:
                # The state is saved of a step that was good, with the figures of an epoch's end.
                passes(
                    [
                        callbacks.StopOnNaN(),
                        self.history,
                        self.best,
                        self.logs,
                        self.state,
                        interrupt,
                    ]
                )
        except Terminated:
            self.state.save_within_epoch()
            raise
        except (callbacks.NotFinite, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt):
                self.state.save_within_epoch()
            return error
        return None


def _keep_unfinished(stopped, work: Path, save):
    """What is left of a run that finished no epoch: part of one, or nothing of a NaN."""
    if isinstance(stopped, callbacks.NotFinite):
        shutil.rmtree(work)
        raise InputError(
            f"training stopped: {stopped}, and no epoch had been finished, so nothing is kept. "
            f"{CURE_OF_NAN}"
        )
    save()


def _finish(work: Path, output: Path, watch: _Watch, test, stopped) -> Run:
    """Measure the test set, put the run folder in its place, and tell what stopped the run."""
    epoch = watch.best.best_epoch
    metrics: dict[str, Any] = {"epoch": epoch}
    try:
        if test and not isinstance(stopped, KeyboardInterrupt):
            metrics["test"] = evaluate(work, test)
    except KeyboardInterrupt as error:
        stopped = error
    if stopped is not None:
        metrics["stopped"] = str(stopped) or "interrupted"
    run_folder.finish(work, output, metrics, isinstance(stopped, KeyboardInterrupt))
    if isinstance(stopped, KeyboardInterrupt):
        raise stopped
    if stopped is not None:
        raise InputError(
            f"training stopped: {stopped}. {output} keeps epoch {epoch}, the last good one. "
            f"{CURE_OF_NAN}"
        )
    return Run(output, metrics, watch.history.lines)


def _make_deterministic(wanted: bool):
    """Operations that give the same bits each time, where the backend has others by default."""
    if wanted and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif wanted and keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def _check_batch(recipe: Recipe, num_devices: int):
    if recipe.token_budget and num_devices > 1:
        raise InputError(
            f"token_budget {recipe.token_budget} makes batches of any number of rows, which "
            f"{num_devices} devices cannot share equally. Give batch_size instead."
        )
    if recipe.batch_size % num_devices:
        less = recipe.batch_size // num_devices * num_devices
        fitting = f"{less} or {less + num_devices}" if less else num_devices
        raise InputError(
            f"batch_size {recipe.batch_size} does not divide by {num_devices} devices; "
            f"{fitting} would."
        )


def _check_length(task, config, source):
    if task.max_length > config.max_length:
        raise InputError(
            f"max_length {task.max_length} is above the {config.max_length} positions of "
            f"{source}. Choose {config.max_length} or less."
        )
