"""Fine-tune a checkpoint on a task with `model.fit`, and leave a run folder.

A run folder is a Hugging Face folder (config.json with the labels, model.safetensors, tokenizer
files) with metrics.json, history.csv, curves.png, settings.json and TensorBoard logs beside
(`run_folder.py`).
"""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from kbert import checkpoint, inference, loading
from kbert.errors import InputError, Terminated
from kbert.inputs.batches import with_integer_masks
from kbert.training import callbacks, processes, run_folder
from kbert.training.averaging import Averages
from kbert.training.curves import draw_curves
from kbert.training.depth import freeze, parameters, rates_by_depth, starts_by_depth
from kbert.training.distribution import chosen, distribution
from kbert.training.lora import add_lora
from kbert.training.losses import loss_of
from kbert.training.optimizer import adamw, with_loss_scaling
from kbert.training.progress import Progress, TokenCount
from kbert.training.recipe import (
    Recipe,
    check_batch,
    check_recipe,
    make_deterministic,
    training_dtype,
)
from kbert.training.rematerialise import rematerialise
from kbert.training.schedules import WarmupDecay
from kbert.training.state import SaveState, Saving, State

Records = Sequence[Mapping[str, Any]]
CURE_OF_NAN = "Lower the learning rate, or train in float32."


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
        verbose: 0 shows nothing, 1 a bar, 2 lines; "auto" a bar on a terminal, lines elsewhere.

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
    recipe = replace(recipe, strategy=chosen(recipe.strategy))
    check_recipe(recipe, bool(validation))
    keras.utils.set_random_seed(recipe.seed)
    make_deterministic(recipe.deterministic)
    with distribution(recipe.strategy, recipe.mesh) as num_shares:
        check_batch(recipe, num_shares)
        loaded = checkpoint.load(source, training_dtype(recipe.dtype), recipe.dropout)
        _check_length(task, loaded.config, source)
        freeze(loaded.encoder, recipe.freeze)
        if recipe.lora_rank:
            add_lora(loaded.encoder, recipe.lora_rank, recipe.lora_targets, recipe.lora_alpha)
        if recipe.rematerialise:
            rematerialise(loaded.encoder)
        if test:
            task.check(test)  # unknown labels are found before anything is written
        tokens = TokenCount()
        dataset = partial(_dataset, task, train, loaded.tokenizer, recipe, count=tokens)
        checked = validation and _dataset(task, validation, loaded.tokenizer, recipe, False)
        whole = dataset()
        loss = loss_of(task, train, recipe.class_weights, recipe.label_smoothing)
        rate = _rate(recipe, len(whole))
        model = _compiled(task, loaded.encoder, loss, recipe, rate)
        told = run_folder.settings_of(source, recipe, task, train, validation, loaded.tokenizer)
        work, start = processes.begin(output, told, resume)
        settings = task.settings(loaded.settings)
        if verbose:
            print(parameters(model), flush=True)
        averages = Averages(model)
        write = partial(checkpoint.save, work, model, settings, loaded.tokenizer)
        save = partial(averages.save, processes.by_first(write))
        monitor = task.monitor if validation else None
        shown = Progress(recipe.epochs, len(whole), rate, tokens, verbose)
        watch = _Watch(
            work, save, monitor, recipe.patience, saving or Saving(), start, [shown, averages]
        )
        fit = partial(model.fit, validation_data=checked, shuffle=False, verbose=0)
        if start:
            _build_state(model, whole)
        passes = partial(_passes, fit, dataset, whole, recipe.epochs, start, watch.best)
        with processes.all_alive():
            stopped = watch.run(passes)
    if watch.best.best_epoch is None:
        _keep_unfinished(stopped, work, save)
    finish = partial(_finish, work, output, watch, test, stopped)
    return processes.finish(work, finish, stopped) or Run(output, {}, watch.history.lines)


def _build_state(model: keras.Model, dataset) -> None:
    """Make what TensorFlow's `fit` makes in its first step: variables of optimizer and metrics."""
    model.optimizer.build(model.trainable_variables)
    if keras.backend.backend() == "tensorflow":
        model.test_on_batch(*next(iter(dataset)))


def _passes(fit, dataset, whole, epochs: int, start: State | None, best, callbacks) -> None:
    """`model.fit` on the epochs to come; what is left of a broken one is a pass of its own."""
    epoch = start.epoch if start else 0
    if start and start.batch:
        rest = dataset(first_epoch=epoch, first_batch=start.batch)
        fit(rest, initial_epoch=epoch, epochs=epoch + 1, callbacks=callbacks)
        epoch += 1
    if epoch < epochs and not best.is_out_of_patience(epoch):
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


def _dataset(task, records, tokenizer, recipe: Recipe, training: bool = True, **first):
    size = {"batch_size": recipe.batch_size}
    if recipe.token_budget:
        size = {"token_budget": recipe.token_budget}
    dataset = task.dataset(
        records, tokenizer, shuffle=training, seed=recipe.seed, remainder="fill", **size, **first
    )
    if recipe.strategy in ("mirrored", "tpu"):
        return with_integer_masks(dataset)
    return processes.share_of(dataset)


def _rate(recipe: Recipe, steps_per_epoch: int) -> WarmupDecay:
    total = steps_per_epoch * recipe.epochs
    warmup = math.ceil(total * recipe.warmup)
    return WarmupDecay(recipe.learning_rate, total, warmup, recipe.schedule)


def _compiled(task, encoder, loss, recipe: Recipe, rate: WarmupDecay) -> keras.Model:
    model = task.model(encoder)
    steps, starts = rate.total_steps // recipe.epochs, None
    if recipe.unfreeze:
        starts = starts_by_depth(encoder, recipe.unfreeze, steps)
    optimizer = adamw(
        rate,
        recipe.weight_decay,
        recipe.clip_norm or None,
        accumulate=recipe.accumulate,
        rates=rates_by_depth(encoder, recipe.layer_decay),
        average=recipe.average,
        starts=starts,
    )
    model.compile(
        optimizer=with_loss_scaling(optimizer, recipe.dtype),
        loss=loss,
        weighted_metrics=task.metrics(),
        jit_compile=keras.backend.backend() == "jax"
        if recipe.jit == "auto"
        else recipe.jit == "on",
        steps_per_execution=recipe.steps_per_execution,
    )
    return model


class _Watch:
    """The callbacks of a run: its lines, its saved epoch and state, what stops it."""

    def __init__(self, work: Path, save, monitor: str | None, patience: int, saving, start, others):
        self.others = others
        self.history = callbacks.History(work / "history.csv")
        self.best = callbacks.SaveBest(save, monitor, patience)
        self.logs = keras.callbacks.TensorBoard(work / "logs", write_graph=False)
        kind = SaveState if processes.is_first() else processes.FollowState
        self.state = kind(work, saving, self.history, self.best, start)

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
                        *self.others,
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
    if watch.history.lines:
        draw_curves(watch.history.lines, work / "curves.png")
    run_folder.finish(work, output, metrics, isinstance(stopped, KeyboardInterrupt))
    if isinstance(stopped, KeyboardInterrupt):
        raise stopped
    if stopped is not None:
        raise InputError(
            f"training stopped: {stopped}. {output} keeps epoch {epoch}, the last good one. "
            f"{CURE_OF_NAN}"
        )
    return Run(output, metrics, watch.history.lines)


def _check_length(task, config, source):
    if task.max_length > config.max_length:
        raise InputError(
            f"max_length {task.max_length} is above the {config.max_length} positions of "
            f"{source}. Choose {config.max_length} or less."
        )
