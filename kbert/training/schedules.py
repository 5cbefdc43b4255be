"""Learning rates over the steps of a run: warm-up, then linear or cosine decay."""

import math

import keras
from keras import ops

SCHEDULES = ("linear", "cosine", "constant")


@keras.saving.register_keras_serializable("kbert")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """From 0 up to `peak` in `warmup_steps`, then down to 0 at `total_steps`.

    Args:
        peak: float, the highest learning rate.
        total_steps: int, optimizer steps of the whole run.
        warmup_steps: int, optimizer steps of the warm-up.
        shape: "linear" (Devlin et al. 2019, A.2), "cosine" (half a wave), or "constant".
    """

    def __init__(self, peak, total_steps, warmup_steps=0, shape="linear"):
        if shape not in SCHEDULES:
            raise ValueError(f"shape must be one of {', '.join(SCHEDULES)}; got {shape!r}.")
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.shape = shape

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = step / max(self.warmup_steps, 1)
        done = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        done = ops.clip(done, 0.0, 1.0)
        falling = {
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + ops.cos(math.pi * done)),
            "constant": ops.ones_like(done),
        }[self.shape]
        return self.peak * ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "shape": self.shape,
        }
