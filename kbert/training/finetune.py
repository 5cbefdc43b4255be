"""Fine-tune a checkpoint on a task with `model.fit`, and leave a run folder.

A run folder is a Hugging Face folder (config.json with the labels, model.safetensors, tokenizer
files) with metrics.json, history.csv, settings.json and TensorBoard logs beside. It is made as
`<output>.partial` and renamed when it is whole.
"""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras

from kbert import checkpoint, inference, loading
from kbert.errors import InputError
from kbert.inputs.batches import with_integer_masks
from kbert.training import callbacks
from kbert.training.distribution import distribution
from kbert.training.optimizer import adamw
from kbert.training.schedules import WarmupDecay

Records = Sequence[Mapping[str, Any]]
SETTINGS = "settings.json"
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
        verbose: as in `model.fit`.

    Returns:
        A `Run`.

    Raises:
        InputError: something given cannot be used; nothing is written then. Or the loss became
            NaN; the last good epoch is kept then, if there was one.
        KeyboardInterrupt: as it came, after the run folder was made usable.
    """
    recipe = recipe or Recipe()
    output = Path(output)
    _check_output(output, overwrite)
    keras.utils.set_random_seed(recipe.seed)
    with distribution(recipe.strategy) as num_devices:
        _check_batch(recipe, num_devices)
        loaded = checkpoint.load(source, training_dtype(recipe.dtype), recipe.dropout)
        _check_length(task, loaded.config, source)
        if test:
            task.check(test)  # unknown labels are found before anything is written
        dataset = _dataset(task, train, loaded.tokenizer, recipe)
        checked = validation and _dataset(task, validation, loaded.tokenizer, recipe, False)
        model = _compiled(task, loaded.encoder, recipe, len(dataset))
    work = output.with_name(output.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    checkpoint.write_json(work / SETTINGS, {"checkpoint": str(source), **asdict(recipe)})
    settings = task.settings(loaded.settings)
    save = partial(checkpoint.save, work, model, settings, loaded.tokenizer)
    fit = partial(
        model.fit, dataset, epochs=recipe.epochs, validation_data=checked, shuffle=False,
        verbose=verbose,
    )  # fmt: skip
    history, epoch, stopped = _watched(fit, work, save, task.monitor if validation else None)
    if epoch is None:
        _keep_unfinished(stopped, work, save)
    return _finish(work, output, epoch, history, test, stopped)


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


def _dataset(task, records, tokenizer, recipe: Recipe, training: bool = True):
    size = {"batch_size": recipe.batch_size}
    if recipe.token_budget:
        size = {"token_budget": recipe.token_budget}
    dataset = task.dataset(
        records, tokenizer, shuffle=training, seed=recipe.seed, remainder="fill", **size
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


def _watched(fit, work: Path, save, monitor):
    """`model.fit` with its callbacks: the epochs' lines, the saved epoch, what stopped it."""
    history = callbacks.History(work / "history.csv")
    best = callbacks.SaveBest(save, monitor)
    logs = keras.callbacks.TensorBoard(work / "logs", write_graph=False)
    stopped = None
    try:
        with callbacks.interrupt_after_step() as interrupt:
            fit(callbacks=[interrupt, callbacks.StopOnNaN(), history, best, logs])
    except (callbacks.NotFinite, KeyboardInterrupt) as error:
        stopped = error
    return history.lines, best.best_epoch, stopped


def _keep_unfinished(stopped, work: Path, save):
    """What is left of a run that finished no epoch: part of one, or nothing of a NaN."""
    if isinstance(stopped, callbacks.NotFinite):
        shutil.rmtree(work)
        raise InputError(
            f"training stopped: {stopped}, and no epoch had been finished, so nothing is kept. "
            f"{CURE_OF_NAN}"
        )
    save()


def _finish(work: Path, output: Path, epoch, history, test, stopped) -> Run:
    """Measure the test set, put the run folder in its place, and tell what stopped the run."""
    metrics: dict[str, Any] = {"epoch": epoch}
    try:
        if test and not isinstance(stopped, KeyboardInterrupt):
            metrics["test"] = evaluate(work, test)
    except KeyboardInterrupt as error:
        stopped = error
    if stopped is not None:
        metrics["stopped"] = str(stopped) or "interrupted"
    checkpoint.write_json(work / "metrics.json", metrics)
    if output.exists():  # --overwrite: the old run goes when the new one is whole
        old = output.with_name(output.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(output, old)
        os.rename(work, output)
        shutil.rmtree(old)
    else:
        os.rename(work, output)
    if isinstance(stopped, KeyboardInterrupt):
        raise stopped
    if stopped is not None:
        raise InputError(
            f"training stopped: {stopped}. {output} keeps epoch {epoch}, the last good one. "
            f"{CURE_OF_NAN}"
        )
    return Run(output, metrics, history)


def _check_output(output: Path, overwrite: bool):
    if not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"{output}: expected a folder, it is a file.")
    if not overwrite:
        raise InputError(f"{output} exists. Choose another folder, or pass --overwrite.")
    if any(output.iterdir()) and not (output / SETTINGS).is_file():
        raise InputError(
            f"{output} exists and is no run folder (it has no {SETTINGS}): it is not overwritten. "
            "Choose another folder."
        )


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
