"""ALBERT: A Lite BERT (Lan et al. 2020, 1909.11942).

What differs from BERT: the embeddings are narrower than the blocks (E against D) and a dense layer
widens them; the layers of a group share their weights, and in the published models there is one
group; sentence order takes the place of the next sentence; version 2 is trained without dropout.
Dropout stands after the attention but not after the feed-forward network, as in transformers.

A layer of the paper is a group of blocks one after another, one block in the published models.
"""

from dataclasses import dataclass
from functools import partial

import keras

from kbert.layers import masks
from kbert.layers.activations import ACTIVATIONS
from kbert.layers.attention import MultiHeadAttention
from kbert.layers.dropout import Dropout
from kbert.layers.embeddings import TokenEmbedding
from kbert.layers.encoder import EncoderBlock
from kbert.layers.feed_forward import FeedForward
from kbert.layers.head_parts import HeadParts
from kbert.layers.normalization import LayerNormalization
from kbert.layers.positions import LearnedPositions, placed
from kbert.layers.residual import PostNorm
from kbert.weights import names


@dataclass(frozen=True)
class AlbertConfig:
    """The sizes of an ALBERT; the defaults are ALBERT-base, version 2."""

    vocab_size: int = 30000
    embedding_width: int = 128  # E
    num_layers: int = 12
    num_groups: int = 1  # of layers that share their weights
    blocks_per_layer: int = 1
    width: int = 768  # D
    num_heads: int = 12  # H
    inner_width: int = 3072  # F
    max_length: int = 512  # positions, in tokens with the special ones
    num_segments: int = 2
    activation: str = "gelu_new"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    norm_epsilon: float = 1e-12
    initializer_range: float = 0.02


# Published sizes: https://github.com/google-research/albert, version 2.
ALBERT_BASE = AlbertConfig()
ALBERT_LARGE = AlbertConfig(num_layers=24, width=1024, num_heads=16, inner_width=4096)
ALBERT_XLARGE = AlbertConfig(num_layers=24, width=2048, num_heads=16, inner_width=8192)
ALBERT_XXLARGE = AlbertConfig(width=4096, num_heads=64, inner_width=16384)


def albert(config: AlbertConfig, dtype=None, positions=None) -> keras.Model:
    """ALBERT's encoder.

    Args:
        config: the sizes.
        dtype: a Keras dtype policy, "float32" or "mixed_bfloat16"; default Keras's own.
        positions: a layer of `layers.positions` or `layers.position_biases` in place of the
            learned positions; config.json cannot say so, and `checkpoint.save` refuses.

    Returns:
        A functional model: `token_ids` int (B, T), `segment_ids` int (B, T), `padding_mask` bool
        (B, T), True = a real token -> `sequence` float (B, T, D).
    """

    def initializer():
        return keras.initializers.TruncatedNormal(stddev=config.initializer_range)

    # Layers
    token_embedding = TokenEmbedding(
        config.vocab_size, config.embedding_width, embeddings_initializer=initializer(),
        dtype=dtype, name="token_embedding",
    )  # fmt: skip
    positions = positions or LearnedPositions(
        config.max_length, initializer(), dtype=dtype, name="position_embedding"
    )
    segment_embedding = keras.layers.Embedding(
        config.num_segments, config.embedding_width, embeddings_initializer=initializer(),
        dtype=dtype, name="segment_embedding",
    )  # fmt: skip
    embedding_norm = LayerNormalization(config.norm_epsilon, dtype=dtype, name="embedding_norm")
    embedding_dropout = Dropout(config.dropout, dtype=dtype, name="embedding_dropout")
    embedding_projection = keras.layers.Dense(
        config.width, kernel_initializer=initializer(), dtype=dtype, name="embedding_projection"
    )
    groups = [
        [
            _block(config, f"block_{i}_{j}" if j else f"block_{i}", dtype)
            for j in range(config.blocks_per_layer)
        ]
        for i in range(config.num_groups)
    ]

    # Graph
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    segment_ids = keras.Input((None,), dtype="int32", name="segment_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    tokens = token_embedding(token_ids)  # (B, T, E)
    x, given = placed(tokens + segment_embedding(segment_ids), positions)
    x = embedding_projection(embedding_dropout(embedding_norm(x)))  # (B, T, D)
    mask = masks.padding(padding_mask)  # (B, 1, 1, T)
    for layer in range(config.num_layers):
        # Divided as in transformers, so that a layer falls to the same group at odd numbers too.
        for block in groups[int(layer / (config.num_layers / config.num_groups))]:
            x = block(x, attention_mask=mask, **given)
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, {"sequence": x}, name="albert")
    model.head_parts = head_parts(config)
    return model


def _block(config, name, dtype):
    """A block, as BERT's but for where dropout stands."""

    def initializer():
        return keras.initializers.TruncatedNormal(stddev=config.initializer_range)

    def residual(dropout, name):
        norm = LayerNormalization(config.norm_epsilon, dtype=dtype, name="norm")
        return PostNorm(norm, dropout, dtype=dtype, name=name)

    return EncoderBlock(
        MultiHeadAttention(
            config.num_heads, config.width // config.num_heads, config.attention_dropout,
            kernel_initializer=initializer(), dtype=dtype, name="attention",
        ),
        residual(config.dropout, "attention_residual"),
        FeedForward(
            config.inner_width, config.activation,
            kernel_initializer=initializer(), dtype=dtype, name="feed_forward",
        ),
        residual(0.0, "feed_forward_residual"),
        dtype=dtype,
        name=name,
    )  # fmt: skip


def head_parts(config: AlbertConfig) -> HeadParts:
    """What ALBERT's heads are made of; masked words are told at the width of the embeddings."""
    return HeadParts(
        transform_width=config.embedding_width,
        transform_activation=config.activation,
        norm=partial(LayerNormalization, config.norm_epsilon),
        initializer_range=config.initializer_range,
    )


def _block_names(ours, theirs):
    return (
        *names.dense(f"{ours}/attention/query", f"{theirs}.attention.query"),
        *names.dense(f"{ours}/attention/key", f"{theirs}.attention.key"),
        *names.dense(f"{ours}/attention/value", f"{theirs}.attention.value"),
        *names.dense(f"{ours}/attention/output", f"{theirs}.attention.dense"),
        *names.norm(f"{ours}/attention_residual/norm", f"{theirs}.attention.LayerNorm"),
        *names.dense(f"{ours}/feed_forward/inner", f"{theirs}.ffn"),
        *names.dense(f"{ours}/feed_forward/outer", f"{theirs}.ffn_output"),
        *names.norm(f"{ours}/feed_forward_residual/norm", f"{theirs}.full_layer_layer_norm"),
    )


# Hugging Face's names (modeling_albert.py of transformers).
PREFIX = "albert."
STEM = "Albert"
GROUP = "encoder.albert_layer_groups.{i}"
NAMES = (
    names.Row("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    names.Row("position_embedding/embeddings", "embeddings.position_embeddings.weight"),
    names.Row("segment_embedding/embeddings", "embeddings.token_type_embeddings.weight"),
    *names.norm("embedding_norm", "embeddings.LayerNorm"),
    *names.dense("embedding_projection", "encoder.embedding_hidden_mapping_in"),
    # A group's first block, the only one in the published models, has the group's number alone.
    *_block_names("block_{i}", f"{GROUP}.albert_layers.0"),
    *_block_names("block_{i}_{j}", f"{GROUP}.albert_layers.{{j}}"),
    *names.left_out("embeddings.position_ids"),
)
POOLER = names.dense("pooler", "pooler")
CLASSIFIER = names.dense("classifier", "classifier", head=True)
SENTENCE_ORDER = names.dense("sentence_order", "sop_classifier.classifier", head=True)
MASKED_LM = (
    *names.dense("masked_lm_transform", "predictions.dense", head=True),
    *names.norm("masked_lm_norm", "predictions.LayerNorm", head=True),
    names.Row("masked_lm_bias/bias", "predictions.bias", head=True),
    *names.tied("predictions.decoder.bias", "masked_lm_bias/bias"),
    *names.tied("predictions.decoder.weight", "token_embedding/embeddings"),
)
HEADS = {
    "SequenceClassification": POOLER + CLASSIFIER,
    "TokenClassification": CLASSIFIER,
    "QuestionAnswering": names.dense("span", "qa_outputs", head=True),
    "MultipleChoice": POOLER + CLASSIFIER,
    "MaskedLM": MASKED_LM,
    "PreTraining": POOLER + SENTENCE_ORDER + MASKED_LM,
}

# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 30000),
    "embedding_width": ("embedding_size", 128),
    "num_layers": ("num_hidden_layers", 12),
    "num_groups": ("num_hidden_groups", 1),
    "blocks_per_layer": ("inner_group_num", 1),
    "width": ("hidden_size", 4096),
    "num_heads": ("num_attention_heads", 64),
    "inner_width": ("intermediate_size", 16384),
    "max_length": ("max_position_embeddings", 512),
    "num_segments": ("type_vocab_size", 2),
    "activation": ("hidden_act", "gelu_new"),
    "dropout": ("hidden_dropout_prob", 0.0),
    "attention_dropout": ("attention_probs_dropout_prob", 0.0),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "initializer_range": ("initializer_range", 0.02),
}


def config_from_hugging_face(settings: dict) -> AlbertConfig:
    """The config that `config.json` describes.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    for key, default in CONFIG_KEYS.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    config = AlbertConfig(**{f: settings.get(k, d) for f, (k, d) in CONFIG_KEYS.items()})
    if settings.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"position_embedding_type is {settings['position_embedding_type']!r}; "
            "ALBERT here has absolute positions only."
        )
    if not 1 <= config.num_groups <= config.num_layers or config.blocks_per_layer < 1:
        raise ValueError(
            f"num_hidden_groups is {config.num_groups} and inner_group_num "
            f"{config.blocks_per_layer}; expected from 1 to num_hidden_layers "
            f"({config.num_layers}) groups, of 1 block or more."
        )
    if config.width % config.num_heads:
        raise ValueError(
            f"hidden_size {config.width} does not divide by num_attention_heads {config.num_heads}."
        )
    if config.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"hidden_act is {config.activation!r}; expected one of {known}.")
    return config


def config_to_hugging_face(config: AlbertConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    sizes = {key: getattr(config, ours) for ours, (key, _) in CONFIG_KEYS.items()}
    return {"model_type": "albert", "architectures": [f"{STEM}Model"], **sizes}


encoder = albert  # under the name that every architecture's file has
