"""Fine-tuning leaves a whole run folder, or none."""

import csv
import json
import math
import os
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from harness import BACKEND, to_numpy

import kbert
from kbert.training import callbacks, finetune, recipe
from kbert.training.finetune import Recipe, load_predictor, training_dtype

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.01, dtype="float32")
# What transformers and the user find; tokenizer.json and the rest belong to the tokenizer.
FILES = {
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    "special_tokens_map.json", "metrics.json", "history.csv", "settings.json", "logs",
    "curves.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def records(tiny_data):
    """64 for training, 64 for validation, 97 for the test."""
    columns = ("text", "label")
    train, validation, test = (
        kbert.read_records(tiny_data / f"{name}.csv", columns)
        for name in ("train", "validation", "test")
    )
    return train[:64], validation, test


@pytest.fixture
def run(records, one_block_dir, tmp_path):
    """Fine-tunes into tmp_path/run; one length, so that there is one graph to trace."""
    task = kbert.TextClassification.from_records(records[0], max_length=7)

    def run(test=None, validation=None, recipe=RECIPE, **settings):
        output = tmp_path / "run"
        return kbert.finetune(
            task, records[0], test, one_block_dir, output, recipe, validation=validation, verbose=0,
            **settings,
        )  # fmt: skip

    return run


def json_of(file):
    return json.loads(file.read_text("utf-8"))


def lines_of(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def weights_of(folder):
    loaded = kbert.load(folder, dtype="float32")
    arrays = {v.path: to_numpy(v) for v in loaded.encoder.weights}
    arrays |= loaded.encoder.head_weights["SequenceClassification"]
    assert all(np.isfinite(array).all() for array in arrays.values())
    return arrays


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def on_step(monkeypatch, act):
    """`act(callback, batch)` at the end of every training step, counted from 1 over all epochs."""
    steps = []

    def on_train_batch_end(self, batch, logs=None):
        steps.append(batch)
        act(self, len(steps))

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", on_train_batch_end)


def test_a_run_folder_holds_all_that_was_learned(tiny_run):
    assert names_in(tiny_run) == FILES
    assert names_in(tiny_run.parent) == {tiny_run.name}
    assert names_in(tiny_run / "logs") == {"train", "validation"}
    config = json_of(tiny_run / "config.json")
    assert config["id2label"] == {"0": "cat's", "1": "dog", "2": "vogel, ö"}
    assert config["label2id"] == {"cat's": 0, "dog": 1, "vogel, ö": 2}
    assert config["architectures"] == ["BertForSequenceClassification"]
    metrics = json_of(tiny_run / "metrics.json")
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["test"]["examples"] == 97
    assert "stopped" not in metrics
    settings = json_of(tiny_run / "settings.json")
    assert settings["learning_rate"] == 0.005
    assert settings["checkpoint"].startswith("/")
    assert (tiny_run / "model.safetensors").stat().st_mode & 0o044


def test_history_has_a_line_for_each_epoch(tiny_run):
    lines = lines_of(tiny_run / "history.csv")
    assert [line["epoch"] for line in lines] == [str(i) for i in range(1, len(lines) + 1)]
    assert len(lines) == json_of(tiny_run / "settings.json")["epochs"]
    assert float(lines[-1]["loss"]) < 0.5 * float(lines[0]["loss"])
    assert set(lines[0]) == {
        "epoch", "seconds", "learning_rate", "accuracy", "loss", "val_accuracy", "val_loss",
    }  # fmt: skip


def test_validation_keeps_the_best_epoch(tiny_run, tiny_data):
    figures = [float(line["val_accuracy"]) for line in lines_of(tiny_run / "history.csv")]
    kept = json_of(tiny_run / "metrics.json")["epoch"]
    assert kept == 1 + figures.index(max(figures))
    records = kbert.read_records(tiny_data / "validation.csv", ("text", "label"))
    task, predictor = load_predictor(tiny_run)
    logits = predictor.logits([record["text"] for record in records])
    assert task.scores(logits, records)["accuracy"] == pytest.approx(max(figures), abs=1e-6)


def test_overwrite_trains_the_same_model_and_then_takes_the_old_one_away(
    run, tmp_path, monkeypatch
):
    first = run()
    assert first.metrics == {"epoch": 2}
    assert [line["epoch"] for line in first.history] == [1, 2]
    weights = weights_of(first.folder)
    (first.folder / "old").write_text("")
    with pytest.raises(kbert.InputError, match="run exists. Choose another folder, or pass --over"):
        run()
    before = []
    on_step(monkeypatch, lambda callback, step: before.append(names_in(first.folder)))
    again = run(overwrite=True)
    assert before[-1] == {*FILES, "old"}
    assert names_in(again.folder) == FILES
    assert names_in(tmp_path) == {"run"}
    for name, array in weights_of(again.folder).items():
        np.testing.assert_array_equal(array, weights[name], name)


def test_a_loss_that_is_nan_leaves_nothing_before_the_first_epoch(run, tmp_path):
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=1e30, warmup=0.0, dtype="float32")
    with pytest.raises(kbert.InputError, match="the loss became nan.*no epoch .*Lower the learn"):
        run(recipe=recipe)
    assert names_in(tmp_path) == set()


def test_a_loss_that_is_nan_keeps_the_last_good_epoch(run, records, tmp_path, monkeypatch):
    def poison(self, epoch, logs=None):
        if epoch == 1:
            weight = self.model.get_layer("classifier").bias
            weight.assign(weight * math.nan)

    monkeypatch.setattr(callbacks.StopOnNaN, "on_epoch_begin", poison)
    with pytest.raises(kbert.InputError, match="the loss became nan.*run keeps epoch 1, the last"):
        run(test=records[2])
    assert names_in(tmp_path) == {"run"}
    metrics = json_of(tmp_path / "run" / "metrics.json")
    assert metrics["epoch"] == 1
    assert "nan" in metrics["stopped"]
    assert metrics["test"]["examples"] == 97
    weights_of(tmp_path / "run")


def test_weights_that_are_nan_are_not_saved(run, tmp_path, monkeypatch):
    """The last step's loss is finite, and what it does to the weights is not."""

    def poison(callback, step):
        if step == 4:
            if BACKEND == "jax":
                callback.model.jax_state_sync()
            weight = callback.model.get_layer("classifier").bias
            weight.assign(weight * math.nan)

    on_step(monkeypatch, poison)
    with pytest.raises(kbert.InputError, match="classifier/bias became NaN .*nothing is kept"):
        run()
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("step, epoch", [(3, None), (6, 1)])
def test_ctrl_c_keeps_the_last_epoch_or_part_of_the_first(
    step, epoch, run, records, tmp_path, monkeypatch
):
    def interrupt(callback, number):
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)

    on_step(monkeypatch, interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(test=records[2], validation=records[1])
    assert signal.getsignal(signal.SIGINT) is before
    assert names_in(tmp_path) == {"run"}
    assert names_in(tmp_path / "run") >= FILES - {"history.csv", "curves.png", "logs"}
    metrics = json_of(tmp_path / "run" / "metrics.json")
    assert metrics == {"epoch": epoch, "stopped": "interrupted"}
    weights_of(tmp_path / "run")
    _, predictor = load_predictor(tmp_path / "run")
    assert len(list(predictor(["my cat", "a dog"]))) == 2


def test_ctrl_c_while_the_test_is_measured_keeps_the_run(tmp_path, monkeypatch):
    def interrupt(folder, records):
        raise KeyboardInterrupt

    watch = SimpleNamespace(best=SimpleNamespace(best_epoch=2), history=SimpleNamespace(lines=[]))
    (tmp_path / "run.partial").mkdir()
    monkeypatch.setattr(finetune, "evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finetune._finish(tmp_path / "run.partial", tmp_path / "run", watch, [{}], None)
    assert names_in(tmp_path) == {"run"}
    assert json_of(tmp_path / "run" / "metrics.json") == {"epoch": 2, "stopped": "interrupted"}


def test_what_cannot_be_used_is_refused_before_anything_is_written(
    run, records, one_block_dir, tmp_path
):
    strange = [{"text": "moo", "label": "cow"}]
    with pytest.raises(kbert.InputError, match="never saw: 'cow'"):
        run(test=strange)
    with pytest.raises(kbert.InputError, match="never saw: 'cow'"):
        run(validation=strange)
    task = kbert.TextClassification.from_records(records[0], max_length=62)
    with pytest.raises(kbert.InputError, match="max_length 62 is above the 61 positions of"):
        kbert.finetune(task, records[0], None, one_block_dir, tmp_path / "run")
    assert names_in(tmp_path) == set()


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(kbert.InputError, match="batch_size 33 does not divide by 2 .*32 or 34"):
        recipe.check_batch(Recipe(batch_size=33), 2)
    with pytest.raises(
        kbert.InputError, match="batch_size 1 does not divide by 2 devices; 2 would"
    ):
        recipe.check_batch(Recipe(batch_size=1), 2)
    recipe.check_batch(Recipe(batch_size=34), 2)
    with pytest.raises(kbert.InputError, match="token_budget 99 .* 2 devices.* batch_size instead"):
        recipe.check_batch(Recipe(token_budget=99), 2)
    recipe.check_batch(Recipe(batch_size=33, token_budget=99), 1)


def test_a_recipe_that_cannot_be_is_refused(run, tmp_path):
    with pytest.raises(kbert.InputError, match="patience 2 waits for a better .*: give --valid"):
        run(recipe=Recipe(patience=2))
    with pytest.raises(kbert.InputError, match="MirroredStrategy fails with XLA: take jit off"):
        run(recipe=Recipe(jit="on", strategy="mirrored"))
    if BACKEND == "torch":
        with pytest.raises(kbert.InputError, match="steps_per_execution 2: Keras runs steps one"):
            run(recipe=Recipe(steps_per_execution=2))
    with pytest.raises(kbert.InputError, match="freeze: 1 names blocks .* block 0 alone"):
        run(recipe=Recipe(freeze="1"))
    with pytest.raises(kbert.InputError, match="unfreeze 1 lets .* second epoch.*: give more"):
        run(recipe=Recipe(epochs=1, unfreeze=1))
    assert names_in(tmp_path) == set()


def test_frozen_parts_accumulation_and_several_steps_train_together(run, one_block_dir):
    recipe = Recipe(
        epochs=1, batch_size=16, learning_rate=0.01, dtype="float32", freeze="embeddings",
        accumulate=2, steps_per_execution=1 if BACKEND == "torch" else 2,
    )  # fmt: skip
    done = run(recipe=recipe)
    weights, before = weights_of(done.folder), kbert.load(one_block_dir, dtype="float32").encoder
    for variable in before.weights:
        is_same = np.array_equal(weights[variable.path], to_numpy(variable))
        assert is_same == ("embedding" in variable.path), variable.path


def test_auto_is_a_dtype_that_the_device_is_fast_in():
    assert training_dtype("float32") == "float32"
    assert training_dtype("mixed_bfloat16") == "mixed_bfloat16"
    assert training_dtype("auto") in ("float32", "mixed_bfloat16")
    if BACKEND == "jax" and keras.distribution.list_devices()[0] == "cpu:0":
        assert training_dtype("auto") == "float32"
