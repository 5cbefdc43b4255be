"""Averaged weights: their rule by hand, and what of a run is averaged and what is not."""

import keras
import numpy as np
import pytest
from harness import numbers, to_numpy

import kbert
from kbert.training import state
from kbert.training.averaging import Averages
from kbert.training.finetune import Recipe
from kbert.training.optimizer import AdamW, adamw
from kbert.training.state import Saving
from kbert.weights import safetensors

# 61 records in batches of 16: four batches and two steps in each of two epochs. The block and the
# embeddings learn in the second.
RECIPE = Recipe(
    epochs=2, batch_size=16, learning_rate=0.01, dtype="float32", average=0.9, accumulate=2,
    unfreeze=2,
)  # fmt: skip


def small_model(average, accumulate=1):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    model.compile(adamw(0.05, average=average, accumulate=accumulate), "mse")
    return model


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("is_fast", [True, False])
def test_averages_by_hand(accumulate, is_fast, monkeypatch):
    if not is_fast:
        monkeypatch.setattr(AdamW, "_is_plain", lambda self: False)
    model = small_model(0.4, accumulate)
    expected = [to_numpy(v) for v in model.trainable_variables]
    for batch in range(1, 12):
        model.train_on_batch(numbers(13, 7, seed=batch), numbers(13, 3, seed=-batch % 97))
        step, rest = divmod(batch, accumulate)
        if rest == 0:
            kept = min(0.4, (1 + step) / (10 + step))
            pairs = zip(expected, model.trainable_variables, strict=True)
            expected = [kept * x + (1 - kept) * to_numpy(v) for x, v in pairs]
    pairs = model.optimizer.averages()
    assert [v.path for v, _ in pairs] == [v.path for v in model.trainable_variables]
    for (variable, average), value in zip(pairs, expected, strict=True):
        np.testing.assert_allclose(to_numpy(average), value, rtol=0, atol=2e-6)
        assert not np.allclose(to_numpy(variable), value, atol=1e-4)


def test_averages_come_into_a_model_and_out_of_it_to_the_bit():
    model = small_model(0.4)
    model.fit(numbers(26, 7), numbers(26, 3), batch_size=13, verbose=0)
    pairs = model.optimizer.averages()
    raw, mean = [to_numpy(v).copy() for v, _ in pairs], [to_numpy(a).copy() for _, a in pairs]
    seen, averages = [], Averages(model)
    averages.on_test_begin()
    averages.save(lambda: seen.append([to_numpy(v).copy() for v in model.trainable_variables]))
    assert all(map(np.array_equal, [to_numpy(v) for v in model.trainable_variables], mean))
    averages.on_test_end()
    averages.save(lambda: seen.append([to_numpy(v).copy() for v in model.trainable_variables]))
    for weights in seen:
        assert all(map(np.array_equal, weights, mean))
    assert all(map(np.array_equal, [to_numpy(v) for v in model.trainable_variables], raw))
    assert all(map(np.array_equal, [to_numpy(a) for _, a in model.optimizer.averages()], mean))


def test_without_averages_nothing_changes():
    model = small_model(0.0)
    model.train_on_batch(numbers(13, 7), numbers(13, 3))
    assert model.optimizer.averages() == []
    Averages(model).save(lambda: None)


class Killed(BaseException):
    """As SIGKILL is: nothing catches it."""


@pytest.fixture(scope="module")
def run(one_block_dir, tiny_data, tmp_path_factory):
    """Fine-tunes into a folder; one length, so that there is one graph to trace."""
    folder = tmp_path_factory.mktemp("averaging")
    names = ("train", "validation")
    train, validation = (
        kbert.read_records(tiny_data / f"{name}.csv", ("text", "label")) for name in names
    )
    task = kbert.TextClassification.from_records(train, max_length=7)

    def run(name, **settings):
        return kbert.finetune(
            task, train[:61], validation[:23], one_block_dir, folder / name, RECIPE,
            validation=validation[:23], saving=Saving(steps=1, minutes=0), verbose=0, **settings,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def whole(run):
    """The run that nothing stopped; the weights and the averages that each epoch left."""
    left, finish = [], state.SaveState.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        finish(self, epoch, logs)
        pairs = self.model.optimizer.averages()
        left.append({v.path: (to_numpy(v).copy(), to_numpy(a).copy()) for v, a in pairs})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state.SaveState, "on_epoch_end", on_epoch_end)
        return run("whole"), left


def test_averages_are_validated_and_saved_and_the_weights_trained(whole, one_block_dir):
    done, left = whole
    best = done.metrics["epoch"]
    figures = done.history[best - 1]
    assert figures["val_accuracy"] == pytest.approx(done.metrics["test"]["accuracy"], abs=1e-6)
    encoder = kbert.load(done.folder, dtype="float32").encoder
    for variable in encoder.weights:
        raw, average = left[best - 1][variable.path]
        np.testing.assert_array_equal(to_numpy(variable), average)
    first, second = (left[n]["block_0/attention/query/kernel"][0] for n in (0, 1))
    start = kbert.load(one_block_dir, dtype="float32").encoder.get_layer("block_0").attention
    np.testing.assert_array_equal(first, to_numpy(start.query.kernel))
    assert not np.allclose(second, first, atol=1e-4)
    raw, average = left[best - 1]["classifier/kernel"]
    assert not np.allclose(average, raw, atol=1e-4)


def test_a_killed_run_goes_on_to_the_same_bits(run, whole, monkeypatch):
    """In the second epoch, with one batch of two gathered, and layers that have just begun."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        before, steps = state.SaveState.on_train_batch_end, []

        def after(self, batch, logs=None):
            before(self, batch, logs)
            steps.append(batch)
            if len(steps) == 7:
                raise Killed

        patch.setattr(state.SaveState, "on_train_batch_end", after)
        run("killed")
    resumed = run("killed", resume=True)
    weights, expected = (
        safetensors.read([x.folder / "model.safetensors"]) for x in (resumed, whole[0])
    )
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array, name)
    assert resumed.metrics == whole[0].metrics
