"""Tables of keras-hub's names and settings, one `Kind` for each of its backbones.

keras-hub's kernels have H and K apart, (D, H, K), where ours have them side by side, (D, H·K): the
same numbers in the same order, so that the tables pair names only.
"""

from dataclasses import dataclass, field
from typing import Any

from kbert.weights.foreign import alike
from kbert.weights.names import Row


def _dense(ours: str, theirs: str) -> tuple[Row, ...]:
    return alike(ours, theirs, "kernel", "bias")


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return alike(ours, theirs, "gamma", "beta")


def _block(ours: str, theirs: str) -> tuple[Row, ...]:
    """A `TransformerEncoder` of keras-hub."""
    attention = f"{theirs}/self_attention_layer"
    return (
        *_dense(f"{ours}/attention/query", f"{attention}/query"),
        *_dense(f"{ours}/attention/key", f"{attention}/key"),
        *_dense(f"{ours}/attention/value", f"{attention}/value"),
        *_dense(f"{ours}/attention/output", f"{attention}/attention_output"),
        *_norm(f"{ours}/attention_residual/norm", f"{theirs}/self_attention_layer_norm"),
        *_dense(f"{ours}/feed_forward/inner", f"{theirs}/feedforward_intermediate_dense"),
        *_dense(f"{ours}/feed_forward/outer", f"{theirs}/feedforward_output_dense"),
        *_norm(f"{ours}/feed_forward_residual/norm", f"{theirs}/feedforward_layer_norm"),
    )


def _tables(theirs: str = "") -> tuple[Row, ...]:
    """Embeddings of tokens and positions, in a layer of their own or not."""
    return (
        *alike("token_embedding", f"{theirs}token_embedding", "embeddings"),
        *alike("position_embedding", f"{theirs}position_embedding", "embeddings"),
    )


SEGMENTS = alike("segment_embedding", "segment_embedding", "embeddings")
EMBEDDING_NORM = _norm("embedding_norm", "embeddings_layer_norm")
BLOCKS = _block("block_{i}", "transformer_layer_{i}")
POOLER = _dense("pooler", "pooled_dense")
# The weights that a task has beside its backbone's.
CLASSIFIER = _dense("classifier", "logits")
MASKED_LM = (
    *_dense("masked_lm_transform", "mlm_head/intermediate_dense"),
    *_norm("masked_lm_norm", "mlm_head/intermediate_layer_norm"),
    Row("masked_lm_bias/bias", "mlm_head/output_bias"),
)
# `MaskedLMHead` of every task: neither can be set.
MASKED_LM_EPSILON = 1e-5


@dataclass(frozen=True)
class Kind:
    """A backbone of keras-hub, and the architecture that computes the same.

    Attributes:
        stem: of the names of its classes: "Bert" of BertBackbone, BertTokenizer.
        model_type: as `config.json` has it.
        table: rows of the backbone's variables.
        arguments: the backbone's argument → `config.json`'s key.
        fixed: key → what the backbone computes with, whatever `config.json` says.
        more: key → value that `config.json` gets beside.
        classifier: rows of its TextClassifier's own variables; none if it has no such task.
        transform_activation: of the masked-LM task's hidden layer; None if it has no such task.
        first_position: the row of our table of positions that is the first of keras-hub's.
        random: the backbone's variables that the architecture does not have.
    """

    stem: str
    model_type: str
    table: tuple[Row, ...]
    arguments: dict[str, str]
    fixed: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)
    classifier: tuple[Row, ...] = ()
    transform_activation: str | None = None
    first_position: int = 0
    random: tuple[str, ...] = ()


ARGUMENTS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "max_sequence_length": "max_position_embeddings",
}
BERT_COMPUTES = {"hidden_act": "gelu_new", "layer_norm_eps": 1e-12}
ROBERTA_COMPUTES = {"hidden_act": "gelu", "layer_norm_eps": 1e-5}

BERT = Kind(
    "Bert",
    "bert",
    (*_tables(), *SEGMENTS, *EMBEDDING_NORM, *BLOCKS, *POOLER),
    ARGUMENTS | {"num_segments": "type_vocab_size"},
    BERT_COMPUTES,
    classifier=CLASSIFIER,
    transform_activation="gelu",
)
ELECTRA = Kind(
    "Electra",
    "electra",
    (
        *_tables(), *SEGMENTS, *EMBEDDING_NORM,
        *_dense("embedding_projection", "embeddings_projection"), *BLOCKS,
    ),
    {("vocab_size" if ours == "vocabulary_size" else ours): key for ours, key in ARGUMENTS.items()}
    | {"num_segments": "type_vocab_size", "embedding_dim": "embedding_size"},
    BERT_COMPUTES,
    random=("pooled_dense/kernel", "pooled_dense/bias"),
)  # fmt: skip
ALBERT = Kind(
    "Albert",
    "albert",
    (
        *_tables(), *SEGMENTS, *EMBEDDING_NORM,
        *_dense("embedding_projection", "embedding_projection"),
        *_block("block_{i}", "group_{i}_inner_layer_0"),
        *_block("block_{i}_{j}", "group_{i}_inner_layer_{j}"),
        *POOLER,
    ),
    ARGUMENTS
    | {
        "num_segments": "type_vocab_size", "embedding_dim": "embedding_size",
        "num_groups": "num_hidden_groups", "num_inner_repetitions": "inner_group_num",
    },
    BERT_COMPUTES,
    classifier=CLASSIFIER,
    transform_activation="gelu_new",
)  # fmt: skip


def _roberta(stem, model_type) -> Kind:
    return Kind(
        stem,
        model_type,
        (*_tables("embeddings/"), *EMBEDDING_NORM, *BLOCKS),
        ARGUMENTS,
        ROBERTA_COMPUTES,
        {"type_vocab_size": 1, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
        classifier=(*POOLER, *CLASSIFIER),
        transform_activation="gelu",
        first_position=2,  # after the row of the padding's id, 1
    )


ROBERTA = _roberta("Roberta", "roberta")
XLM_ROBERTA = _roberta("XLMRoberta", "xlm-roberta")
DISTIL_BERT = Kind(
    "DistilBert",
    "distilbert",
    (*_tables("token_and_position_embedding/"), *EMBEDDING_NORM, *BLOCKS),
    {
        "vocabulary_size": "vocab_size", "num_layers": "n_layers", "num_heads": "n_heads",
        "hidden_dim": "dim", "intermediate_dim": "hidden_dim", "dropout": "dropout",
        "max_sequence_length": "max_position_embeddings",
    },
    {"activation": "gelu"},
    classifier=(*POOLER, *CLASSIFIER),
    transform_activation="gelu",
)  # fmt: skip
DEBERTA_V3 = Kind(
    "DebertaV3",
    "deberta-v2",
    (
        *alike("token_embedding", "token_embedding", "embeddings"), *EMBEDDING_NORM,
        Row("relative_positions/embeddings", "rel_embedding/rel_embedding"),
        *_norm("relative_positions/norm", "rel_embedding/rel_embeddings_layer_norm"),
        *_block("block_{i}", "disentangled_attention_encoder_layer_{i}"),
    ),
    ARGUMENTS | {"bucket_size": "position_buckets"},
    {
        "hidden_act": "gelu", "layer_norm_eps": 1e-7, "relative_attention": True,
        "pos_att_type": "c2p|p2c", "share_att_key": True, "norm_rel_ebd": "layer_norm",
        "position_biased_input": False, "type_vocab_size": 0,
    },
    {"max_relative_positions": -1},  # as many as positions
    classifier=(*POOLER, *CLASSIFIER),
    transform_activation="gelu",
)  # fmt: skip
ALL = (BERT, ROBERTA, XLM_ROBERTA, ALBERT, DISTIL_BERT, ELECTRA, DEBERTA_V3)
KINDS = {kind.stem: kind for kind in ALL}
