"""DistilBERT, a distilled version of BERT (Sanh et al. 2019, 1910.01108).

What differs from BERT: half the layers, which learnt to imitate their teacher; no segments and no
pooler. The position table may begin as the sinusoidal one and is learned all the same. Dropout
stands after the feed-forward network but not after the attention, as in their code.
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
from kbert.layers.positions import LearnedPositions, placed, sinusoidal
from kbert.layers.residual import PostNorm
from kbert.weights import names

NORM_EPSILON = 1e-12  # a constant of modeling_distilbert.py, no key of config.json


@dataclass(frozen=True)
class DistilBertConfig:
    """The sizes of a DistilBERT; the defaults are DistilBERT-base uncased."""

    vocab_size: int = 30522
    num_layers: int = 6
    width: int = 768  # D
    num_heads: int = 12  # H
    inner_width: int = 3072  # F
    max_length: int = 512  # positions, in tokens with the special ones
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    sinusoidal_start: bool = False  # whether the positions begin as the sinusoidal ones


# Published sizes: https://huggingface.co/distilbert.
DISTILBERT_BASE_UNCASED = DistilBertConfig()
DISTILBERT_BASE_CASED = DistilBertConfig(vocab_size=28996)
DISTILBERT_BASE_MULTILINGUAL_CASED = DistilBertConfig(vocab_size=119547)


def distilbert(config: DistilBertConfig, dtype=None, positions=None) -> keras.Model:
    """DistilBERT's encoder.

    Args:
        config: the sizes.
        dtype: a Keras dtype policy, "float32" or "mixed_bfloat16"; default Keras's own.
        positions: a layer of `layers.positions` or `layers.position_biases` in place of the
            learned positions; config.json cannot say so, and `checkpoint.save` refuses.

    Returns:
        A functional model: `token_ids` int (B, T), `padding_mask` bool (B, T), True = a real token
        -> `sequence` float (B, T, D).
    """

    def initializer():
        return keras.initializers.TruncatedNormal(stddev=config.initializer_range)

    def norm(name):
        return LayerNormalization(NORM_EPSILON, dtype=dtype, name=name)

    # Layers
    token_embedding = TokenEmbedding(
        config.vocab_size, config.width, embeddings_initializer=initializer(), dtype=dtype,
        name="token_embedding",
    )  # fmt: skip
    positions = positions or LearnedPositions(
        config.max_length, sinusoidal if config.sinusoidal_start else initializer(),
        dtype=dtype, name="position_embedding",
    )  # fmt: skip
    embedding_norm = norm("embedding_norm")
    embedding_dropout = Dropout(config.dropout, dtype=dtype, name="embedding_dropout")
    blocks = [
        EncoderBlock(
            MultiHeadAttention(
                config.num_heads, config.width // config.num_heads, config.attention_dropout,
                kernel_initializer=initializer(), dtype=dtype, name="attention",
            ),
            PostNorm(norm("norm"), dtype=dtype, name="attention_residual"),
            FeedForward(
                config.inner_width, config.activation,
                kernel_initializer=initializer(), dtype=dtype, name="feed_forward",
            ),
            PostNorm(norm("norm"), config.dropout, dtype=dtype, name="feed_forward_residual"),
            dtype=dtype,
            name=f"block_{i}",
        )
        for i in range(config.num_layers)
    ]  # fmt: skip

    # Graph
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    tokens = token_embedding(token_ids)  # (B, T, D)
    x, given = placed(tokens, positions)
    x = embedding_dropout(embedding_norm(x))
    mask = masks.padding(padding_mask)  # (B, 1, 1, T)
    for block in blocks:
        x = block(x, attention_mask=mask, **given)
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, {"sequence": x}, name="distilbert")
    model.head_parts = head_parts(config)
    return model


def head_parts(config: DistilBertConfig) -> HeadParts:
    """What DistilBERT's heads are made of."""
    return HeadParts(
        pooler_activation="relu",
        transform_activation=config.activation,
        norm=partial(LayerNormalization, NORM_EPSILON),
        initializer_range=config.initializer_range,
    )


# Hugging Face's names (modeling_distilbert.py of transformers).
PREFIX = "distilbert."
STEM = "DistilBert"
BLOCK, LAYER = "block_{i}", "transformer.layer.{i}"
NAMES = (
    names.Row("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    names.Row("position_embedding/embeddings", "embeddings.position_embeddings.weight"),
    *names.norm("embedding_norm", "embeddings.LayerNorm"),
    *names.dense(f"{BLOCK}/attention/query", f"{LAYER}.attention.q_lin"),
    *names.dense(f"{BLOCK}/attention/key", f"{LAYER}.attention.k_lin"),
    *names.dense(f"{BLOCK}/attention/value", f"{LAYER}.attention.v_lin"),
    *names.dense(f"{BLOCK}/attention/output", f"{LAYER}.attention.out_lin"),
    *names.norm(f"{BLOCK}/attention_residual/norm", f"{LAYER}.sa_layer_norm"),
    *names.dense(f"{BLOCK}/feed_forward/inner", f"{LAYER}.ffn.lin1"),
    *names.dense(f"{BLOCK}/feed_forward/outer", f"{LAYER}.ffn.lin2"),
    *names.norm(f"{BLOCK}/feed_forward_residual/norm", f"{LAYER}.output_layer_norm"),
    *names.left_out("embeddings.position_ids"),
)
POOLER = names.dense("pooler", "pre_classifier", head=True)
CLASSIFIER = names.dense("classifier", "classifier", head=True)
MASKED_LM = (
    *names.dense("masked_lm_transform", "vocab_transform", head=True),
    *names.norm("masked_lm_norm", "vocab_layer_norm", head=True),
    names.Row("masked_lm_bias/bias", "vocab_projector.bias", head=True),
    *names.tied("vocab_projector.weight", "token_embedding/embeddings"),
)
HEADS = {
    "SequenceClassification": POOLER + CLASSIFIER,
    "TokenClassification": CLASSIFIER,
    "QuestionAnswering": names.dense("span", "qa_outputs", head=True),
    "MultipleChoice": POOLER + CLASSIFIER,
    "MaskedLM": MASKED_LM,
}

# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 30522),
    "num_layers": ("n_layers", 6),
    "width": ("dim", 768),
    "num_heads": ("n_heads", 12),
    "inner_width": ("hidden_dim", 3072),
    "max_length": ("max_position_embeddings", 512),
    "activation": ("activation", "gelu"),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "initializer_range": ("initializer_range", 0.02),
    "sinusoidal_start": ("sinusoidal_pos_embds", False),
}


def config_from_hugging_face(settings: dict) -> DistilBertConfig:
    """The config that `config.json` describes.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    for key, default in CONFIG_KEYS.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    config = DistilBertConfig(**{f: settings.get(k, d) for f, (k, d) in CONFIG_KEYS.items()})
    if config.width % config.num_heads:
        raise ValueError(f"dim {config.width} does not divide by n_heads {config.num_heads}.")
    if config.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"activation is {config.activation!r}; expected one of {known}.")
    return config


def config_to_hugging_face(config: DistilBertConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    sizes = {key: getattr(config, ours) for ours, (key, _) in CONFIG_KEYS.items()}
    return {"model_type": "distilbert", "architectures": [f"{STEM}Model"], **sizes}


encoder = distilbert  # under the name that every architecture's file has
