"""ModernBERT (Warner et al. 2024, 2412.13663): BERT rebuilt for long texts.

What differs from the encoder of Vaswani et al. 2017: positions are rotations of queries and keys;
two blocks of three look at a window of 128 tokens only, and their rotations are faster; the
feed-forward network is gated; normalisation stands before each sub-layer, but not before the first
attention, and once more at the end; nothing has a bias; there are no segments.
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
from kbert.layers.feed_forward import GatedFeedForward
from kbert.layers.head_parts import HeadParts
from kbert.layers.normalization import BiaslessLayerNormalization
from kbert.layers.positions import RotaryPositions
from kbert.layers.residual import PreNorm
from kbert.weights import names


@dataclass(frozen=True)
class ModernBertConfig:
    """The sizes of a ModernBERT; the defaults are ModernBERT-base."""

    vocab_size: int = 50368
    num_layers: int = 22
    width: int = 768  # D
    num_heads: int = 12  # H
    inner_width: int = 1152  # F
    max_length: int = 8192  # tokens, with the special ones, that it was trained for
    activation: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    global_every: int = 3  # block 0, 3, 6, … attends to the whole text, the others to a window
    window: int = 128  # tokens, half of them to either side
    global_base: float = 160000.0  # of the rotations
    local_base: float = 10000.0
    pooling: str = "cls"  # or "mean": of the head that classifies texts


# Published sizes: the paper's table 4, https://huggingface.co/answerdotai/ModernBERT-base.
MODERNBERT_BASE = ModernBertConfig()
MODERNBERT_LARGE = ModernBertConfig(num_layers=28, width=1024, num_heads=16, inner_width=2624)


def modernbert(config: ModernBertConfig, dtype=None) -> keras.Model:
    """ModernBERT's encoder.

    Args:
        config: the sizes.
        dtype: a Keras dtype policy, "float32" or "mixed_bfloat16"; default Keras's own.

    Returns:
        A functional model: `token_ids` int (B, T), `padding_mask` bool (B, T), True = a real token
        -> `sequence` float (B, T, D).
    """
    head_width = config.width // config.num_heads

    def norm(name):
        return BiaslessLayerNormalization(config.norm_epsilon, dtype=dtype, name=name)

    # Layers
    initializer = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
    token_embedding = TokenEmbedding(
        config.vocab_size, config.width, embeddings_initializer=initializer, dtype=dtype,
        name="token_embedding",
    )  # fmt: skip
    embedding_norm = norm("embedding_norm")
    embedding_dropout = Dropout(config.dropout, dtype=dtype, name="embedding_dropout")
    global_positions = RotaryPositions(
        head_width, config.global_base, dtype=dtype, name="global_positions"
    )
    local_positions = RotaryPositions(
        head_width, config.local_base, dtype=dtype, name="local_positions"
    )
    blocks = [_block(config, i, dtype) for i in range(config.num_layers)]
    final_norm = norm("final_norm")

    # Graph
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    x = embedding_dropout(embedding_norm(token_embedding(token_ids)))  # (B, T, D)
    far, near = global_positions(x), local_positions(x)  # (2, T, K)
    mask = masks.padding(padding_mask)  # (B, 1, 1, T)
    for i, block in enumerate(blocks):
        x = block(x, attention_mask=mask, rotation=far if _is_global(config, i) else near)
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, {"sequence": final_norm(x)}, name="modernbert")
    model.head_parts = head_parts(config)
    return model


def head_parts(config: ModernBertConfig) -> HeadParts:
    """What ModernBERT's heads are made of: every one has a dense layer, GELU and a norm first."""
    return HeadParts(
        pooling=config.pooling,
        pooler_activation="gelu",
        pooler_bias=False,
        pooler_norm=True,
        pool_tokens=True,
        transform_bias=False,
        norm=partial(BiaslessLayerNormalization, config.norm_epsilon),
        initializer_range=config.initializer_range,
    )


def _is_global(config, i):
    return i % config.global_every == 0


def _block(config, i, dtype):
    """Block i. What leads out of it starts narrower, the more blocks there are."""
    deviation = config.initializer_range
    into = keras.initializers.TruncatedNormal(stddev=deviation)
    out_of = keras.initializers.TruncatedNormal(stddev=deviation / (2 * config.num_layers) ** 0.5)

    def residual(norm, dropout, name):
        return PreNorm(norm, dropout, dtype=dtype, name=name)

    def norm():
        return BiaslessLayerNormalization(config.norm_epsilon, dtype=dtype, name="norm")

    # The embeddings were normalised a moment ago.
    first_norm = norm() if i else keras.layers.Identity(dtype=dtype, name="norm")
    return EncoderBlock(
        MultiHeadAttention(
            config.num_heads, config.width // config.num_heads, config.attention_dropout,
            window=None if _is_global(config, i) else config.window // 2, use_bias=False,
            kernel_initializer=into, output_initializer=out_of, dtype=dtype, name="attention",
        ),
        residual(first_norm, config.attention_dropout, "attention_residual"),
        GatedFeedForward(
            config.inner_width, config.activation, config.dropout,
            kernel_initializer=into, outer_initializer=out_of, dtype=dtype, name="feed_forward",
        ),
        residual(norm(), 0.0, "feed_forward_residual"),
        dtype=dtype,
        name=f"block_{i}",
    )  # fmt: skip


# Hugging Face's names (modeling_modernbert.py of transformers).
PREFIX = "model."
STEM = "ModernBert"  # of the names of its classes: ModernBertModel, ModernBertForMaskedLM
BLOCK, LAYER = "block_{i}", "layers.{i}"
POSITIONS = ("global_positions", "local_positions")  # layers that config.json tells of


def _kernel(ours, theirs, **where):
    return names.Row(f"{ours}/kernel", f"{theirs}.weight", transpose=True, **where)


def _norm(ours, theirs, **where):
    return names.Row(f"{ours}/gamma", f"{theirs}.weight", **where)


NAMES = (
    names.Row("token_embedding/embeddings", "embeddings.tok_embeddings.weight"),
    _norm("embedding_norm", "embeddings.norm"),
    _norm(f"{BLOCK}/attention_residual/norm", f"{LAYER}.attn_norm"),
    names.Row(
        tuple(f"{BLOCK}/attention/{part}/kernel" for part in ("query", "key", "value")),
        f"{LAYER}.attn.Wqkv.weight",
        transpose=True,
    ),
    _kernel(f"{BLOCK}/attention/output", f"{LAYER}.attn.Wo"),
    _norm(f"{BLOCK}/feed_forward_residual/norm", f"{LAYER}.mlp_norm"),
    _kernel(f"{BLOCK}/feed_forward/inner", f"{LAYER}.mlp.Wi"),
    _kernel(f"{BLOCK}/feed_forward/outer", f"{LAYER}.mlp.Wo"),
    _norm("final_norm", "final_norm"),
)
HEAD = (_kernel("pooler", "head.dense", head=True), _norm("pooler_norm", "head.norm", head=True))
CLASSIFIER = names.dense("classifier", "classifier", head=True)
HEADS = {
    "SequenceClassification": HEAD + CLASSIFIER,
    "TokenClassification": HEAD + CLASSIFIER,
    "QuestionAnswering": HEAD + names.dense("span", "classifier", head=True),
    "MultipleChoice": HEAD + CLASSIFIER,
    "MaskedLM": (
        _kernel("masked_lm_transform", "head.dense", head=True),
        _norm("masked_lm_norm", "head.norm", head=True),
        names.Row("masked_lm_bias/bias", "decoder.bias", head=True),
        *names.tied("decoder.weight", "token_embedding/embeddings"),
    ),
}

# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 50368),
    "num_layers": ("num_hidden_layers", 22),
    "width": ("hidden_size", 768),
    "num_heads": ("num_attention_heads", 12),
    "inner_width": ("intermediate_size", 1152),
    "max_length": ("max_position_embeddings", 8192),
    "activation": ("hidden_activation", "gelu"),
    "dropout": ("mlp_dropout", 0.0),
    "attention_dropout": ("attention_dropout", 0.0),
    "norm_epsilon": ("norm_eps", 1e-5),
    "initializer_range": ("initializer_range", 0.02),
    "window": ("local_attention", 128),
    "pooling": ("classifier_pooling", "cls"),
}
# What ModernBERT here has in one way only: the key, its value, which is transformers' default too.
FIXED = {
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
    "classifier_activation": "gelu",
    "tie_word_embeddings": True,
    "rope_scaling": None,
}
KINDS = ("full_attention", "sliding_attention")  # of blocks, in layer_types and rope_parameters


def config_from_hugging_face(settings: dict) -> ModernBertConfig:
    """The config that `config.json` describes, as transformers 4 or 5 writes it.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    for key, default in CONFIG_KEYS.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    for key, value in FIXED.items():
        if settings.get(key, value) != value:
            raise ValueError(f"{key} is {settings[key]!r}; ModernBERT here has {value} only.")
    fields = {f: settings.get(k, d) for f, (k, d) in CONFIG_KEYS.items()}
    if (embedding_dropout := settings.get("embedding_dropout", 0.0)) != fields["dropout"]:
        raise ValueError(
            f"embedding_dropout is {embedding_dropout} and mlp_dropout {fields['dropout']}; "
            "ModernBERT here has one probability for both. Make them equal."
        )
    global_base, local_base = (_base(settings, kind) for kind in KINDS)
    config = ModernBertConfig(
        **fields,
        global_every=_global_every(settings, fields["num_layers"]),
        global_base=global_base,
        local_base=local_base,
    )
    if config.width % (2 * config.num_heads):
        raise ValueError(
            f"hidden_size {config.width} does not divide by num_attention_heads "
            f"{config.num_heads} into heads of an even width, as rotary positions need."
        )
    if config.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"hidden_activation is {config.activation!r}; expected one of {known}.")
    if config.pooling not in ("cls", "mean"):
        raise ValueError(f"classifier_pooling is {config.pooling!r}; expected cls or mean.")
    return config


def _base(settings, kind):
    """The base of a kind of block's rotations: transformers 5 keeps it in `rope_parameters`."""
    parameters = (settings.get("rope_parameters") or {}).get(kind) or {}
    if parameters.get("rope_type", "default") != "default":
        raise ValueError(
            f"rope_parameters give {kind} the rope_type {parameters['rope_type']!r}; "
            "ModernBERT here has plain rotary positions only, 'default'."
        )
    is_global = kind == KINDS[0]
    key = "global_rope_theta" if is_global else "local_rope_theta"
    default = settings.get(key, 160000.0 if is_global else 10000.0)
    base = parameters.get("rope_theta", default)
    if base is None and not is_global:  # in transformers 4, null is as in the global blocks
        return _base(settings, KINDS[0])
    return float(base)


def _global_every(settings, num_layers):
    """Each how many blocks one is global: transformers 5 lists them in `layer_types`."""
    kinds = settings.get("layer_types")
    if kinds is None:
        return settings.get("global_attn_every_n_layers", 3)
    # All global is each block; only the first, as many as there are.
    every = next((i for i in range(1, len(kinds)) if kinds[i] == KINDS[0]), max(len(kinds), 1))
    if kinds != _layer_types(num_layers, every):
        raise ValueError(
            f"layer_types is {kinds}; ModernBERT here has one global block in every n, the first "
            f"of them, and {num_layers} (num_hidden_layers) in all."
        )
    return every


def _layer_types(num_layers, every):
    return [KINDS[i % every > 0] for i in range(num_layers)]


def config_to_hugging_face(config: ModernBertConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    sizes = {key: getattr(config, ours) for ours, (key, _) in CONFIG_KEYS.items()}
    # In the words of transformers 4, which 5 reads too. Special tokens are the vocabulary's, and
    # their defaults there may lie outside a smaller one.
    unknown = dict.fromkeys(f"{name}_token_id" for name in ("pad", "bos", "eos", "cls", "sep"))
    return {
        "model_type": "modernbert",
        "architectures": [f"{STEM}Model"],
        **sizes,
        "embedding_dropout": config.dropout,
        "global_attn_every_n_layers": config.global_every,
        "global_rope_theta": config.global_base,
        "local_rope_theta": config.local_base,
        **unknown,
    }


encoder = modernbert  # under the name that every architecture's file has
