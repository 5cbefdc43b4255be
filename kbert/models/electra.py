"""ELECTRA: Efficiently Learning an Encoder that Classifies Token Replacements Accurately
(Clark et al. 2020, 2003.10555).

What differs from BERT: the embeddings may be narrower than the blocks (E, not D), and a dense layer
then widens them. Generator (it fills masks) and discriminator (it tells which tokens the generator
replaced) are this same encoder under other heads; the published generators are narrower, all but
the smallest.
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
class ElectraConfig:
    """The sizes of an ELECTRA; the defaults are ELECTRA-small."""

    vocab_size: int = 30522
    num_layers: int = 12
    width: int = 256  # D
    num_heads: int = 4  # H
    inner_width: int = 1024  # F
    embedding_width: int = 128  # E
    max_length: int = 512  # positions, in tokens with the special ones
    num_segments: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-12
    initializer_range: float = 0.02


# Published sizes: https://github.com/google-research/electra. The small generator is as wide as its
# discriminator ("we did not use a small generator for that model"); the others are 256 wide.
ELECTRA_SMALL = ElectraConfig()
ELECTRA_BASE = ElectraConfig(width=768, num_heads=12, inner_width=3072, embedding_width=768)
ELECTRA_LARGE = ElectraConfig(
    num_layers=24, width=1024, num_heads=16, inner_width=4096, embedding_width=1024
)
ELECTRA_SMALL_GENERATOR = ELECTRA_SMALL
ELECTRA_BASE_GENERATOR = ElectraConfig(embedding_width=768)
ELECTRA_LARGE_GENERATOR = ElectraConfig(num_layers=24, embedding_width=1024)


def electra(config: ElectraConfig, dtype=None, positions=None) -> keras.Model:
    """ELECTRA's encoder: that of a generator or of a discriminator.

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
    blocks = [_block(config, f"block_{i}", dtype) for i in range(config.num_layers)]

    # Graph
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    segment_ids = keras.Input((None,), dtype="int32", name="segment_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    tokens = token_embedding(token_ids)  # (B, T, E)
    x, given = placed(tokens + segment_embedding(segment_ids), positions)
    x = embedding_dropout(embedding_norm(x))
    if config.embedding_width != config.width:
        x = embedding_projection(x)  # (B, T, D)
    mask = masks.padding(padding_mask)  # (B, 1, 1, T)
    for block in blocks:
        x = block(x, attention_mask=mask, **given)
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, {"sequence": x}, name="electra")
    model.head_parts = head_parts(config)
    return model


def head_parts(config: ElectraConfig) -> HeadParts:
    """What ELECTRA's heads are made of: the generator's are as wide as the embeddings."""
    return HeadParts(
        pooler_activation="gelu",
        pooler_dropout=config.dropout,
        transform_width=config.embedding_width,
        replaced_token_activation=config.activation,
        norm=partial(LayerNormalization, config.norm_epsilon),
        initializer_range=config.initializer_range,
    )


def _block(config, name, dtype):
    """A block, as BERT's."""

    def initializer():
        return keras.initializers.TruncatedNormal(stddev=config.initializer_range)

    def residual(name):
        norm = LayerNormalization(config.norm_epsilon, dtype=dtype, name="norm")
        return PostNorm(norm, config.dropout, dtype=dtype, name=name)

    return EncoderBlock(
        MultiHeadAttention(
            config.num_heads, config.width // config.num_heads, config.attention_dropout,
            kernel_initializer=initializer(), dtype=dtype, name="attention",
        ),
        residual("attention_residual"),
        FeedForward(
            config.inner_width, config.activation,
            kernel_initializer=initializer(), dtype=dtype, name="feed_forward",
        ),
        residual("feed_forward_residual"),
        dtype=dtype,
        name=name,
    )  # fmt: skip


# Hugging Face's names (modeling_electra.py of transformers).
PREFIX = "electra."
STEM = "Electra"  # of the names of its classes: ElectraModel, ElectraForPreTraining
BLOCK, LAYER = "block_{i}", "encoder.layer.{i}"
NAMES = (
    names.Row("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    names.Row("position_embedding/embeddings", "embeddings.position_embeddings.weight"),
    names.Row("segment_embedding/embeddings", "embeddings.token_type_embeddings.weight"),
    *names.norm("embedding_norm", "embeddings.LayerNorm"),
    *names.dense("embedding_projection", "embeddings_project"),
    *names.dense(f"{BLOCK}/attention/query", f"{LAYER}.attention.self.query"),
    *names.dense(f"{BLOCK}/attention/key", f"{LAYER}.attention.self.key"),
    *names.dense(f"{BLOCK}/attention/value", f"{LAYER}.attention.self.value"),
    *names.dense(f"{BLOCK}/attention/output", f"{LAYER}.attention.output.dense"),
    *names.norm(f"{BLOCK}/attention_residual/norm", f"{LAYER}.attention.output.LayerNorm"),
    *names.dense(f"{BLOCK}/feed_forward/inner", f"{LAYER}.intermediate.dense"),
    *names.dense(f"{BLOCK}/feed_forward/outer", f"{LAYER}.output.dense"),
    *names.norm(f"{BLOCK}/feed_forward_residual/norm", f"{LAYER}.output.LayerNorm"),
    *names.left_out("embeddings.position_ids"),
)
CLASSIFIER = names.dense("classifier", "classifier", head=True)
HEADS = {
    "SequenceClassification": (
        *names.dense("pooler", "classifier.dense", head=True),
        *names.dense("classifier", "classifier.out_proj", head=True),
    ),
    "TokenClassification": CLASSIFIER,
    "QuestionAnswering": names.dense("span", "qa_outputs", head=True),
    "MultipleChoice": (
        *names.dense("pooler", "sequence_summary.summary", head=True),
        *CLASSIFIER,
    ),
    "MaskedLM": (  # of the generator
        *names.dense("masked_lm_transform", "generator_predictions.dense", head=True),
        *names.norm("masked_lm_norm", "generator_predictions.LayerNorm", head=True),
        names.Row("masked_lm_bias/bias", "generator_lm_head.bias", head=True),
        *names.tied("generator_lm_head.weight", "token_embedding/embeddings"),
    ),
    "PreTraining": (  # of the discriminator
        *names.dense("replaced_token_transform", "discriminator_predictions.dense", head=True),
        *names.dense("replaced_token", "discriminator_predictions.dense_prediction", head=True),
    ),
}

# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 30522),
    "num_layers": ("num_hidden_layers", 12),
    "width": ("hidden_size", 256),
    "num_heads": ("num_attention_heads", 4),
    "inner_width": ("intermediate_size", 1024),
    "embedding_width": ("embedding_size", 128),
    "max_length": ("max_position_embeddings", 512),
    "num_segments": ("type_vocab_size", 2),
    "activation": ("hidden_act", "gelu"),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "initializer_range": ("initializer_range", 0.02),
}
# How the vector of a text is made for multiple choice: as all published configs have it.
SUMMARY = {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"}


def config_from_hugging_face(settings: dict) -> ElectraConfig:
    """The config that `config.json` describes.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    for key, default in CONFIG_KEYS.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    config = ElectraConfig(**{f: settings.get(k, d) for f, (k, d) in CONFIG_KEYS.items()})
    if settings.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"position_embedding_type is {settings['position_embedding_type']!r}; "
            "ELECTRA here has absolute positions only."
        )
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise ValueError("is_decoder or add_cross_attention is set; ELECTRA here is an encoder.")
    for key, only in SUMMARY.items():
        if settings.get(key, only) != only:
            raise ValueError(f"{key} is {settings[key]!r}; ELECTRA here has {only!r} only.")
    if config.width % config.num_heads:
        raise ValueError(
            f"hidden_size {config.width} does not divide by num_attention_heads {config.num_heads}."
        )
    if config.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"hidden_act is {config.activation!r}; expected one of {known}.")
    return config


def config_to_hugging_face(config: ElectraConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    sizes = {key: getattr(config, ours) for ours, (key, _) in CONFIG_KEYS.items()}
    return {"model_type": "electra", "architectures": [f"{STEM}Model"], **sizes, **SUMMARY}


encoder = electra  # under the name that every architecture's file has
