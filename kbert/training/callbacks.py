"""What watches a run: the folder it leaves, its history, and the loss."""

import contextlib
import csv
import math
import signal
import threading
import time
from pathlib import Path

import keras

from kbert.errors import Terminated


class NotFinite(ArithmeticError):
    """The loss or a weight became NaN or infinite."""


class StopOnNaN(keras.callbacks.Callback):
    """Stops at the batch whose loss is not finite, before an epoch of it is saved."""

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise NotFinite(f"the loss became {float(loss)} at batch {batch + 1}")


class StopOnInterrupt(keras.callbacks.Callback):
    """Stops after the step at hand once `asked`: then every weight is of the same step."""

    asked: type[BaseException] | None = None

    def on_train_batch_end(self, batch, logs=None):
        if self.asked:
            raise self.asked

    on_test_batch_end = on_train_batch_end


@contextlib.contextmanager
def interrupt_after_step():
    """Ctrl-C and SIGTERM wait for the end of the step (on JAX one broken off eats the weights).

    A second one interrupts at once.

    Yields:
        The callback that stops the training.
    """
    stop = StopOnInterrupt()

    def ask(number, frame):
        if stop.asked:
            raise stop.asked
        stop.asked = KeyboardInterrupt if number == signal.SIGINT else Terminated

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may say what a signal does
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class SaveBest(keras.callbacks.Callback):
    """Saves the model after an epoch if it is the best so far.

    Args:
        save: function without arguments that writes the checkpoint.
        monitor: the figure that decides, higher is better; None saves every epoch.
        patience: epochs without a better one after which training stops; 0 for never.
    """

    def __init__(self, save, monitor=None, patience=0):
        super().__init__()
        self.patience = patience
        self.save = save
        self.monitor = monitor
        self.best_epoch = None
        self.best = -math.inf

    def on_epoch_end(self, epoch, logs=None):
        figure = math.inf if self.monitor is None else float((logs or {})[self.monitor])
        if self.monitor is None or figure > self.best:
            self.check_weights()
            self.save()
            self.best, self.best_epoch = figure, epoch + 1
        if self.is_out_of_patience(epoch + 1):
            self.model.stop_training = True

    def is_out_of_patience(self, epochs):
        """Whether, of so many epochs, the best is too long ago."""
        return 0 < self.patience <= epochs - (self.best_epoch or 0)

    def check_weights(self):
        """The last step's loss was finite before it changed the weights: are they still?

        Raises:
            NotFinite: one is not; nothing has been saved.
        """
        for variable in self.model.trainable_variables:
            if not keras.ops.all(keras.ops.isfinite(variable)):
                raise NotFinite(f"{variable.path} became NaN or infinite at the end of an epoch")


class History(keras.callbacks.Callback):
    """One line an epoch in `history.csv`: its number, seconds, learning rate and figures.

    Args:
        file: is written anew at each epoch, so that it is whole at any time.
    """

    def __init__(self, file):
        super().__init__()
        self.file = Path(file)
        self.lines = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = round(time.perf_counter() - self.began, 2)
        figures = {name: float(value) for name, value in (logs or {}).items()}
        line = {"epoch": epoch + 1, "seconds": seconds, "learning_rate": rate, **figures}
        self.lines.append(line)
        with self.file.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(line))
            writer.writeheader()
            writer.writerows(self.lines)
