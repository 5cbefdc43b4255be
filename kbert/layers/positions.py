"""Where a token stands: sinusoidal position encoding and learned positions."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("kbert")
class SinusoidalPositions(keras.layers.Layer):
    """Sine and cosine position encoding (Vaswani et al. 2017, 3.5); no weights.

    PE(pos, 2i) = sin(pos / base^(2i/D)), PE(pos, 2i+1) = cos(pos / base^(2i/D)).

    Args:
        base: float, 10000 in the paper.

    Call: x, float (B, T, D) -> float (T, D), the encodings of positions 0 to T-1, to be added.
    """

    def __init__(self, base=10000.0, **kwargs):
        super().__init__(**kwargs)
        self.base = base

    def call(self, x):
        encoding = _sinusoids(ops.shape(x)[1], x.shape[-1], self.base)
        return ops.cast(encoding, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape[1:]

    def get_config(self):
        return {**super().get_config(), "base": self.base}


def _sinusoids(length, width, base):
    position = ops.cast(ops.arange(length), "float32")[:, None]
    column = ops.arange(width)
    pair = ops.cast(2 * (column // 2), "float32")
    angle = position * ops.exp(pair * (-math.log(base) / width))
    return ops.where(column % 2 == 0, ops.sin(angle), ops.cos(angle))


@keras.saving.register_keras_serializable("kbert")
def sinusoidal(shape, dtype=None):
    """An initializer: learned positions, shape (S, D), that begin as the sinusoidal ones."""
    return ops.cast(_sinusoids(*shape, base=10000.0), dtype or keras.config.floatx())


@keras.saving.register_keras_serializable("kbert")
class LearnedPositions(keras.layers.Layer):
    """One learned vector per position (Vaswani et al. 2017, 3.5; Devlin et al. 2019).

    Args:
        max_length: int, the number of positions, in tokens.
        embeddings_initializer: a Keras initializer.
        first: int, the row of the first token; RoBERTa's table has rows before it that no token
            takes. The table has `first` + `max_length` rows.

    Call: x, float (B, T, D) -> float (T, D), the vectors of positions 0 to T-1, to be added.

    Raises:
        ValueError: T is known to be above `max_length`.
    """

    def __init__(self, max_length, embeddings_initializer="uniform", first=0, **kwargs):
        super().__init__(**kwargs)
        self.max_length = max_length
        self.first = first
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            shape=(self.first + self.max_length, input_shape[-1]),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )

    def call(self, x):
        if x.shape[1] is not None and x.shape[1] > self.max_length:
            raise ValueError(
                f"{x.shape[1]} tokens came, but this model has positions for at most "
                f"{self.max_length}. Truncate the text, or cut it into windows."
            )
        return self.embeddings[self.first : self.first + ops.shape(x)[1]]

    def compute_output_shape(self, input_shape):
        return input_shape[1:]

    def get_config(self):
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "first": self.first,
        }
