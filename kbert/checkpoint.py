"""A checkpoint is a Hugging Face folder: config.json, model.safetensors, tokenizer, labels."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from kbert.errors import InputError
from kbert.hub import CONFIG, find_folder, read_settings, write_json
from kbert.text.tokenizer import Tokenizer
from kbert.weights import foreign, formats, lora, names, safetensors, torch_pickle

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


@dataclass
class Contents:
    """What a folder holds, before a model is made of it, in Hugging Face's terms.

    Attributes:
        settings: `config.json`.
        tokenizer: text → token ids.
        tensors: reads the weights, Hugging Face's tensor name → array.
        model_files: file name → contents of SentencePiece's *.model, which tokenizer.json repeats.
        left_out: names in the folder that are known and no weights of the model.
        notes: sentences on what is not the same in the format the folder is in.
    """

    settings: dict
    tokenizer: Tokenizer
    tensors: Callable[[], dict[str, np.ndarray]]
    model_files: dict[str, bytes] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load(
    path: str | os.PathLike,
    dtype: str | None = None,
    dropout: float | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
) -> Checkpoint:
    """Load a checkpoint folder, or a model of the Hugging Face hub.

    A folder may also be one of Google's BERT (bert_config.json, bert_model.ckpt) or a preset of
    keras-hub.

    Args:
        path: a folder, or a hub name ("bert-base-uncased", "org/name").
        dtype: a Keras dtype policy for the encoder: "float32", "mixed_bfloat16" (training) or
            "bfloat16" (inference only); default Keras's own.
        dropout: probability of dropping a value, everywhere in the encoder; default what the
            checkpoint's config says.
        revision: of the hub's model.
        allow_pickle: whether `pytorch_model.bin` is read, through PyTorch's weights_only reader,
            if there is one.

    Returns:
        A `Checkpoint`.

    Raises:
        InputError: the folder lacks config, weights or vocabulary; the model type is unknown; the
            weights do not fit, with all unknown, missing and misshapen tensors in one list.
    """
    folder = find_folder(path, revision, allow_pickle)
    return build(folder, read(folder, allow_pickle), dtype, dropout)


def read(folder: Path, allow_pickle: bool = False) -> Contents:
    """What a folder of any format holds.

    Raises:
        InputError: a file is missing or broken; the model type is unknown.
    """
    if found := formats.read(folder):
        architecture = architecture_of(folder, found.settings)
        head = foreign.head_of(found.arrays)
        tensors = foreign.to_hugging_face(found.arrays, architecture, head)
        settings = {**found.settings, "architectures": [class_name(found.settings, head)]}
        tokenizer = _staged_tokenizer(folder, found.tokenizer_files)
        files = {n: data for n, data in found.tokenizer_files.items() if n.endswith(".model")}
        return Contents(settings, tokenizer, lambda: tensors, files, found.left_out, found.notes)
    settings = read_settings(folder)
    if "model_type" not in settings:
        settings |= _told_by_weights(folder)
    architecture_of(folder, settings)

    def tensors():
        if allow_pickle and (files := torch_pickle.weight_files(folder)):
            return torch_pickle.read(files)
        return safetensors.read(safetensors.weight_files(folder))

    files = {file.name: file.read_bytes() for file in folder.glob("*.model")}
    return Contents(settings, Tokenizer.from_folder(folder), tensors, files)


def build(
    folder: Path, contents: Contents, dtype: str | None = None, dropout: float | None = None
) -> Checkpoint:
    """The encoder of a folder's contents; arguments and errors as of `load`."""
    settings, tokenizer = contents.settings, contents.tokenizer
    architecture = architecture_of(folder, settings)
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
    tensors = contents.tensors()
    encoder = architecture.encoder(config, dtype)
    assign(encoder, tensors, architecture, folder)
    tokenizer.with_segments = "segment_ids" in encoder.input
    return Checkpoint(encoder, tokenizer, config, settings)


def save(folder: str | os.PathLike, model: "keras.Model", settings: dict, tokenizer: Tokenizer):
    """Write a Hugging Face folder: config, weights, tokenizer files, each beside, then renamed.

    Args:
        folder: is made if it is not there.
        model: an encoder, or an encoder with a head. Of one that `load` gave the pooler goes along,
            which transformers' bare model has, too; a warning tells of other heads' weights.
        settings: `config.json`'s contents, with the head's labels (`task.settings(…)`). What its
            entry "kbert" has under "files", path → contents, is written beside, as JSON.
        tokenizer: text → token ids.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    architecture = architecture_of(folder, settings)
    ours = dict(settings.get("kbert", {}))
    if is_bare := hasattr(model, "head_weights"):
        ours = {}
        settings = {key: value for key, value in settings.items() if key != "kbert"}
    beside, head = ours.pop("files", {}), ours.get("head")
    tensors = tensors_of(model, architecture, head)
    if is_bare:
        tensors |= foreign.bare_tensors(model.head_weights, architecture)
    safetensors.write(folder / safetensors.WEIGHTS, tensors)
    tokenizer.save(folder)
    for file, content in beside.items():
        (folder / file).parent.mkdir(exist_ok=True)
        write_json(folder / file, content)
    own = {"kbert": ours} if ours else {}
    is_own = any(name.startswith(f"{names.OURS}.") for name in tensors)
    name = class_name(settings, None if is_own else head)
    write_json(folder / CONFIG, {**settings, "architectures": [name], **own})


def tensors_of(
    model: "keras.Model", architecture: ModuleType, head: str | None = None
) -> dict[str, np.ndarray]:
    """A model's weights under Hugging Face's names: the other way of `assign`.

    Args:
        model: an encoder, or one with a head.
        architecture: its file of models/.
        head: a name of the architecture's HEADS. Of another, or None, or where that head is made
            of other parts, the encoder goes under the bare model's names, and the head's weights,
            if there are any, under kbert's own.

    Raises:
        InputError: the model was handed positions that `config.json` has no words for.
    """
    _check_positions(model, architecture)
    published = architecture.HEADS.get(head)
    arrays, ours = lora.merged(model, names.take(model.weights)), {}
    for layer in model.layers:  # a fixed scale goes into the weights of the layer before it
        arrays = layer.folded(arrays) if hasattr(layer, "folded") else arrays
    # What ALBERT was pretrained on has a name of its own, on BERT that name is another head's.
    if not all(map(names.known((*architecture.NAMES, *(published or ()))), arrays)):
        published = None
    rows = (*architecture.NAMES, *(published or ()))
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


def _told_by_weights(folder: Path) -> dict[str, str]:
    """The model type that a model with a head has in its weights' names: "bert.encoder…".

    Folders of before 2020 have none in config.json.
    """
    files = safetensors.find(folder, safetensors.WEIGHTS, safetensors.INDEX)
    first = {name.partition(".")[0] for name in safetensors.names(files)}
    told = first & ARCHITECTURES.keys()
    return {"model_type": told.pop()} if len(told) == 1 else {}


def architecture_of(folder: Path, settings: dict) -> ModuleType:
    model_type = settings.get("model_type")
    if model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise InputError(
            f"{folder / CONFIG}: model_type is {model_type!r}; this version knows {known}."
        )
    architecture = import_module(f"kbert.models.{ARCHITECTURES[model_type]}")
    # Where one architecture's files have several forms, the settings tell which.
    return architecture.variant(settings) if hasattr(architecture, "variant") else architecture


def class_name(settings: dict, head: str | None) -> str:
    """What transformers calls the model with a head, or the bare one where it has no such head."""
    architecture = architecture_of(Path(), settings)
    stem = architecture.STEM
    stem = stem(settings) if callable(stem) else stem
    return f"{stem}For{head}" if head in architecture.HEADS else f"{stem}Model"


def _staged_tokenizer(folder: Path, files: Mapping[str, bytes]) -> Tokenizer:
    """The tokenizer of files that another format keeps under other names."""
    with TemporaryDirectory() as staged:
        for name, content in files.items():
            (Path(staged) / name).write_bytes(content)
        try:
            return Tokenizer.from_folder(staged)
        except InputError as error:
            raise InputError(str(error).replace(staged, str(folder))) from error


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
