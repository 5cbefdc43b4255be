"""DeBERTa v2 and v3: decoding-enhanced BERT with disentangled attention.

He et al. 2021 (2006.03654; v2 is its 1.5B model), He et al. 2023 (v3, 2111.09543).

What differs from BERT: attention sees what a token is and how far it stands apart, by learned
vectors for buckets of distances that all blocks share; as published, tokens carry no positions and
no segments. v2 adds a convolution after its first block; v3 is pretrained as ELECTRA is.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from types import SimpleNamespace

import keras

from kbert.layers import masks
from kbert.layers.activations import activation_function
from kbert.layers.convolution import NeighbourConvolution
from kbert.layers.disentangled import TERMS, DisentangledAttention, RelativePositions
from kbert.layers.dropout import Dropout
from kbert.layers.embeddings import TokenEmbedding
from kbert.layers.encoder import EncoderBlock
from kbert.layers.feed_forward import FeedForward
from kbert.layers.head_parts import HeadParts
from kbert.layers.normalization import LayerNormalization
from kbert.layers.positions import LearnedPositions
from kbert.layers.residual import PostNorm
from kbert.weights import names
from kbert.weights.settings import read, written


@dataclass(frozen=True)
class Positions:
    """What tells where a token stands."""

    terms: tuple[str, ...] = TERMS  # of disentangled attention; none: plain attention
    max_distance: int = 512  # tokens; farther ones count as this far
    num_buckets: int = 256  # of distances, on each side; 0: one bucket a distance
    shared: bool = True  # keys and queries of positions by the layers that content's are made by
    norm: bool = True  # the vectors of the buckets are normalised
    absolute: bool = False  # learned positions are added to the tokens


@dataclass(frozen=True)
class Convolution:
    """A convolution over neighbouring tokens."""

    size: int = 3  # tokens, an odd number
    activation: str = "gelu"
    num_groups: int = 1


@dataclass(frozen=True)
class Pooler:
    """The layer before a classifier."""

    activation: str = "gelu"
    dropout: float = 0.0


@dataclass(frozen=True)
class DebertaConfig:
    """The sizes of a DeBERTa; the defaults are DeBERTa-v3-base."""

    vocab_size: int = 128100
    num_layers: int = 12
    width: int = 768  # D
    num_heads: int = 12  # H
    inner_width: int = 3072  # F
    max_length: int = 512  # tokens with the special ones
    num_segments: int = 0  # 0: the model takes no segments
    embedding_width: int = 768  # E; other than D: projected to it
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-7
    initializer_range: float = 0.02
    positions: Positions = Positions()
    convolution: Convolution | None = None  # v2's
    pooler: Pooler = Pooler()


# Published sizes: https://github.com/microsoft/DeBERTa and its models on the Hugging Face hub.
DEBERTA_V3_XSMALL = DebertaConfig(width=384, num_heads=6, inner_width=1536, embedding_width=384)
DEBERTA_V3_SMALL = DebertaConfig(num_layers=6)
DEBERTA_V3_BASE = DebertaConfig()
DEBERTA_V3_LARGE = DebertaConfig(
    num_layers=24, width=1024, num_heads=16, inner_width=4096, embedding_width=1024
)
MDEBERTA_V3_BASE = DebertaConfig(vocab_size=251000)
DEBERTA_V2_XLARGE = DebertaConfig(
    num_layers=24, width=1536, num_heads=24, inner_width=6144, embedding_width=1536,
    convolution=Convolution(),
)  # fmt: skip
DEBERTA_V2_XXLARGE = replace(DEBERTA_V2_XLARGE, num_layers=48)


def deberta(config: DebertaConfig, dtype=None) -> keras.Model:
    """DeBERTa's encoder.

    Args:
        config: the sizes.
        dtype: a Keras dtype policy, "float32" or "mixed_bfloat16"; default Keras's own.

    Returns:
        A functional model: `token_ids` int (B, T), `padding_mask` bool (B, T), True = a real token,
        and, if the config has segments, `segment_ids` int (B, T) -> `sequence` float (B, T, D).
    """
    positions, norm = config.positions, partial(LayerNormalization, config.norm_epsilon)

    def embedding(layer, rows, name):
        return rows and layer(
            rows, config.embedding_width, embeddings_initializer=_initializer(config), dtype=dtype,
            name=name,
        )  # fmt: skip

    # Layers
    token_embedding = embedding(TokenEmbedding, config.vocab_size, "token_embedding")
    position_embedding = LearnedPositions(
        config.max_length, _initializer(config), dtype=dtype, name="position_embedding"
    )
    segment_embedding = embedding(keras.layers.Embedding, config.num_segments, "segment_embedding")
    embedding_projection = keras.layers.Dense(
        config.width, use_bias=False, kernel_initializer=_initializer(config), dtype=dtype,
        name="embedding_projection",
    )  # fmt: skip
    embedding_norm = norm(dtype=dtype, name="embedding_norm")
    embedding_dropout = Dropout(config.dropout, dtype=dtype, name="embedding_dropout")
    relative_positions = RelativePositions(
        positions.max_distance, positions.num_buckets,
        norm(dtype=dtype, name="norm") if positions.norm else None,
        _initializer(config), dtype=dtype, name="relative_positions",
    )  # fmt: skip
    convolution = config.convolution and NeighbourConvolution(
        norm(dtype=dtype, name="norm"), **asdict(config.convolution), dropout=config.dropout,
        kernel_initializer=_initializer(config), dtype=dtype, name="convolution",
    )  # fmt: skip
    blocks = [_block(config, f"block_{i}", dtype) for i in range(config.num_layers)]

    # Graph
    inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids")}
    if segment_embedding:
        inputs["segment_ids"] = keras.Input((None,), dtype="int32", name="segment_ids")
    inputs["padding_mask"] = keras.Input((None,), dtype="bool", name="padding_mask")
    x = token_embedding(inputs["token_ids"])  # (B, T, E)
    x = x + position_embedding(x) if positions.absolute else x
    x = x + segment_embedding(inputs["segment_ids"]) if segment_embedding else x
    x = embedding_projection(x) if config.embedding_width != config.width else x  # (B, T, D)
    x = embedded = embedding_dropout(embedding_norm(x))
    relative = relative_positions(x) if positions.terms else None
    mask = masks.padding(inputs["padding_mask"])  # (B, 1, 1, T)
    for i, block in enumerate(blocks):
        x = block(x, attention_mask=mask, relative=relative)
        if i == 0 and convolution:
            x = convolution(embedded, x, inputs["padding_mask"])
    model = keras.Model(inputs, {"sequence": x}, name="deberta")
    model.head_parts = HeadParts(
        pooler_activation=config.pooler.activation, pooler_dropout=config.pooler.dropout,
        transform_width=config.embedding_width, transform_activation=config.activation,
        norm=norm, initializer_range=config.initializer_range,
    )  # fmt: skip
    return model


def _initializer(config):
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)


def _block(config, name, dtype):
    given = {"kernel_initializer": _initializer(config), "dtype": dtype}

    def residual(name):
        norm = LayerNormalization(config.norm_epsilon, dtype=dtype, name="norm")
        return PostNorm(norm, config.dropout, dtype=dtype, name=name)

    return EncoderBlock(
        DisentangledAttention(
            config.num_heads, config.width // config.num_heads, config.positions.terms,
            config.positions.shared, config.attention_dropout, config.dropout,
            name="attention", **given,
        ),
        residual("attention_residual"),
        FeedForward(config.inner_width, config.activation, name="feed_forward", **given),
        residual("feed_forward_residual"), dtype=dtype, name=name,
    )  # fmt: skip


# Hugging Face's names (modeling_deberta_v2.py of transformers).
PREFIX = "deberta."
STEM = "DebertaV2"
BLOCK, LAYER = "block_{i}", "encoder.layer.{i}"
NAMES = (
    names.Row("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    # Microsoft's files hold it whether the model takes it or not.
    names.Row("position_embedding/embeddings", "embeddings.position_embeddings.weight", spare=True),
    names.Row("segment_embedding/embeddings", "embeddings.token_type_embeddings.weight"),
    names.Row("embedding_projection/kernel", "embeddings.embed_proj.weight", transpose=True),
    *names.norm("embedding_norm", "embeddings.LayerNorm"),
    names.Row("relative_positions/embeddings", "encoder.rel_embeddings.weight"),
    *names.norm("relative_positions/norm", "encoder.LayerNorm"),
    *names.dense("convolution", "encoder.conv.conv"),  # (size, in, out) ⇄ (out, in, size)
    *names.norm("convolution/norm", "encoder.conv.LayerNorm"),
    *names.dense(f"{BLOCK}/attention/query", f"{LAYER}.attention.self.query_proj"),
    *names.dense(f"{BLOCK}/attention/key", f"{LAYER}.attention.self.key_proj"),
    *names.dense(f"{BLOCK}/attention/value", f"{LAYER}.attention.self.value_proj"),
    *names.dense(f"{BLOCK}/attention/position_key", f"{LAYER}.attention.self.pos_key_proj"),
    *names.dense(f"{BLOCK}/attention/position_query", f"{LAYER}.attention.self.pos_query_proj"),
    *names.dense(f"{BLOCK}/attention/output", f"{LAYER}.attention.output.dense"),
    *names.norm(f"{BLOCK}/attention_residual/norm", f"{LAYER}.attention.output.LayerNorm"),
    *names.dense(f"{BLOCK}/feed_forward/inner", f"{LAYER}.intermediate.dense"),
    *names.dense(f"{BLOCK}/feed_forward/outer", f"{LAYER}.output.dense"),
    *names.norm(f"{BLOCK}/feed_forward_residual/norm", f"{LAYER}.output.LayerNorm"),
)
POOLER = names.dense("pooler", "pooler.dense", head=True)
CLASSIFIER = names.dense("classifier", "classifier", head=True)
# The masked-LM head in Microsoft's files, and as transformers made it first and calls legacy: they
# compute the same. Both are read; the one that stands first is written.
LM_HEAD = (
    *names.dense("masked_lm_transform", "lm_predictions.lm_head.dense", head=True),
    *names.norm("masked_lm_norm", "lm_predictions.lm_head.LayerNorm", head=True),
    names.Row("masked_lm_bias/bias", "lm_predictions.lm_head.bias", head=True),
)
LEGACY_HEAD = (
    *names.dense("masked_lm_transform", "cls.predictions.transform.dense", head=True),
    *names.norm("masked_lm_norm", "cls.predictions.transform.LayerNorm", head=True),
    names.Row("masked_lm_bias/bias", "cls.predictions.bias", head=True),
    *names.tied("cls.predictions.decoder.bias", "masked_lm_bias/bias"),
    *names.tied("cls.predictions.decoder.weight", "token_embedding/embeddings"),
)
REPLACED_TOKEN = names.left_out(  # v3's discriminator, which transformers has no class for
    "mask_predictions.dense.weight", "mask_predictions.dense.bias",
    "mask_predictions.LayerNorm.weight", "mask_predictions.LayerNorm.bias",
    "mask_predictions.classifier.weight", "mask_predictions.classifier.bias", head=True,
)  # fmt: skip
HEADS = {
    "SequenceClassification": POOLER + CLASSIFIER,
    "TokenClassification": CLASSIFIER,
    "QuestionAnswering": names.dense("span", "qa_outputs", head=True),
    "MultipleChoice": POOLER + CLASSIFIER,
    "MaskedLM": LEGACY_HEAD + LM_HEAD + REPLACED_TOKEN,
}


def variant(settings: dict) -> SimpleNamespace:
    """This file, with the form of the masked-LM head first that `config.json` asks for."""
    later = {} if settings.get("legacy", True) else {"MaskedLM": LM_HEAD + HEADS["MaskedLM"]}
    return SimpleNamespace(**{**globals(), "HEADS": HEADS | later})


# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 128100), "num_layers": ("num_hidden_layers", 24),
    "width": ("hidden_size", 1536), "num_heads": ("num_attention_heads", 24),
    "inner_width": ("intermediate_size", 6144), "max_length": ("max_position_embeddings", 512),
    "num_segments": ("type_vocab_size", 0), "activation": ("hidden_act", "gelu"),
    "dropout": ("hidden_dropout_prob", 0.1), "norm_epsilon": ("layer_norm_eps", 1e-7),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "initializer_range": ("initializer_range", 0.02),
}  # fmt: skip
POSITION_KEYS = {
    "max_distance": ("max_relative_positions", -1), "num_buckets": ("position_buckets", -1),
    "shared": ("share_att_key", False), "norm": ("norm_rel_ebd", "none"),
    "absolute": ("position_biased_input", True),
}  # fmt: skip
CONVOLUTION_KEYS = {
    "size": ("conv_kernel_size", 0), "activation": ("conv_act", "tanh"),
    "num_groups": ("conv_groups", 1),
}  # fmt: skip
POOLER_KEYS = {"activation": ("pooler_hidden_act", "gelu"), "dropout": ("pooler_dropout", 0.0)}


def config_from_hugging_face(settings: dict) -> DebertaConfig:
    """The config that `config.json` describes.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    sizes = read(CONFIG_KEYS, settings)
    width, num_heads = sizes["width"], sizes["num_heads"]
    convolution = Convolution(**read(CONVOLUTION_KEYS, settings))
    if width % num_heads:
        raise ValueError(f"hidden_size {width} does not divide by num_attention_heads {num_heads}.")
    if convolution.size > 0 and (convolution.size % 2 == 0 or width % convolution.num_groups):
        raise ValueError(
            f"conv_kernel_size is {convolution.size} and conv_groups {convolution.num_groups}; "
            f"expected an odd number, and one that hidden_size {width} divides by."
        )
    for key in ("hidden_act", "conv_act", "pooler_hidden_act"):
        activation_function(settings.get(key, "gelu"))
    return DebertaConfig(
        **sizes,
        **read({"embedding_width": ("embedding_size", width)}, settings),
        positions=_positions(settings, sizes["max_length"]),
        convolution=convolution if convolution.size > 0 else None,
        pooler=Pooler(**read(POOLER_KEYS, settings)),
    )


def _positions(settings, max_length):
    relative, given = settings.get("relative_attention", False), settings.get("pos_att_type") or ""
    given = given.lower() if isinstance(given, str) else given  # "p2c|c2p", or a list
    terms = tuple(term for term in TERMS if term in given)
    if relative != bool(terms):
        raise ValueError(
            f"relative_attention is {relative} and pos_att_type {given!r}; "
            f"expected True with one of {', '.join(TERMS)}, or both, or False with none."
        )
    found = read(POSITION_KEYS, settings)
    found["max_distance"] = found["max_distance"] if found["max_distance"] > 0 else max_length
    found["num_buckets"] = max(0, found["num_buckets"])
    found["norm"] = "layer_norm" in found["norm"].lower()
    return Positions(terms, **found)


def config_to_hugging_face(config: DebertaConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    terms, positions = config.positions.terms, config.positions
    return {
        "model_type": "deberta-v2", "architectures": [f"{STEM}Model"],
        **written(CONFIG_KEYS, config), "embedding_size": config.embedding_width,
        **written(POSITION_KEYS, positions),
        "relative_attention": bool(terms), "pos_att_type": "|".join(terms),
        "position_buckets": positions.num_buckets or -1,
        "norm_rel_ebd": "layer_norm" if terms and positions.norm else "none",
        **written(CONVOLUTION_KEYS, config.convolution or Convolution(0)),
        **written(POOLER_KEYS, config.pooler),
    }  # fmt: skip


encoder = deberta  # under the name that every architecture's file has
