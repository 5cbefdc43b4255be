"""BERT: Bidirectional Encoder Representations from Transformers (Devlin et al. 2019, 1810.04805).

What differs from the encoder of Vaswani et al. 2017: positions are learned, not sinusoidal; a
segment embedding tells the first text from the second; the sum of the three embeddings is
normalised and dropped out; the feed-forward network uses GELU.
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
class BertConfig:
    """The sizes of a BERT; the defaults are BERT-base uncased."""

    vocab_size: int = 30522
    num_layers: int = 12
    width: int = 768  # D
    num_heads: int = 12  # H
    inner_width: int = 3072  # F
    max_length: int = 512  # positions, in tokens with the special ones
    num_segments: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-12
    initializer_range: float = 0.02


# Published sizes: https://github.com/google-research/bert, and its multilingual.md.
BERT_BASE_UNCASED = BertConfig()
BERT_LARGE_UNCASED = BertConfig(num_layers=24, width=1024, num_heads=16, inner_width=4096)
BERT_MULTILINGUAL_CASED = BertConfig(vocab_size=119547)
BERT_MINI = BertConfig(num_layers=4, width=256, num_heads=4, inner_width=1024)
TINY_BERT = BertConfig(num_layers=4, width=312, num_heads=12, inner_width=1200)


def bert(config: BertConfig, dtype=None, positions=None) -> keras.Model:
    """BERT's encoder.

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

    def norm(name):
        return LayerNormalization(config.norm_epsilon, dtype=dtype, name=name)

    def residual(name):
        return PostNorm(norm("norm"), config.dropout, dtype=dtype, name=name)

    # Layers
    token_embedding = TokenEmbedding(
        config.vocab_size, config.width, embeddings_initializer=initializer(), dtype=dtype,
        name="token_embedding",
    )  # fmt: skip
    positions = positions or LearnedPositions(
        config.max_length, initializer(), dtype=dtype, name="position_embedding"
    )
    segment_embedding = keras.layers.Embedding(
        config.num_segments, config.width, embeddings_initializer=initializer(), dtype=dtype,
        name="segment_embedding",
    )  # fmt: skip
    embedding_norm = norm("embedding_norm")
    embedding_dropout = Dropout(config.dropout, dtype=dtype, name="embedding_dropout")
    blocks = [
        EncoderBlock(
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
            name=f"block_{i}",
        )
        for i in range(config.num_layers)
    ]  # fmt: skip

    # Graph
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    segment_ids = keras.Input((None,), dtype="int32", name="segment_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    tokens = token_embedding(token_ids)  # (B, T, D)
    x, given = placed(tokens + segment_embedding(segment_ids), positions)
    x = embedding_dropout(embedding_norm(x))
    mask = masks.padding(padding_mask)  # (B, 1, 1, T)
    for block in blocks:
        x = block(x, attention_mask=mask, **given)
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, {"sequence": x}, name="bert")
    model.head_parts = head_parts(config)
    return model


def head_parts(config: BertConfig) -> HeadParts:
    """What BERT's heads are made of."""
    return HeadParts(
        transform_activation=config.activation,
        norm=partial(LayerNormalization, config.norm_epsilon),
        initializer_range=config.initializer_range,
    )


# Hugging Face's names (modeling_bert.py of transformers).
PREFIX = "bert."
STEM = "Bert"  # of the names of its classes: BertModel, BertForMaskedLM
BLOCK, LAYER = "block_{i}", "encoder.layer.{i}"
NAMES = (
    names.Row("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    names.Row("position_embedding/embeddings", "embeddings.position_embeddings.weight"),
    names.Row("segment_embedding/embeddings", "embeddings.token_type_embeddings.weight"),
    *names.norm("embedding_norm", "embeddings.LayerNorm"),
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
POOLER = names.dense("pooler", "pooler.dense")
CLASSIFIER = names.dense("classifier", "classifier", head=True)
SPAN = names.dense("span", "qa_outputs", head=True)
NEXT_SENTENCE = names.dense("next_sentence", "cls.seq_relationship", head=True)
MASKED_LM = (
    *names.dense("masked_lm_transform", "cls.predictions.transform.dense", head=True),
    *names.norm("masked_lm_norm", "cls.predictions.transform.LayerNorm", head=True),
    names.Row("masked_lm_bias/bias", "cls.predictions.bias", head=True),
    *names.tied("cls.predictions.decoder.bias", "masked_lm_bias/bias"),
    *names.tied("cls.predictions.decoder.weight", "token_embedding/embeddings"),
)
HEADS = {
    "SequenceClassification": POOLER + CLASSIFIER,
    "TokenClassification": CLASSIFIER,
    "QuestionAnswering": SPAN,
    "MultipleChoice": POOLER + CLASSIFIER,
    "MaskedLM": MASKED_LM,
    "NextSentencePrediction": POOLER + NEXT_SENTENCE,
    "PreTraining": POOLER + NEXT_SENTENCE + MASKED_LM,
}

# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 30522),
    "num_layers": ("num_hidden_layers", 12),
    "width": ("hidden_size", 768),
    "num_heads": ("num_attention_heads", 12),
    "inner_width": ("intermediate_size", 3072),
    "max_length": ("max_position_embeddings", 512),
    "num_segments": ("type_vocab_size", 2),
    "activation": ("hidden_act", "gelu"),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "initializer_range": ("initializer_range", 0.02),
}


def config_from_hugging_face(settings: dict) -> BertConfig:
    """The config that `config.json` describes.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    for key, default in CONFIG_KEYS.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    config = BertConfig(**{f: settings.get(k, d) for f, (k, d) in CONFIG_KEYS.items()})
    if settings.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"position_embedding_type is {settings['position_embedding_type']!r}; "
            "BERT here has absolute positions only."
        )
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise ValueError("is_decoder or add_cross_attention is set; BERT here is an encoder.")
    if config.width % config.num_heads:
        raise ValueError(
            f"hidden_size {config.width} does not divide by num_attention_heads {config.num_heads}."
        )
    if config.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"hidden_act is {config.activation!r}; expected one of {known}.")
    return config


def config_to_hugging_face(config: BertConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    sizes = {key: getattr(config, ours) for ours, (key, _) in CONFIG_KEYS.items()}
    return {"model_type": "bert", "architectures": ["BertModel"], **sizes}


encoder = bert  # under the name that every architecture's file has
