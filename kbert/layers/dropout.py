"""Dropout."""

import keras

from kbert.layers import kernels


@keras.saving.register_keras_serializable("kbert")
class Dropout(keras.layers.Layer):
    """Drops each value with probability `rate` in training (Srivastava et al. 2014).

    As `keras.layers.Dropout`, by the backend's cheapest random numbers (`kernels.dropout`).

    Args:
        rate: float from 0 up to 1, the probability of dropping a value.
        seed: int or `keras.random.SeedGenerator`.

    Call: x, float (…) -> float (…); as it came, unless training.

    Raises:
        ValueError: `rate` is not from 0 up to 1.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be a probability from 0 up to 1; got {rate}.")
        self.rate = rate
        self.seed = seed
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, x, training=False):
        if training and self.rate > 0:
            return kernels.dropout(x, self.rate, self.seed_generator)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
