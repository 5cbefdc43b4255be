"""Google's BERT checkpoints of TensorFlow 1 (github.com/google-research/bert), read and written.

    bert_config.json                     sizes
    bert_model.ckpt.index, .data-*       variables: bert/embeddings/word_embeddings, …
    vocab.txt                            WordPiece

Their code (modeling.py, run_pretraining.py, run_classifier.py, run_squad.py) gives the names below.
An optimizer's slots and counters in a training checkpoint are known and left out. What
`config.json` says beyond bert_config.json (labels, say) is kept there under one more key,
"hugging_face", which Google's code does not look at.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kbert.errors import InputError
from kbert.weights import foreign, names
from kbert.weights.foreign import Foreign
from kbert.weights.names import Row

CONFIG, MODEL, VOCABULARY = "bert_config.json", "bert_model.ckpt", "vocab.txt"
BEYOND = "hugging_face"
# modeling.py, BertConfig; vocab_size has no default there.
DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 16,
    "initializer_range": 0.02,
}
# config.json's hidden_act → that of modeling.py, whose gelu has tanh since 2019.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "tanh": "tanh",
}
NORM_EPSILON = 1e-12
# What optimizers and loss scaling keep beside a variable, and alone.
SLOTS = ("adam_m", "adam_v", "Adam", "Adam_1", "lamb_m", "lamb_v")
COUNTERS = ("global_step", "beta1_power", "beta2_power", "current_loss_scale", "good_steps")


def _dense(ours: str, theirs: str) -> tuple[Row, ...]:
    return foreign.alike(ours, theirs, "kernel", "bias")


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return foreign.alike(ours, f"{theirs}/LayerNorm", "gamma", "beta")


def _output(ours: str, theirs: str) -> tuple[Row, ...]:
    """What the scripts make by hand, transposed."""
    weights = Row(f"{ours}/kernel", f"{theirs}output_weights", transpose=True)
    return (weights, Row(f"{ours}/bias", f"{theirs}output_bias"))


BLOCK, LAYER = "block_{i}", "bert/encoder/layer_{i}"
NAMES = (
    Row("token_embedding/embeddings", "bert/embeddings/word_embeddings"),
    Row("position_embedding/embeddings", "bert/embeddings/position_embeddings"),
    Row("segment_embedding/embeddings", "bert/embeddings/token_type_embeddings"),
    *_norm("embedding_norm", "bert/embeddings"),
    *_dense(f"{BLOCK}/attention/query", f"{LAYER}/attention/self/query"),
    *_dense(f"{BLOCK}/attention/key", f"{LAYER}/attention/self/key"),
    *_dense(f"{BLOCK}/attention/value", f"{LAYER}/attention/self/value"),
    *_dense(f"{BLOCK}/attention/output", f"{LAYER}/attention/output/dense"),
    *_norm(f"{BLOCK}/attention_residual/norm", f"{LAYER}/attention/output"),
    *_dense(f"{BLOCK}/feed_forward/inner", f"{LAYER}/intermediate/dense"),
    *_dense(f"{BLOCK}/feed_forward/outer", f"{LAYER}/output/dense"),
    *_norm(f"{BLOCK}/feed_forward_residual/norm", f"{LAYER}/output"),
    *_dense("pooler", "bert/pooler/dense"),
    *_dense("masked_lm_transform", "cls/predictions/transform/dense"),
    *_norm("masked_lm_norm", "cls/predictions/transform"),
    Row("masked_lm_bias/bias", "cls/predictions/output_bias"),
    *_output("next_sentence", "cls/seq_relationship/"),
    *_output("classifier", ""),
    *_output("span", "cls/squad/"),
)


def is_google(folder: Path) -> bool:
    """Whether a folder has Google's config."""
    return (folder / CONFIG).is_file()


def read(folder: Path) -> Foreign:
    """What a folder of Google's holds.

    Raises:
        InputError: the config or the variables are missing or broken, or a variable is unknown.
    """
    config = _read_config(folder)
    variables = _read_variables(_prefix(folder))
    left_out = [name for name in variables if _is_optimizers(name, variables)]
    matched = names.from_checkpoint(
        {name: array for name, array in variables.items() if name not in left_out}, NAMES, ""
    )
    if matched.unknown:
        raise InputError(
            f"{folder}: expected the variables of Google's BERT, came also "
            f"{len(matched.unknown)} unknown: {', '.join(sorted(matched.unknown)[:20])}."
        )
    beyond = config.pop(BEYOND, {})
    settings = {"model_type": "bert", **config, **beyond}
    files = _tokenizer_files(folder)
    return Foreign(settings, matched.arrays, files, left_out)


def write(folder: Path, settings: dict, arrays: Mapping[str, np.ndarray], head: str | None) -> None:
    """Write Google's config and variables; the vocabulary is not this function's.

    Args:
        folder: is there already.
        settings: `config.json`'s contents, of a BERT.
        arrays: our variable path → array, those of the head too.
        head: its name, "PreTraining"; None if there is none.

    Raises:
        InputError: Google's code could not compute this model, or has no place for a head.
    """
    config = _config_of(settings)
    is_known = names.known(NAMES)
    # A classifier of tokens or choices would fit under the names of one of texts, and mislead.
    is_misleading = head in ("TokenClassification", "MultipleChoice")
    unknown = [p for p in arrays if not is_known(p) or (is_misleading and p[:10] == "classifier")]
    foreign.refuse("Google's format", arrays, unknown)
    import tensorflow as tf

    variables = names.to_checkpoint(arrays, NAMES, "")
    order = sorted(variables)
    with tf.device("cpu"):
        tf.raw_ops.SaveV2(
            prefix=os.fspath(folder / MODEL),
            tensor_names=order,
            shape_and_slices=[""] * len(order),
            tensors=[variables[name] for name in order],
        )
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, "utf-8")


def _config_of(settings: dict) -> dict:
    """bert_config.json of `config.json`."""
    if settings.get("model_type") != "bert":
        raise InputError(
            f"model_type is {settings.get('model_type')!r}; Google's format is for bert only."
        )
    activation = settings.get("hidden_act", DEFAULTS["hidden_act"])
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise InputError(f"hidden_act is {activation!r}; Google's BERT has {known} only.")
    epsilon = settings.get("layer_norm_eps", NORM_EPSILON)
    if epsilon != NORM_EPSILON:
        raise InputError(f"layer_norm_eps is {epsilon}; Google's BERT has {NORM_EPSILON} only.")
    ours = {"vocab_size": 30522, **DEFAULTS, "type_vocab_size": 2}  # as config.json leaves out
    config = {key: settings.get(key, default) for key, default in ours.items()}
    config["hidden_act"] = ACTIVATIONS[activation]
    beyond = {k: v for k, v in settings.items() if k not in config and k != "model_type"}
    if activation != config["hidden_act"]:
        beyond["hidden_act"] = activation
    return {**config, **({BEYOND: beyond} if beyond else {})}


def _read_config(folder: Path) -> dict:
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text("utf-8"))
        return {"vocab_size": config["vocab_size"], **DEFAULTS, **config}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: expected Google's BERT config with vocab_size ({error}).") from (
            error
        )


def _prefix(folder: Path) -> Path:
    """What the names of a checkpoint's files begin with."""
    found = sorted(file.with_suffix("") for file in folder.glob("*.index"))
    if folder / MODEL in found:
        return folder / MODEL
    if len(found) != 1:
        there = ", ".join(sorted(file.name for file in folder.iterdir()))
        raise InputError(
            f"{folder}: expected {MODEL}.index, or one other checkpoint; there is {there}. "
            "Of several, keep the one to be read."
        )
    return found[0]


def _read_variables(prefix: Path) -> dict[str, np.ndarray]:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(os.fspath(prefix))
        variables = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # TensorFlow has an error for each way in which a file is broken
        raise InputError(
            f"{prefix}: not a whole checkpoint of TensorFlow ({str(error).splitlines()[0]}). "
            "Fetch or copy its .index and all its .data files again."
        ) from error
    if any("_CHECKPOINTABLE_OBJECT_GRAPH" in name for name in variables):
        raise InputError(
            f"{prefix}: a checkpoint of TensorFlow 2, whose names are those of Python objects; "
            "expected one of Google's BERT of 2018 to 2020, with bert/embeddings/word_embeddings."
        )
    return {
        name: array.astype(np.float32) if array.dtype.kind not in "iub" else array
        for name, array in variables.items()
    }


def _is_optimizers(name: str, variables) -> bool:
    stem, _, slot = name.rpartition("/")
    return name in COUNTERS or (slot in SLOTS and stem in variables)


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The vocabulary, and how its texts are cleaned, which Google tells in a checkpoint's name."""
    there = [f for f in folder.iterdir() if f.name.startswith(("tokenizer", "special_tokens"))]
    files = {file.name: file.read_bytes() for file in there if file.suffix == ".json"}
    if not (folder / VOCABULARY).is_file() and "tokenizer.json" not in files:
        raise InputError(f"{folder}: expected {VOCABULARY} beside {CONFIG}.")
    if (folder / VOCABULARY).is_file():
        files[VOCABULARY] = (folder / VOCABULARY).read_bytes()
    if not there:
        text = files[VOCABULARY].decode("utf-8")
        settings = {"do_lower_case": not _has_upper_case(text.split("\n"))}
        files["tokenizer_config.json"] = json.dumps(settings).encode()
    return files


def _has_upper_case(pieces: list[str]) -> bool:
    """Whether a vocabulary is of text as it was written; its special tokens do not count."""
    words = (piece for piece in pieces if (piece[:1], piece[-1:]) not in {("[", "]"), ("<", ">")})
    return any(word != word.lower() for word in words)
