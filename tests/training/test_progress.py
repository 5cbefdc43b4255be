"""What is shown while a run trains, on a clock that goes on by one second a step."""

import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from kbert.training import progress
from kbert.training.curves import draw_curves
from kbert.training.progress import Progress, TokenCount


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """One second passes from one look at the clock to the next."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))  # JAX looks at its own
    monkeypatch.setattr(progress, "time", clock)


class Counts(keras.callbacks.Callback):
    """Eleven tokens go into every batch."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens

    def on_train_batch_begin(self, batch, logs=None):
        self.tokens(11)


def fit(verbose, epochs=2, steps=5, first_epoch=0, left=5):
    """Fits w · x to 0, in the later steps of an epoch if `left` of them are given."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    tokens = TokenCount()
    shown = Progress(epochs, steps, lambda step: step / 1000, tokens, verbose)
    x = np.ones((left, 1), "float32")
    watch = [Counts(tokens), shown]
    model.fit(x, 0 * x, 1, epochs, callbacks=watch, verbose=0, initial_epoch=first_epoch)


def test_a_line_an_epoch_tells_figures_speed_and_the_time_left(capsys):
    fit(verbose=2)
    # Looks: the epoch's begin, five steps, its end and the pace at the end. From the first step's
    # end on, four steps and 44 tokens in 4 s; 6 s for 4 steps of 9, so that 5 to come take 7 s.
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2 in 00:06: loss 1.0000, 11 tokens/s, 00:07 left",
        "epoch 2/2 in 00:06: loss 1.0000, 11 tokens/s",
    ]


def test_within_a_long_epoch_lines_tell_where_it_is(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 2.0)
    fit(verbose=2, epochs=1)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/1, 3/5: loss 1.000, rate 3.0e-03, 11 tokens/s, 00:02 left",
        "epoch 1/1, 5/5: loss 1.000, rate 5.0e-03, 11 tokens/s",
        "epoch 1/1 in 00:06: loss 1.0000, 11 tokens/s",
    ]


def test_a_terminal_has_a_bar_that_begins_where_the_run_goes_on(capsys):
    fit(verbose=1, first_epoch=1, left=3)
    shown = capsys.readouterr()
    assert "epoch 2/2  40% |" in shown.err
    assert "| 5/5, loss 1.000, rate 1.0e-02, 11 tokens/s" in shown.err
    assert shown.out.startswith("epoch 2/2 in 00:04: loss 1.0000, 11 tokens/s")


def test_nothing_is_shown_where_nothing_is_asked(capsys):
    fit(verbose=0)
    assert capsys.readouterr() == ("", "")


def test_curves_have_a_panel_for_each_figure(tmp_path):
    lines = [
        {"epoch": n, "seconds": 3.1, "learning_rate": 0.1, "loss": 1 / n, "val_loss": 2 / n}
        for n in (1, 2, 3)
    ]
    draw_curves(lines, tmp_path / "one.png")
    more = [{**line, "accuracy": 0.5, "val_f1": 0.7} for line in lines]
    draw_curves(more, tmp_path / "three.png")
    one, three = (Image.open(tmp_path / f"{name}.png") for name in ("one", "three"))
    assert three.width == 3 * one.width
    assert len(one.convert("RGB").getcolors(1 << 16)) > 50  # lines were drawn
