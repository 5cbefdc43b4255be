"""A checkpoint is a Hugging Face folder: config.json, model.safetensors, tokenizer, labels."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from kbert.errors import InputError
from kbert.text.tokenizer import Tokenizer
from kbert.weights import names, safetensors

if TYPE_CHECKING:
    import keras

# config.json's model_type → the file of models/ that describes the architecture.
ARCHITECTURES = {
    "albert": "albert",
    "bert": "bert",
    "camembert": "roberta",
    "deberta-v2": "deberta",
    "distilbert": "distilbert",
    "electra": "electra",
    "mobilebert": "mobilebert",
    "modernbert": "modernbert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
}
CONFIG = "config.json"
HUB_FILES = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model"]


@dataclass
class Checkpoint:
    """What a folder holds.

    Attributes:
        encoder: functional `keras.Model`, the encoder with its weights. Its attribute
            `head_weights` (a head's name → variable path → array) keeps what the folder holds for
            heads, so that `task.model(encoder)` starts from a pretrained pooler.
        tokenizer: text → token ids.
        config: the architecture's frozen config, e.g. `BertConfig`.
        settings: `config.json` as it was read.
    """

    encoder: "keras.Model"
    tokenizer: Tokenizer
    config: Any
    settings: dict


def load(
    path: str | os.PathLike,
    dtype: str | None = None,
    dropout: float | None = None,
    revision: str | None = None,
) -> Checkpoint:
    """Load a checkpoint folder, or a model of the Hugging Face hub.

    Args:
        path: a folder, or a hub name ("bert-base-uncased", "org/name").
        dtype: a Keras dtype policy for the encoder: "float32", "mixed_bfloat16" (training) or
            "bfloat16" (inference only); default Keras's own.
        dropout: probability of dropping a value, everywhere in the encoder; default what the
            checkpoint's config says.
        revision: of the hub's model.

    Returns:
        A `Checkpoint`.

    Raises:
        InputError: the folder lacks config, weights or vocabulary; the model type is unknown; the
            weights do not fit, with all unknown, missing and misshapen tensors in one list.
    """
    folder = find_folder(path, revision)
    settings = read_settings(folder)
    architecture = _architecture(folder, settings)
    tokenizer = Tokenizer.from_folder(folder)
    try:
        config = architecture.config_from_hugging_face(settings)
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder / CONFIG}: {error}") from error
    if dropout is not None:
        config = replace(config, dropout=dropout, attention_dropout=dropout)
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, but {CONFIG} gives "
            f"the model vocab_size {config.vocab_size}. They belong to different checkpoints."
        )
    tensors = safetensors.read(safetensors.weight_files(folder))
    encoder = architecture.encoder(config, dtype)
    assign(encoder, tensors, architecture, folder)
    tokenizer.with_segments = "segment_ids" in encoder.input
    return Checkpoint(encoder, tokenizer, config, settings)


def save(folder: str | os.PathLike, model: "keras.Model", settings: dict, tokenizer: Tokenizer):
    """Write a Hugging Face folder: config, weights, tokenizer files, each beside, then renamed.

    Args:
        folder: is made if it is not there.
        model: an encoder, or an encoder with a head.
        settings: `config.json`'s contents, with the head's labels (`task.settings(…)`).
        tokenizer: text → token ids.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architecture = _architecture(folder, settings)
    head = settings.get("kbert", {}).get("head")
    tensors = tensors_of(model, architecture, head)
    safetensors.write(folder / safetensors.WEIGHTS, tensors)
    tokenizer.save(folder)
    stem = architecture.STEM
    stem = stem(settings) if callable(stem) else stem
    name = f"{stem}For{head}" if head in architecture.HEADS else f"{stem}Model"
    write_json(folder / CONFIG, {**settings, "architectures": [name]})


def tensors_of(
    model: "keras.Model", architecture: ModuleType, head: str | None = None
) -> dict[str, np.ndarray]:
    """A model's weights under Hugging Face's names: the other way of `assign`.

    Args:
        model: an encoder, or one with a head.
        architecture: its file of models/.
        head: a name of the architecture's HEADS. Of another, or None, the encoder goes under the
            bare model's names, and the head's weights, if there are any, under kbert's own.

    Raises:
        InputError: the model was handed positions that `config.json` has no words for.
    """
    _check_positions(model, architecture)
    published = architecture.HEADS.get(head)
    rows = (*architecture.NAMES, *(published or ()))
    arrays, ours = names.take(model.weights), {}
    if published is None:
        known = names.known(rows)
        ours = {f"{names.OURS}.{p.replace('/', '.')}": a for p, a in arrays.items() if not known(p)}
        arrays = {path: array for path, array in arrays.items() if known(path)}
    prefix = "" if published is None else architecture.PREFIX
    return {**names.to_checkpoint(arrays, rows, prefix), **ours}


def _check_positions(model, architecture):
    known = names.known(architecture.NAMES)
    for layer in model.layers:
        # Who says how it tells positions, and is not the architecture's own.
        if hasattr(layer, "gives") and layer.name not in getattr(architecture, "POSITIONS", ()):
            if layer.weights and all(known(weight.path) for weight in layer.weights):
                continue
            raise InputError(
                f"This model's positions are {type(layer).__name__} ({layer.name!r}), which "
                f"{CONFIG} of {architecture.__name__} has no words for: opened again it would "
                "be another model. Keep it with model.save('….keras')."
            )


def find_folder(path: str | os.PathLike, revision: str | None = None) -> Path:
    """The local folder of a path or hub name; a hub's model is fetched into the hub's cache.

    Raises:
        InputError: there is no such folder and the hub cannot be reached or has no such model.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    name = os.fspath(path)
    if folder.exists():
        raise InputError(f"{name}: expected a checkpoint folder, it is a file.")
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InputError(f"{name}: no such folder.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except Exception as error:
        raise InputError(
            f"{name}: no such folder, and as a name on the Hugging Face hub it could not be "
            f"fetched ({type(error).__name__}). Give the path of a checkpoint folder, or check "
            "the name and the network."
        ) from error


def read_settings(folder: Path) -> dict:
    """`config.json` of a checkpoint folder.

    Raises:
        InputError: it is not there, or not a JSON object.
    """
    file = folder / CONFIG
    if not file.is_file():
        there = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise InputError(f"{folder}: expected {CONFIG} of a checkpoint; there is {there}.")
    try:
        settings = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}).") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file}: expected a JSON object, it is a {type(settings).__name__}.")
    return settings


def write_json(file: Path, content) -> None:
    """Write beside, then rename."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    os.replace(beside, file)


def _architecture(folder: Path, settings: dict) -> ModuleType:
    model_type = settings.get("model_type")
    if model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(
            f"{folder / CONFIG}: model_type is {model_type!r}; this version knows {known}."
        )
    architecture = import_module(f"kbert.models.{ARCHITECTURES[model_type]}")
    # Where one architecture's files have several forms, the settings tell which.
    return architecture.variant(settings) if hasattr(architecture, "variant") else architecture


def assign(encoder, tensors: Mapping[str, np.ndarray], architecture: ModuleType, folder) -> None:
    """Give an encoder its weights, and keep what the tensors hold for heads.

    Args:
        encoder: gets its weights, and `head_weights`: a head's name → variable path → array.
        tensors: Hugging Face's tensor name → array.
        architecture: the encoder's file of models/.
        folder: where the tensors are from, for errors.

    Raises:
        InputError: a tensor is unknown, missing, misshapen, or not what it is tied to.
    """
    matched = names.from_checkpoint(tensors, architecture.NAMES, architecture.PREFIX)
    others = {name: tensors[name] for name in matched.unknown}
    heads, untied = {}, set()
    heads[names.OURS] = {
        name.removeprefix(f"{names.OURS}.").replace(".", "/"): array
        for name, array in others.items()
        if name.startswith(f"{names.OURS}.")
    }
    unknown = {name for name in others if not name.startswith(f"{names.OURS}.")}
    for head, rows in architecture.HEADS.items():
        found = names.from_checkpoint(others, rows, architecture.PREFIX)
        heads[head] = found.arrays
        unknown &= set(found.unknown)
        held = matched.arrays | found.arrays
        untied |= {
            f"{name}, expected to be {path}"
            for name, path in found.tied.items()
            if path in held and not np.array_equal(others[name], held[path])
        }
    spare = {row.ours for row in architecture.NAMES if row.spare}
    unknown |= matched.arrays.keys() - {variable.path for variable in encoder.weights} - spare
    missing, misshapen = names.differences(encoder.weights, matched.arrays)
    if unknown or missing or misshapen or untied:
        raise InputError(_misfit(folder, unknown, missing, misshapen, untied))
    names.assign(encoder.weights, matched.arrays)
    encoder.head_weights = heads


def _misfit(folder: Path, unknown, missing, misshapen, untied) -> str:
    lists = {"unknown": unknown, "missing": missing, "misshapen": misshapen, "untied": untied}
    lines = [f"{folder}: the weights do not fit the model that {CONFIG} describes."]
    for kind, entries in lists.items():
        if entries:
            lines += [f"  {len(entries)} {kind}:", *(f"    {entry}" for entry in sorted(entries))]
    return "\n".join(lines)
