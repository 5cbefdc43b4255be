"""Where a token stands, told to attention: a bias that grows with the distance of query and key."""

import math

import keras
from keras import ops


def _distances(x):
    """int (T, T): how far after its query each key stands."""
    place = ops.arange(ops.shape(x)[1])
    return place[None, :] - place[:, None]


@keras.saving.register_keras_serializable("kbert")
class RelativeBias(keras.layers.Layer):
    """T5's relative position bias (Raffel et al. 2020, 2.1): a learned number per head and bucket.

    Half of the buckets hold one distance each, the other half hold ranges that grow by a constant
    factor up to `max_distance`; what is further shares the last. In both directions, keys before
    and after the query have half of the buckets each; in one, keys after it share bucket 0.

    Args:
        num_heads: int, H.
        num_buckets: int, 32 in T5.
        max_distance: int, in tokens, 128 in T5.
        bidirectional: bool, whether keys after the query are told apart (encoders).
        embeddings_initializer: a Keras initializer.

    Call: x, float (B, T, D) -> float (1, H, T, T), to be added to the scaled products.
    """

    gives = "bias"

    def __init__(
        self,
        num_heads,
        num_buckets=32,
        max_distance=128,
        bidirectional=True,
        embeddings_initializer="uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.starts = _bucket_starts(num_buckets // (2 if bidirectional else 1), max_distance)

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            shape=(self.num_buckets, self.num_heads),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )

    def call(self, x):
        buckets = self.buckets(_distances(x))
        bias = ops.take(self.embeddings, buckets, axis=0)  # (T, T, H)
        return ops.cast(ops.transpose(bias, (2, 0, 1))[None], self.compute_dtype)

    def buckets(self, distances):
        """int (…), key's position less the query's -> int (…), from 0 to `num_buckets` - 1."""
        if not self.bidirectional:
            return ops.digitize(-distances, self.starts)
        after = ops.cast(distances > 0, "int32") * (self.num_buckets // 2)
        return after + ops.digitize(ops.abs(distances), self.starts)

    def compute_output_shape(self, input_shape):
        return (1, self.num_heads, input_shape[1], input_shape[1])

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


def _bucket_starts(num_buckets, max_distance):
    """The smallest distance of each bucket but the first.

    In whole numbers, so that no backend's logarithm moves a bound: bucket `exact` + k of n = num -
    exact begins where distance / exact reaches (max / exact)^(k/n).
    """
    exact = num_buckets // 2
    ranges = num_buckets - exact
    starts, distance = list(range(1, exact + 1)), exact
    for k in range(1, ranges):
        while distance**ranges * exact**k < max_distance**k * exact**ranges:
            distance += 1
        starts.append(distance)
    return starts


@keras.saving.register_keras_serializable("kbert")
class LinearBias(keras.layers.Layer):
    """ALiBi, attention with linear biases (Press et al. 2022, 3); no weights.

    Each head's scores fall by its slope with every token of distance, to both sides. The slopes of
    H heads are 2^(-8/H), 2^(-16/H), …, 2^-8; where H is no power of two, the authors' code takes
    those of the next lower power and then every second of the next higher.

    Args:
        num_heads: int, H.

    Call: x, float (B, T, D) -> float (1, H, T, T), to be added to the scaled products.
    """

    gives = "bias"

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        lower = 2 ** int(math.log2(num_heads))
        between = _slopes(2 * lower)[::2]
        self.slopes = _slopes(lower) + between[: num_heads - lower]

    def call(self, x):
        distances = ops.cast(ops.abs(_distances(x)), "float32")
        slopes = ops.convert_to_tensor(self.slopes, "float32")[None, :, None, None]
        return ops.cast(-slopes * distances, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (1, self.num_heads, input_shape[1], input_shape[1])

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


def _slopes(power_of_two):
    return [2 ** (-8 * (head + 1) / power_of_two) for head in range(power_of_two)]
