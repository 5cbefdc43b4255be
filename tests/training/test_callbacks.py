"""What watches a run, on a model of one weight."""

import csv
import os
import signal
import threading

import keras
import numpy as np
import pytest
from harness import to_numpy

from kbert.training.callbacks import (
    History,
    NotFinite,
    SaveBest,
    StopOnInterrupt,
    StopOnNaN,
    interrupt_after_step,
)


def fit(*watch, epochs=3, x=1.0, learning_rate=0.5):
    """Fits w · x to 0 from w = 1, by two steps an epoch."""
    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="w")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    x = np.full((2, 1), x, "float32")
    model.fit(x, 0 * x, 1, epochs=epochs, shuffle=False, callbacks=list(watch), verbose=0)
    return model


def test_a_nan_stops_at_its_batch():
    with pytest.raises(NotFinite, match=r"the loss became nan at batch 1$"):
        fit(StopOnNaN(), x=np.nan)


def test_an_infinite_loss_stops():
    with pytest.raises(NotFinite, match="the loss became inf at batch 2"):
        fit(StopOnNaN(), learning_rate=1e30)


class Figures(keras.callbacks.Callback):
    """Puts the figures of a validation into the logs of each epoch."""

    def __init__(self, figures):
        super().__init__()
        self.figures = figures

    def on_epoch_end(self, epoch, logs=None):
        logs["val_accuracy"] = self.figures[epoch]


def test_the_best_epoch_is_the_one_saved_last():
    saved = []
    best = SaveBest(lambda: saved.append(1), "val_accuracy")
    fit(Figures([0.5, 0.7, 0.7, 0.6]), best, epochs=4)
    assert (len(saved), best.best_epoch, best.best) == (2, 2, 0.7)


def test_patience_stops_when_the_best_is_long_ago():
    best = SaveBest(lambda: None, "val_accuracy", patience=2)
    model = fit(Figures([0.5, 0.7, 0.7, 0.6, 0.9]), best, epochs=5)
    assert best.best_epoch == 2
    assert len(model.history.epoch) == 4
    assert [best.is_out_of_patience(epochs) for epochs in (3, 4)] == [False, True]


def test_without_validation_every_epoch_is_saved():
    saved = []
    best = SaveBest(lambda: saved.append(1))
    fit(best)
    assert (len(saved), best.best_epoch) == (3, 3)


def test_weights_that_are_not_finite_are_not_saved():
    def save():
        raise AssertionError("was saved")

    with pytest.raises(NotFinite, match="w/kernel became NaN or infinite at the end of an epoch"):
        fit(SaveBest(save), x=1e10, learning_rate=1e30)


def test_history_is_whole_after_each_epoch(tmp_path):
    seen = []

    class Reader(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            with (tmp_path / "history.csv").open(newline="") as file:
                seen.append(list(csv.DictReader(file)))

    history = History(tmp_path / "history.csv")
    fit(history, Reader(), learning_rate=0.25)
    assert [[line["epoch"] for line in lines] for lines in seen] == [
        ["1"], ["1", "2"], ["1", "2", "3"],
    ]  # fmt: skip
    assert [float(line["learning_rate"]) for line in seen[-1]] == [0.25] * 3
    # w halves at each step: losses 1 and 1/4, then a 16th of it.
    losses = [float(line["loss"]) for line in seen[-1]]
    np.testing.assert_allclose(losses, [0.625, 0.625 / 16, 0.625 / 256], rtol=1e-5)
    assert [line["loss"] for line in history.lines] == losses


def test_an_interrupt_waits_for_the_end_of_the_step():
    before = signal.getsignal(signal.SIGINT)
    models = []

    class Interrupting(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            models.append(self.model)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupt_after_step() as stop:
        fit(Interrupting(), stop, learning_rate=0.25)
    assert len(models) == 1
    np.testing.assert_allclose(to_numpy(models[0].get_layer("w").kernel), [[0.5]])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_comes_at_once():
    with pytest.raises(KeyboardInterrupt), interrupt_after_step():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("was not interrupted")


def test_another_thread_leaves_the_signal_alone():
    def enter():
        with interrupt_after_step() as stop:
            found.append(stop)

    found = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert isinstance(found[0], StopOnInterrupt)
