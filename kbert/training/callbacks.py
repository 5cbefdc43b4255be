"""What watches a run: the folder it leaves, its history, and the loss."""

import csv
import math
import time
from pathlib import Path

import keras


class NotFinite(ArithmeticError):
    """The loss became NaN or infinite."""


class StopOnNaN(keras.callbacks.Callback):
    """Stops at the batch whose loss is not finite, before an epoch of it is saved."""

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise NotFinite(f"the loss became {float(loss)} at batch {batch + 1}")


class SaveBest(keras.callbacks.Callback):
    """Saves the model after an epoch if it is the best so far.

    Args:
        save: function without arguments that writes the checkpoint.
        monitor: the figure that decides, higher is better; None saves every epoch.
    """

    def __init__(self, save, monitor=None):
        super().__init__()
        self.save = save
        self.monitor = monitor
        self.best_epoch = None
        self.best = -math.inf

    def on_epoch_end(self, epoch, logs=None):
        figure = math.inf if self.monitor is None else float((logs or {})[self.monitor])
        if self.monitor is None or figure > self.best:
            self.save()
            self.best, self.best_epoch = figure, epoch + 1


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
