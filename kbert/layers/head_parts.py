"""How the published heads of architectures differ: parts handed to a head with the encoder."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from kbert.layers.normalization import LayerNormalization


@dataclass(frozen=True)
class HeadParts:
    """What a head is made of; the defaults are BERT's. A builder sets `encoder.head_parts`.

    Attributes:
        pooling: the vector of a text that the pooler takes: "cls", its first token; "mean", the
            mean of its real tokens.
        pooler_dense: whether a dense layer follows (MobileBERT may have none).
        pooler_activation: a name of `activations.ACTIVATIONS`, after that dense layer.
        pooler_bias: whether it has a bias.
        pooler_dropout: probability of dropping a value before it (RoBERTa, ELECTRA, DeBERTa).
        pooler_norm: whether normalisation stands after it (ModernBERT).
        pool_tokens: whether heads of tokens put every token through the pooler's layers
            (ModernBERT).
        transform_width: of the masked-LM head's hidden layer; None for the encoder's D.
        transform_activation: a name of `activations.ACTIVATIONS`.
        transform_bias: whether that layer has a bias.
        replaced_token_activation: a name of `activations.ACTIVATIONS`, in the head that finds
            replaced tokens.
        norm: name, dtype policy → a new normalisation layer.
        initializer_range: standard deviation of new kernels.
    """

    pooling: str = "cls"
    pooler_dense: bool = True
    pooler_activation: str = "tanh"
    pooler_bias: bool = True
    pooler_dropout: float = 0.0
    pooler_norm: bool = False
    pool_tokens: bool = False
    transform_width: int | None = None
    transform_activation: str = "gelu"
    transform_bias: bool = True
    replaced_token_activation: str = "gelu"
    norm: Callable[..., keras.layers.Layer] = LayerNormalization
    initializer_range: float = 0.02

    def dense(self, units, name, **settings) -> keras.layers.Dense:
        """A new dense layer with this architecture's initial values."""
        initializer = keras.initializers.TruncatedNormal(stddev=self.initializer_range)
        return keras.layers.Dense(units, kernel_initializer=initializer, name=name, **settings)


def head_parts(encoder: keras.Model) -> HeadParts:
    """The parts that an encoder's builder set, or BERT's."""
    return getattr(encoder, "head_parts", None) or HeadParts()


def policy(tensor):
    """The dtype policy of the layer that made a tensor, so that a head computes as its encoder."""
    return tensor._keras_history.operation.dtype_policy
