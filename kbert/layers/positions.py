"""Where a token stands, which attention alone cannot know.

The layers here and in `position_biases.py` are called on the embeddings, x (B, T, D), and tell the
positions 0 to T-1; an encoder that takes them as a part takes any. Each says in `gives` how it does
so:

    "sum"       float (T, D), added to the embeddings;
    "bias"      float (1, H, T, T), added to the scaled products of every attention;
    "rotation"  float (2, T, K), which turns the queries and keys of every attention (`rotate`).
"""

import math

import keras
from keras import ops

WAYS = ("sum", "bias", "rotation")


def placed(x, positions):
    """Tell an encoder where its tokens stand, in whichever way `positions` does it.

    Args:
        x: float (B, T, D), the embeddings.
        positions: a layer of these files, or another with `gives`.

    Returns:
        float (B, T, D), and what every block is called with beside it: {}, {"bias": …} or
        {"rotation": …}.

    Raises:
        ValueError: the layer does not say what it gives.
    """
    way = getattr(positions, "gives", None)
    if way not in WAYS:
        raise ValueError(
            f"{positions!r} does not say how it tells positions: its `gives` is {way!r}, expected "
            f"one of {', '.join(WAYS)}. Hand in a layer of kbert.layers.positions or of "
            "kbert.layers.position_biases."
        )
    if way == "sum":
        return x + positions(x), {}
    return x, {way: positions(x)}


@keras.saving.register_keras_serializable("kbert")
class SinusoidalPositions(keras.layers.Layer):
    """Sine and cosine position encoding (Vaswani et al. 2017, 3.5); no weights.

    PE(pos, 2i) = sin(pos / base^(2i/D)), PE(pos, 2i+1) = cos(pos / base^(2i/D)).

    Args:
        base: float, 10000 in the paper.

    Call: x, float (B, T, D) -> float (T, D), the encodings of positions 0 to T-1, to be added.
    """

    gives = "sum"

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

    gives = "sum"

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


@keras.saving.register_keras_serializable("kbert")
class RotaryPositions(keras.layers.Layer):
    """Rotary position embedding, RoPE (Su et al. 2021, 3.2.2); no weights.

    Pair i of a query or key turns by the angle pos / base^(2i/K), so that their product depends on
    the distance of their positions alone. Pair i is the values i and i + K/2, as in Llama and
    ModernBERT, where the paper takes neighbours.

    Args:
        head_width: int, K, even.
        base: float, 10000 in the paper.

    Call: x, float (B, T, D) -> float (2, T, K): the cosines of all K values, and their sines, the
        first half negative. `rotate` applies them.

    Raises:
        ValueError: `head_width` is odd.
    """

    gives = "rotation"

    def __init__(self, head_width, base=10000.0, **kwargs):
        super().__init__(**kwargs)
        if head_width % 2:
            raise ValueError(
                f"Rotary positions turn pairs of values: head_width must be even; got {head_width}."
            )
        self.head_width = head_width
        self.base = base
        pairs = range(0, head_width, 2)
        self.frequencies = [base ** -(pair / head_width) for pair in pairs]  # (K/2,)

    def call(self, x):
        position = ops.cast(ops.arange(ops.shape(x)[1]), "float32")[:, None]
        angle = position * ops.convert_to_tensor(self.frequencies, "float32")  # (T, K/2)
        cosine, sine = ops.cos(angle), ops.sin(angle)
        cosine = ops.concatenate([cosine, cosine], axis=-1)
        sine = ops.concatenate([-sine, sine], axis=-1)
        return ops.cast(ops.stack([cosine, sine]), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (2, input_shape[1], self.head_width)

    def get_config(self):
        return {**super().get_config(), "head_width": self.head_width, "base": self.base}


def rotate(x, rotation):
    """Turn every pair (a, b) of x by its position's angle: (a cos - b sin, b cos + a sin).

    Args:
        x: float (B, T, H, K), queries or keys.
        rotation: float (2, T, K), of `RotaryPositions`.

    Returns:
        float (B, T, H, K).
    """
    first, second = ops.split(x, 2, axis=-1)
    swapped = ops.concatenate([second, first], axis=-1)
    return x * rotation[0][:, None] + swapped * rotation[1][:, None]
