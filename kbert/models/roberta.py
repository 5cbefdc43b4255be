"""RoBERTa: a Robustly Optimized BERT Pretraining Approach (Liu et al. 2019, 1907.11692).

What differs from BERT: more data, masks drawn anew at each epoch and no next sentence, none of
which changes the model; byte-level BPE, 50k tokens; no segments. XLM-R (Conneau et al. 2020,
1911.02116) and CamemBERT (Martin et al. 2020, 1911.03894) are RoBERTa with other text and with
SentencePiece.

Two remains of its first home, fairseq, stand in every file of weights. The first token's position
is the row after the padding's, `pad_id` + 1, so that the table has more rows than a text has
places: 514 for 512. transformers counts the tokens that are not padding; here the n-th token has
the n-th position, which is the same as long as padding stands at the end. And there is a segment
table of one row, which is added to every token. A table of more rows is kept whole, and its first
row is added: as transformers does unless a caller gives it segments by hand, which its tokenizers
of this family never do.
"""

from dataclasses import dataclass
from functools import partial

import keras
from keras import ops

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
class RobertaConfig:
    """The sizes of a RoBERTa; the defaults are RoBERTa-base."""

    vocab_size: int = 50265
    num_layers: int = 12
    width: int = 768  # D
    num_heads: int = 12  # H
    inner_width: int = 3072  # F
    max_length: int = 512  # positions, in tokens with the special ones
    num_segments: int = 1  # rows of a table of which the first is added to every token
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    pad_id: int = 1  # the first token's position is the one after
    model_type: str = "roberta"


# Published sizes: the papers' tables, and vocabularies as their files have them.
ROBERTA_BASE = RobertaConfig()
ROBERTA_LARGE = RobertaConfig(num_layers=24, width=1024, num_heads=16, inner_width=4096)
XLM_ROBERTA_BASE = RobertaConfig(vocab_size=250002, model_type="xlm-roberta")
XLM_ROBERTA_LARGE = RobertaConfig(250002, 24, 1024, 16, 4096, model_type="xlm-roberta")
CAMEMBERT_BASE = RobertaConfig(vocab_size=32005, model_type="camembert")


def roberta(config: RobertaConfig, dtype=None, positions=None) -> keras.Model:
    """RoBERTa's encoder.

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
        return LayerNormalization(config.norm_epsilon, dtype=dtype, name=name)

    def residual(name):
        return PostNorm(norm("norm"), config.dropout, dtype=dtype, name=name)

    # Layers
    token_embedding = TokenEmbedding(
        config.vocab_size, config.width, embeddings_initializer=initializer(), dtype=dtype,
        name="token_embedding",
    )  # fmt: skip
    positions = positions or LearnedPositions(
        config.max_length, initializer(), config.pad_id + 1, dtype=dtype, name="position_embedding"
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
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    tokens = token_embedding(token_ids)  # (B, T, D)
    segment = segment_embedding(ops.zeros_like(token_ids[:, :1]))  # (B, 1, D), all alike
    x, given = placed(tokens + segment, positions)
    x = embedding_dropout(embedding_norm(x))
    mask = masks.padding(padding_mask)  # (B, 1, 1, T)
    for block in blocks:
        x = block(x, attention_mask=mask, **given)
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, {"sequence": x}, name="roberta")
    model.head_parts = head_parts(config)
    return model


def head_parts(config: RobertaConfig) -> HeadParts:
    """What RoBERTa's heads are made of; the masked-LM head has GELU whatever the blocks have."""
    return HeadParts(
        pooler_dropout=config.dropout,
        transform_activation="gelu",
        norm=partial(LayerNormalization, config.norm_epsilon),
        initializer_range=config.initializer_range,
    )


# Hugging Face's names (modeling_roberta.py, modeling_xlm_roberta.py, modeling_camembert.py).
PREFIX = "roberta."
STEMS = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}


def stem(settings: dict) -> str:
    """How the names of its classes begin: XLMRobertaModel, XLMRobertaForMaskedLM."""
    return STEMS[settings.get("model_type", "roberta")]


STEM = stem
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
    *names.left_out("embeddings.position_ids", "embeddings.token_type_ids"),
)
CLASSIFIER = names.dense("classifier", "classifier", head=True)
MASKED_LM = (
    *names.dense("masked_lm_transform", "lm_head.dense", head=True),
    *names.norm("masked_lm_norm", "lm_head.layer_norm", head=True),
    names.Row("masked_lm_bias/bias", "lm_head.bias", head=True),
    *names.tied("lm_head.decoder.bias", "masked_lm_bias/bias"),
    *names.tied("lm_head.decoder.weight", "token_embedding/embeddings"),
)
HEADS = {
    # The classifier of texts has a hidden layer of its own, where BERT's has the pooler.
    "SequenceClassification": (
        *names.dense("pooler", "classifier.dense", head=True),
        *names.dense("classifier", "classifier.out_proj", head=True),
    ),
    "TokenClassification": CLASSIFIER,
    "QuestionAnswering": names.dense("span", "qa_outputs", head=True),
    "MultipleChoice": names.dense("pooler", "pooler.dense") + CLASSIFIER,
    "MaskedLM": MASKED_LM,
}

# Our field ⇄ Hugging Face's key in config.json, and the value when the key is not there.
CONFIG_KEYS = {
    "vocab_size": ("vocab_size", 50265),
    "num_layers": ("num_hidden_layers", 12),
    "width": ("hidden_size", 768),
    "num_heads": ("num_attention_heads", 12),
    "inner_width": ("intermediate_size", 3072),
    "max_length": ("max_position_embeddings", 512),  # less the rows before the first token's
    "num_segments": ("type_vocab_size", 2),
    "activation": ("hidden_act", "gelu"),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "initializer_range": ("initializer_range", 0.02),
    "pad_id": ("pad_token_id", 1),
    "model_type": ("model_type", "roberta"),
}


def config_from_hugging_face(settings: dict) -> RobertaConfig:
    """The config that `config.json` describes.

    Raises:
        ValueError: it asks for what this architecture does not have, or its sizes do not fit.
    """
    if settings.get("model_type", "roberta") != "roberta":
        settings = {"vocab_size": 30522, **settings}  # the others' value when the key is not there
    for key, default in CONFIG_KEYS.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    fields = {f: settings.get(k, d) for f, (k, d) in CONFIG_KEYS.items()}
    rows = fields["max_length"]
    config = RobertaConfig(**{**fields, "max_length": rows - fields["pad_id"] - 1})
    if config.max_length < 1:
        raise ValueError(
            f"max_position_embeddings {rows} leaves no position for a token: the first is "
            f"pad_token_id + 1 = {config.pad_id + 1}. RoBERTa's 512 positions are 514 rows."
        )
    if config.model_type not in STEMS:
        raise ValueError(
            f"model_type is {config.model_type!r}; expected one of {', '.join(STEMS)}."
        )
    if settings.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"position_embedding_type is {settings['position_embedding_type']!r}; "
            "RoBERTa here has absolute positions only."
        )
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise ValueError("is_decoder or add_cross_attention is set; RoBERTa here is an encoder.")
    if config.width % config.num_heads:
        raise ValueError(
            f"hidden_size {config.width} does not divide by num_attention_heads {config.num_heads}."
        )
    if config.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"hidden_act is {config.activation!r}; expected one of {known}.")
    return config


def config_to_hugging_face(config: RobertaConfig) -> dict:
    """`config.json`'s keys for a config: the other way of `config_from_hugging_face`."""
    sizes = {key: getattr(config, ours) for ours, (key, _) in CONFIG_KEYS.items()}
    sizes["max_position_embeddings"] += config.pad_id + 1
    return {"architectures": [f"{stem(sizes)}Model"], **sizes}


encoder = roberta  # under the name that every architecture's file has
