"""MobileBERT: a compact task-agnostic BERT for resource-limited devices (Sun et al. 2020,
2004.02984).

What differs from BERT: a block is K wide inside and D between blocks, with dense layers there and
back; several feed-forward networks stand in a stack; queries and keys share one way into the block;
a token's embedding, E wide, is seen with those of its two neighbours; and what normalises is no
layer normalisation but gamma · x + beta. Neighbours are taken as they stand, so that a token beside
padding sees the padding token's vector: as in the published model, which was trained so.
"""

from dataclasses import dataclass

import keras

from kbert.layers import masks
from kbert.layers.activations import ACTIVATIONS
from kbert.layers.attention import MultiHeadAttention
from kbert.layers.bottleneck import Bottleneck, BottleneckBlock, NoNorm, Trigrams
from kbert.layers.dropout import Dropout
from kbert.layers.embeddings import TokenEmbedding
from kbert.layers.feed_forward import FeedForward
from kbert.layers.head_parts import HeadParts
from kbert.layers.positions import LearnedPositions
from kbert.layers.residual import PostNorm
from kbert.weights import names


@dataclass(frozen=True)
class MobileBertConfig:
    """The sizes of a MobileBERT; the defaults are those of transformers."""

    vocab_size: int = 30522
    num_layers: int = 24
    width: int = 512  # D, between blocks
    num_heads: int = 4  # H
    inner_width: int = 512  # F
    embedding_width: int = 128  # E
    bottleneck_width: int = 128  # K, within a block
    num_feed_forwards: int = 4  # in a block
    max_length: int = 512  # positions, in tokens with the special ones
    num_segments: int = 2
    activation: str = "relu"
    dropout: float = 0.0
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    # Whether queries and keys have a way into the block of their own, and values are made of what
    # is D wide; without, all come through the bottleneck (MobileBERT-tiny).
    shares_keys_and_queries: bool = True
    pools_with_dense: bool = True  # config.json's classifier_activation; published models: False


# Published sizes: https://github.com/google-research/google-research/tree/master/mobilebert/config
MOBILE_BERT = MobileBertConfig(pools_with_dense=False)
MOBILE_BERT_TINY = MobileBertConfig(
    num_feed_forwards=2, shares_keys_and_queries=False, pools_with_dense=False
)


def mobilebert(config: MobileBertConfig, dtype=None) -> keras.Model:
    """MobileBERT's encoder.

    Args:
        config: the sizes.
        dtype: a Keras dtype policy, "float32" or "mixed_bfloat16"; default Keras's own.

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
    embedding_projection = keras.layers.Dense(
        config.width, kernel_initializer=initializer(), dtype=dtype, name="embedding_projection"
    )
    position_embedding = LearnedPositions(
        config.max_length, initializer(), dtype=dtype, name="position_embedding"
    )
    segment_embedding = keras.layers.Embedding(
        config.num_segments, config.width, embeddings_initializer=initializer(), dtype=dtype,
        name="segment_embedding",
    )  # fmt: skip
    embedding_norm = NoNorm(dtype=dtype, name="embedding_norm")
    embedding_dropout = Dropout(config.dropout, dtype=dtype, name="embedding_dropout")
    blocks = [_block(config, f"block_{i}", dtype) for i in range(config.num_layers)]

    # Graph
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    segment_ids = keras.Input((None,), dtype="int32", name="segment_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    trigrams = Trigrams(dtype=dtype, name="trigrams")(token_embedding(token_ids))  # (B, T, 3E)
    tokens = embedding_projection(trigrams)  # (B, T, D)
    x = tokens + segment_embedding(segment_ids) + position_embedding(tokens)
    x = embedding_dropout(embedding_norm(x))
    mask = masks.padding(padding_mask)  # (B, 1, 1, T)
    for block in blocks:
        x = block(x, attention_mask=mask)
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, {"sequence": x}, name="mobilebert")
    model.head_parts = head_parts(config)
    return model


def head_parts(config: MobileBertConfig) -> HeadParts:
    """What MobileBERT's heads are made of; its masked-LM head does have layer normalisation."""
    return HeadParts(
        pooler_dense=config.pools_with_dense,
        transform_activation=config.activation,
        initializer_range=config.initializer_range,
    )


def _block(config, name, dtype):
    """A block; its last feed-forward network has no number, as in Hugging Face's names."""

    def initializer():
        return keras.initializers.TruncatedNormal(stddev=config.initializer_range)

    def residual(name, dropout=0.0):
        return PostNorm(NoNorm(dtype=dtype, name="norm"), dropout, dtype=dtype, name=name)

    def bottleneck(name):
        norm = NoNorm(dtype=dtype, name="norm")
        return Bottleneck(config.bottleneck_width, norm, initializer(), dtype=dtype, name=name)

    def feed_forward(name):
        return FeedForward(
            config.inner_width, config.activation, kernel_initializer=initializer(), dtype=dtype,
            name=name,
        )  # fmt: skip

    stack = [*(f"_{j}" for j in range(config.num_feed_forwards - 1)), ""]
    return BottleneckBlock(
        bottleneck("bottleneck"),
        bottleneck("attention_bottleneck") if config.shares_keys_and_queries else None,
        MultiHeadAttention(
            config.num_heads, config.bottleneck_width // config.num_heads,
            config.attention_dropout, kernel_initializer=initializer(), dtype=dtype,
            name="attention",
        ),
        residual("attention_residual"),
        [feed_forward(f"feed_forward{j}") for j in stack],
        [residual(f"feed_forward_residual{j}") for j in stack],
        residual("output_residual", config.dropout),
        initializer(),
        dtype=dtype,
        name=name,
    )  # fmt: skip


# Hugging Face's names (modeling_mobilebert.py of transformers).
PREFIX = "mobilebert."
STEM = "MobileBert"  # of the names of its classes: MobileBertModel, MobileBertForMaskedLM
BLOCK, LAYER = "block_{i}", "encoder.layer.{i}"
NAMES = (
    names.Row("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    *names.dense("embedding_projection", "embeddings.embedding_transformation"),
    names.Row("position_embedding/embeddings", "embeddings.position_embeddings.weight"),
    names.Row("segment_embedding/embeddings", "embeddings.token_type_embeddings.weight"),
    *names.norm("embedding_norm", "embeddings.LayerNorm"),
    *names.dense(f"{BLOCK}/bottleneck/dense", f"{LAYER}.bottleneck.input.dense"),
    *names.norm(f"{BLOCK}/bottleneck/norm", f"{LAYER}.bottleneck.input.LayerNorm"),
    *names.dense(f"{BLOCK}/attention_bottleneck/dense", f"{LAYER}.bottleneck.attention.dense"),
    *names.norm(f"{BLOCK}/attention_bottleneck/norm", f"{LAYER}.bottleneck.attention.LayerNorm"),
    *names.dense(f"{BLOCK}/attention/query", f"{LAYER}.attention.self.query"),
    *names.dense(f"{BLOCK}/attention/key", f"{LAYER}.attention.self.key"),
    *names.dense(f"{BLOCK}/attention/value", f"{LAYER}.attention.self.value"),
    *names.dense(f"{BLOCK}/attention/output", f"{LAYER}.attention.output.dense"),
    *names.norm(f"{BLOCK}/attention_residual/norm", f"{LAYER}.attention.output.LayerNorm"),
    *names.dense(f"{BLOCK}/feed_forward_{{j}}/inner", f"{LAYER}.ffn.{{j}}.intermediate.dense"),
    *names.dense(f"{BLOCK}/feed_forward_{{j}}/outer", f"{LAYER}.ffn.{{j}}.output.dense"),
    *names.norm(f"{BLOCK}/feed_forward_residual_{{j}}/norm", f"{LAYER}.ffn.{{j}}.output.LayerNorm"),
    *names.dense(f"{BLOCK}/feed_forward/inner", f"{LAYER}.intermediate.dense"),
    *names.dense(f"{BLOCK}/feed_forward/outer", f"{LAYER}.output.dense"),
    *names.norm(f"{BLOCK}/feed_forward_residual/norm", f"{LAYER}.output.LayerNorm"),
    *names.dense(f"{BLOCK}/output", f"{LAYER}.output.bottleneck.dense"),
    *names.norm(f"{BLOCK}/output_residual/norm", f"{LAYER}.output.bottleneck.LayerNorm"),
    *names.left_out("embeddings.position_ids"),
)
POOLER = names.dense("pooler", "pooler.dense")
CLASSIFIER = names.dense("classifier", "classifier", head=True)
NEXT_SENTENCE = names.dense("next_sentence", "cls.seq_relationship", head=True)
MASKED_LM = (
    *names.dense("masked_lm_transform", "cls.predictions.transform.dense", head=True),
    *names.norm("masked_lm_norm", "cls.predictions.transform.LayerNorm", head=True),
    # Words' columns beyond the width of the token embedding, (D - E, V) there and here.
    names.Row("masked_lm_extra/kernel", "cls.predictions.dense.weight", head=True),
    names.Row("masked_lm_bias/bias", "cls.predictions.bias", head=True),
    *names.tied("cls.predictions.decoder.bias", "masked_lm_bias/bias"),
    *names.tied("cls.predictions.decoder.weight", "token_embedding/embeddings"),
)
HEADS = {
    "SequenceClassification": POOLER + CLASSIFIER,
    "TokenClassification": CLASSIFIER,
    "QuestionAnswering": names.dense("span", "qa_outputs", head=True),
    "MultipleChoice": POOLER + CLASSIFIER,
    "MaskedLM": MASKED_LM,
    "NextSentencePrediction": POOLER + NEXT_SENTENCE,
    "PreTraining": POOLER + NEXT_SENTENCE + MASKED_LM,
}

# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 30522),
    "num_layers": ("num_hidden_layers", 24),
    "width": ("hidden_size", 512),
    "num_heads": ("num_attention_heads", 4),
    "inner_width": ("intermediate_size", 512),
    "embedding_width": ("embedding_size", 128),
    "bottleneck_width": ("intra_bottleneck_size", 128),
    "num_feed_forwards": ("num_feedforward_networks", 4),
    "max_length": ("max_position_embeddings", 512),
    "num_segments": ("type_vocab_size", 2),
    "activation": ("hidden_act", "relu"),
    "dropout": ("hidden_dropout_prob", 0.0),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "initializer_range": ("initializer_range", 0.02),
    "shares_keys_and_queries": ("key_query_shared_bottleneck", True),
    "pools_with_dense": ("classifier_activation", True),
}
# What all published configs have.
ONLY = {
    "use_bottleneck": True,
    "trigram_input": True,
    "normalization_type": "no_norm",
    "layer_norm_eps": 1e-12,  # of the one layer normalisation there is, in the masked-LM head
}


def config_from_hugging_face(settings: dict) -> MobileBertConfig:
    """The config that `config.json` describes.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    for key, default in CONFIG_KEYS.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    config = MobileBertConfig(**{f: settings.get(k, d) for f, (k, d) in CONFIG_KEYS.items()})
    for key, only in ONLY.items():
        if settings.get(key, only) != only:
            raise ValueError(f"{key} is {settings[key]!r}; MobileBERT here has {only!r} only.")
    if settings.get("use_bottleneck_attention", False) == config.shares_keys_and_queries:
        raise ValueError(
            "use_bottleneck_attention and key_query_shared_bottleneck are both "
            f"{config.shares_keys_and_queries}; expected one of the two, since queries and keys "
            "come through one bottleneck or the other."
        )
    if config.bottleneck_width % config.num_heads:
        raise ValueError(
            f"intra_bottleneck_size {config.bottleneck_width} does not divide by "
            f"num_attention_heads {config.num_heads}."
        )
    if config.num_feed_forwards < 1:
        raise ValueError(f"num_feedforward_networks is {config.num_feed_forwards}; expected 1 up.")
    if config.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"hidden_act is {config.activation!r}; expected one of {known}.")
    return config


def config_to_hugging_face(config: MobileBertConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    sizes = {key: getattr(config, ours) for ours, (key, _) in CONFIG_KEYS.items()}
    sizes |= ONLY | {"use_bottleneck_attention": not config.shares_keys_and_queries}
    # transformers makes this one anew; readers of other libraries may want it.
    sizes |= {"true_hidden_size": config.bottleneck_width}
    return {"model_type": "mobilebert", "architectures": [f"{STEM}Model"], **sizes}


encoder = mobilebert  # under the name that every architecture's file has
