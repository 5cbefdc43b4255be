"""Numbers for a text, in their own units: a classifier's layers, then a fixed scale."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from kbert.heads.classification import classification


def regression(
    encoder: keras.Model,
    means: Sequence[float],
    deviations: Sequence[float],
    pooling: str = "pooler",
    dropout: float = 0.1,
) -> keras.Model:
    """Extend an encoder with C numbers (STS-B in Devlin et al. 2019, 4.1, which has one).

    The dense layer learns numbers of mean 0 and deviation 1, whatever their unit: at an
    optimizer's steps of one size a price in thousands would never be reached.

    Args:
        encoder: gives `sequence` (B, T, D).
        means, deviations: C floats each, of the numbers to learn.
        pooling, dropout: as in `classification`.

    Returns:
        A functional model: the encoder's inputs -> numbers, float32 (B, C).
    """
    model = classification(encoder, len(means), pooling, dropout)
    x = OwnUnit(list(means), list(deviations), dtype="float32", name="own_unit")(model.output)
    return keras.Model(encoder.input, x, name="regression")


@keras.saving.register_keras_serializable("kbert")
class OwnUnit(keras.layers.Layer):
    """x · deviation + mean, float (…, C) -> float (…, C), after the dense layer "classifier".

    A checkpoint has no such layer: its dense layer gives the numbers themselves.

    Args:
        means, deviations: lists of C floats.
    """

    def __init__(self, means, deviations, **kwargs):
        super().__init__(**kwargs)
        self.means = means
        self.deviations = deviations

    def call(self, x):
        deviations = ops.convert_to_tensor(self.deviations, x.dtype)
        return x * deviations + ops.convert_to_tensor(self.means, x.dtype)

    def folded(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Variable path → array, the scale gone into the dense layer: for a checkpoint."""
        scale, means = np.array(self.deviations), np.array(self.means)
        return self._changed(arrays, lambda k: k * scale, lambda b: b * scale + means)

    def unfolded(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The other way: what the dense layer must hold, of what a checkpoint has for it."""
        scale, means = np.array(self.deviations), np.array(self.means)
        return self._changed(arrays, lambda k: k / scale, lambda b: (b - means) / scale)

    def _changed(self, arrays, kernel, bias):
        changes = {"classifier/kernel": kernel, "classifier/bias": bias}
        return {
            path: changes[path](array).astype("float32") if path in changes else array
            for path, array in arrays.items()
        }

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "means": self.means, "deviations": self.deviations}
