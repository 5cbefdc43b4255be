"""Disentangled attention and the relative positions it reads (He et al. 2021, 2006.03654).

A logit is the sum of three products of what a token is (content, c) and how far the other stands
(relative position, p): content to content, as in every attention, content to position (c2p) and
position to content (p2c):

    A[t, s] = q_t · k_s  +  q_t · K_r[δ(t, s)]  +  k_s · Q_r[δ(t, s)]

where δ is the bucket of the distance t - s, and K_r and Q_r are keys and queries made of one
embedding for each bucket.
"""

import math

import keras
import numpy as np
from keras import ops

from kbert.layers import kernels, masks, parts
from kbert.layers.dropout import Dropout

TERMS = ("c2p", "p2c")


def bucket(distance, num_buckets, max_distance):
    """The bucket of a distance: near ones have one each, far ones share, ever more of them.

    The bucket is the distance up to m = num_buckets / 2; beyond, it grows with the logarithm and
    reaches 2m - 1 at max_distance - 1 (`make_log_bucket_position` in Microsoft's DeBERTa).

    Args:
        distance: int, of the query's place from the key's, in tokens; negative if the key stands
            later.
        num_buckets: int, buckets on each side; 0 for one bucket a distance.
        max_distance: int, in tokens.

    Returns:
        int, of the sign of `distance`.
    """
    middle = num_buckets // 2
    if not num_buckets or abs(distance) <= middle:
        return distance
    share = math.log(abs(distance) / middle) / math.log((max_distance - 1) / middle)
    number = math.ceil(share * (middle - 1)) + middle
    return number if distance > 0 else -number


@keras.saving.register_keras_serializable("kbert")
class RelativePositions(keras.layers.Layer):
    """One learned vector for each bucket of distances; made once, read by every block.

    Args:
        max_distance: int, in tokens; farther ones count as this far.
        num_buckets: int, buckets on each side of a token; 0 for one bucket a distance.
        norm: a layer (R, D) -> (R, D) that normalises the vectors, or None.
        embeddings_initializer: a Keras initializer.

    Call:
        x: float (B, T, D), read for its length and width alone.

    Returns:
        rows: float (R, D), the vectors of the buckets that T tokens have, R ≤ 2T + 1.
        places: int (2T + 1,), which of the rows each distance takes, from -T to T.

    Raises:
        ValueError: `num_buckets` is odd, below 4, or above `max_distance`.
    """

    def __init__(
        self, max_distance, num_buckets=0, norm=None, embeddings_initializer="uniform", **kwargs
    ):
        super().__init__(**kwargs)
        if num_buckets and (num_buckets < 4 or num_buckets % 2 or max_distance < num_buckets):
            raise ValueError(
                f"{num_buckets} buckets for distances up to {max_distance} tokens; expected an "
                "even number from 4 to that distance, or 0 for one bucket a distance."
            )
        self.max_distance = max_distance
        self.num_buckets = num_buckets
        self.norm = norm
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.span = num_buckets or max_distance
        # From `max_distance` on, every distance has the last row of its side.
        near = range(-max_distance, max_distance + 1)
        found = [bucket(distance, num_buckets, max_distance) + self.span for distance in near]
        self.row_of_distance = np.clip(found, 0, 2 * self.span - 1).astype("int32")

    def build(self, input_shape):
        width = input_shape[-1]
        self.embeddings = self.add_weight(
            shape=(2 * self.span, width),
            initializer=self.embeddings_initializer,
            name="embeddings",
        )
        if self.norm is not None:
            self.norm.build((None, width))

    def call(self, x):
        length = ops.shape(x)[1]
        # A length that is known gives numbers, and XLA fixed sizes; an open one gives tensors.
        array = np if isinstance(length, int) else ops
        farthest = self.max_distance
        distances = array.clip(array.arange(-length, length + 1), -farthest, farthest)
        found = array.take(self.row_of_distance, distances + farthest)
        rows = self.embeddings[found[0] : found[-1] + 1]
        rows = rows if self.norm is None else self.norm(rows)
        return rows, ops.convert_to_tensor(found - found[0])

    def compute_output_spec(self, x):
        rows = keras.KerasTensor((None, x.shape[-1]), self.compute_dtype)
        return rows, keras.KerasTensor((None,), "int32")

    def get_config(self):
        norm = None if self.norm is None else parts.to_config(self, ("norm",))["norm"]
        return {
            **super().get_config(),
            "max_distance": self.max_distance,
            "num_buckets": self.num_buckets,
            "norm": norm,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**(parts.from_config(config, ("norm",)) if config["norm"] else config))


@keras.saving.register_keras_serializable("kbert")
class DisentangledAttention(keras.layers.Layer):
    """softmax(scale · (QKᵀ + c2p + p2c)) V for H heads side by side (He et al. 2021, eq. 4).

    `scale` is (nK)**-0.5, n the number of products that are summed: 3 with both terms.

    Args:
        num_heads: int, H.
        head_width: int, K.
        terms: which of `TERMS` there are beside content to content; with none, it is plain
            attention and takes no `relative`.
        shared: whether positions become keys and queries by the layers that content does (v2 and
            v3); otherwise by layers of their own.
        dropout: float, probability of dropping a score.
        position_dropout: float, probability of dropping a value of the positions' vectors.
        kernel_initializer: a Keras initializer.

    Call:
        x: float (B, T, D).
        relative: what `RelativePositions` gives: rows float (R, D), places int (2T + 1,).
        attention_mask: bool, broadcastable to (B, H, T, T); True = may attend.
        bias: float, broadcastable to (B, H, T, T), added to the scaled products.
        return_scores: bool.

    Returns:
        float (B, T, D); with `return_scores` also the scores, float (B, H, T, T), rows sum to 1.

    Raises:
        ValueError: a term is not known; `attention_mask` is not boolean.
    """

    def __init__(
        self,
        num_heads,
        head_width,
        terms=TERMS,
        shared=True,
        dropout=0.0,
        position_dropout=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not set(terms) <= set(TERMS):
            raise ValueError(f"terms are {terms!r}; expected some of {', '.join(TERMS)}.")
        self.num_heads = num_heads
        self.head_width = head_width
        self.terms = tuple(terms)
        self.shared = shared
        self.dropout = dropout
        self.position_dropout = position_dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.scale = ((1 + len(self.terms)) * head_width) ** -0.5
        self.query = self._dense("query")
        self.key = self._dense("key")
        self.value = self._dense("value")
        self.position_key, self.position_query = self.key, self.query
        if not shared:
            self.position_key = self._dense("position_key") if "c2p" in terms else None
            self.position_query = self._dense("position_query") if "p2c" in terms else None
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")
        self.drop_position = Dropout(
            position_dropout, dtype=self.dtype_policy, name="drop_position"
        )

    def _dense(self, name, units=None):
        return keras.layers.Dense(
            units or self.num_heads * self.head_width,
            kernel_initializer=parts.fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, x_shape):
        width = x_shape[-1]
        self.output_dense = self._dense("output", width)
        own = () if self.shared else (self.position_key, self.position_query)
        for dense in (self.query, self.key, self.value, *filter(None, own)):
            dense.build((None, width))
        self.output_dense.build((None, self.num_heads * self.head_width))

    def call(
        self, x, relative=None, attention_mask=None, bias=None, return_scores=False, training=None
    ):
        query, key, value = (
            self._project(dense, x) for dense in (self.query, self.key, self.value)
        )
        if self.terms:
            distances = self._distances(query, key, relative, training)
            bias = distances if bias is None else distances + bias
        dropping = bool(training) and self.dropout > 0
        drop = (lambda scores: self.drop(scores, training=True)) if dropping else None
        operands = (query, key, value, masks.check(attention_mask), bias)
        if return_scores:
            output, scores = kernels.plain_attention(*operands, scale=self.scale, drop=drop)
        else:
            output = kernels.attention(*operands, scale=self.scale, drop=drop)
        rows = ops.reshape(output, (-1, self.num_heads * self.head_width))
        output = ops.reshape(self.output_dense(rows), ops.shape(x))
        return (output, scores) if return_scores else output

    def _project(self, dense, x):
        """(B, T, D) -> (B, T, H, K), as one product of matrices."""
        rows = self._heads(dense(ops.reshape(x, (-1, x.shape[-1]))))
        return ops.reshape(rows, (*ops.shape(x)[:2], self.num_heads, self.head_width))

    def _heads(self, rows):
        """(R, H·K) -> (R, H, K)."""
        return ops.reshape(rows, (-1, self.num_heads, self.head_width))

    def _distances(self, query, key, relative, training):
        """scale · (c2p + p2c): float (B, H, T, T)."""
        rows, places = relative
        rows = self.drop_position(rows, training=training)

        def products(content, dense, places):
            """[h, b, t, s] = scale · content[b, t, h] · position[distance of s from t, h]."""
            position = ops.take(self._heads(dense(rows)) * self.scale, places, axis=0)
            # Heads first: one product of matrices for each, however many texts there are.
            return diagonals(ops.einsum("bthk,rhk->hbtr", content, position))

        terms = []
        if "c2p" in self.terms:
            terms.append(products(query, self.position_key, ops.flip(places)))
        if "p2c" in self.terms:
            terms.append(ops.swapaxes(products(key, self.position_query, places), -1, -2))
        return ops.transpose(sum(terms[1:], terms[0]), (1, 0, 2, 3))

    def compute_output_spec(
        self, x, relative=None, attention_mask=None, bias=None, return_scores=False, training=None
    ):
        output = keras.KerasTensor(x.shape, self.compute_dtype)
        scores = (x.shape[0], self.num_heads, x.shape[1], x.shape[1])
        return (output, keras.KerasTensor(scores, self.compute_dtype)) if return_scores else output

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_width": self.head_width,
            "terms": list(self.terms),
            "shared": self.shared,
            "dropout": self.dropout,
            "position_dropout": self.position_dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def diagonals(x):
    """The T columns of every row from where it stands: [t, s] = x[t, T + s - t].

    No index is made and nothing gathered: cut anew into rows that are one column shorter, each
    row begins one column further to the left than the row above.

    Args:
        x: float (…, T, 2T + 1), column c for what stands c - T places after the row's own place.

    Returns:
        float (…, T, T).
    """
    *outer, length, width = ops.shape(x)
    flat = ops.reshape(x, (*outer, length * width))
    # `ops.slice` and not brackets: TensorFlow takes the gradient of those three times as slowly.
    flat = ops.slice(flat, (0,) * len(outer) + (length,), (*outer, length * (width - 1)))
    shorter = ops.reshape(flat, (*outer, length, width - 1))
    return ops.slice(shorter, (0,) * (len(outer) + 2), (*outer, length, length))
