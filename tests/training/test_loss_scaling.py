"""Float16: a scaled loss trains the same weights, leaves out what overflows, and is resumed."""

import keras
import numpy as np
import pytest
from harness import BACKEND, to_numpy

import kbert
from kbert.errors import InputError
from kbert.training import state
from kbert.training.optimizer import adamw, with_loss_scaling
from kbert.training.recipe import Recipe, check_recipe
from kbert.training.state import Saving
from kbert.weights import safetensors


def model_of(optimizer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    model.compile(optimizer, "mse", jit_compile=BACKEND == "jax")
    return model


def batches(number):
    draw = np.random.default_rng(2)
    return draw.normal(size=(number, 11, 7)), draw.normal(size=(number, 11, 3))


def test_a_scaled_loss_changes_neither_clipping_nor_accumulation_nor_decay():
    found = []
    for dtype in ("float32", "mixed_float16"):  # of the optimizer: the model computes in float32
        optimizer = adamw(keras.optimizers.schedules.ExponentialDecay(0.03, 2, 0.9), 0.1,
                          clip_norm=0.5, accumulate=2)  # fmt: skip
        model = model_of(with_loss_scaling(optimizer, dtype))
        for x, y in zip(*batches(7), strict=True):
            model.train_on_batch(x, y)
        rate = float(to_numpy(model.optimizer.learning_rate))
        found.append([rate, *(to_numpy(v) for v in model.weights)])
    for array, expected in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


def test_a_step_whose_gradients_overflow_is_left_out():
    model = model_of(with_loss_scaling(adamw(0.03), "mixed_float16"))
    (x,), (y,) = batches(1)
    model.train_on_batch(x, y)
    before = [to_numpy(v).copy() for v in model.weights]
    steps = int(to_numpy(model.optimizer.iterations))
    model.optimizer.dynamic_scale.assign(3e38)
    model.train_on_batch(x, 1e3 * y)
    for variable, expected in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), expected)
    assert int(to_numpy(model.optimizer.iterations)) == steps
    assert float(to_numpy(model.optimizer.dynamic_scale)) == pytest.approx(1.5e38)


def test_a_run_in_float16_learns_and_goes_on_to_the_same_bits(
    one_block_dir, tiny_data, tmp_path, monkeypatch
):
    records = kbert.read_records(tiny_data / "train.csv", ("text", "label"))[:61]
    task = kbert.TextClassification.from_records(records, max_length=7)
    recipe = Recipe(
        epochs=3, batch_size=16, learning_rate=0.01, dtype="mixed_float16", accumulate=2
    )

    def run(name, **settings):
        return kbert.finetune(
            task, records, None, one_block_dir, tmp_path / name, recipe,
            saving=Saving(steps=1), verbose=0, **settings,
        )  # fmt: skip

    whole = run("whole")
    losses = [line["loss"] for line in whole.history]
    assert losses[2] < losses[0]
    before = state.SaveState.on_train_batch_end

    def interrupt(self, batch, logs=None):
        before(self, batch, logs)
        if (self.epoch, self.batch) == (1, 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state.SaveState, "on_train_batch_end", interrupt)
        run("broken")
    resumed = run("broken", resume=True)
    files = [safetensors.read([r.folder / "model.safetensors"]) for r in (whole, resumed)]
    for name, array in files[0].items():
        np.testing.assert_array_equal(files[1][name], array, name)
    assert [line["loss"] for line in resumed.history] == losses


def test_float16_under_a_strategy_of_tensorflow_is_refused():
    recipe = Recipe(dtype="mixed_float16", strategy="mirrored")
    with pytest.raises(InputError, match="mixed_float16 with the strategy mirrored: .*bfloat16"):
        check_recipe(recipe, False)
