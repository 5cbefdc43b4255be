"""What a run shows while it trains: a bar on a terminal, lines elsewhere.

epoch 2/3  41% |████████            | 128/313 loss 0.412, rate 2.1e-04, 9,120 tokens/s, 03:21 left
epoch 2/3 in 01:52: accuracy 0.9012, loss 0.3870, val_loss 0.4410, 9,087 tokens/s, 02:40 left
"""  # noqa: E501

import time

import keras
from tqdm import tqdm

BAR = "{desc} {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt}{postfix}"
LINE_SECONDS = 60.0


class TokenCount:
    """How many tokens, without padding, the batches had that were made so far."""

    def __init__(self):
        self.number = 0

    def __call__(self, tokens: int):
        self.number += tokens


class Progress(keras.callbacks.Callback):
    """Shows each epoch's loss, learning rate, tokens per second and the time left of the run.

    Tokens per second are those of real text, without padding. The time left is that of all steps
    to come at the mean pace of those done here, with the validations between them. Neither counts
    a first step, which may have waited for a compiler.

    Args:
        epochs, steps: of the whole run, and in an epoch.
        rate: function of a step, in batches since the run's beginning → its learning rate.
        tokens: counts those of the training's batches.
        verbose: as in `model.fit`: 0 nothing; 1 a bar; 2 lines; "auto" a bar on a terminal and
            lines elsewhere.
    """

    def __init__(self, epochs, steps, rate, tokens: TokenCount, verbose="auto"):
        super().__init__()
        self.epochs, self.steps = epochs, steps
        self.rate, self.tokens = rate, tokens
        self.verbose = verbose
        self.began = None  # time and step of the first step's end, here

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.epoch_began = epoch, time.monotonic()
        self.first = self.done = self.steps - self.params["steps"]  # of a broken epoch, the rest
        self.clock, self.speed = None, 0.0
        hidden = {"auto": None, 1: False}.get(self.verbose, True)  # None: on a terminal only
        self.bar = tqdm(
            total=self.steps, initial=self.first, disable=hidden, leave=False, bar_format=BAR,
            desc=self.name(), dynamic_ncols=True,
        )  # fmt: skip

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self.done = self.first + batch + 1
        if self.clock is None:
            self.clock, self.counted, self.shown = now, self.tokens.number, now
            self.began = self.began or (now, self.step())
        elif now > self.clock:
            self.speed = (self.tokens.number - self.counted) / (now - self.clock)
        if not self.verbose or now - self.shown < (LINE_SECONDS if self.bar.disable else 0.2):
            return
        self.shown, state = now, self.state(now, logs)
        if self.bar.disable:
            print(f"{self.name()}, {self.done}/{self.steps}: {state}", flush=True)
        else:
            self.bar.n = self.done
            self.bar.set_postfix_str(state)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.close()
        if self.verbose:
            took = tqdm.format_interval(time.monotonic() - self.epoch_began)
            figures = [f"{name} {float(value):.4f}" for name, value in (logs or {}).items()]
            shown = ", ".join([*figures, *self.pace(time.monotonic())])
            print(f"{self.name()} in {took}: {shown}", flush=True)

    def name(self) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs}"

    def step(self) -> int:
        """Batches done since the run's beginning."""
        return self.epoch * self.steps + self.done

    def state(self, now, logs) -> str:
        loss, rate = float((logs or {})["loss"]), float(self.rate(self.step()))
        return ", ".join([f"loss {loss:.3f}", f"rate {rate:.1e}", *self.pace(now)])

    def pace(self, now) -> list[str]:
        """Tokens per second and the time left, as far as they are known."""
        shown = [f"{self.speed:,.0f} tokens/s"] if self.speed else []
        done, to_come = self.step() - self.began[1], self.epochs * self.steps - self.step()
        if done and to_come:
            left = (now - self.began[0]) / done * to_come
            shown.append(f"{tqdm.format_interval(left)} left")
        return shown
