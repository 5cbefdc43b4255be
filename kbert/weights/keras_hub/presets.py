"""A backbone, task or preset folder of keras-hub ⇄ our arrays and settings.

A preset folder has config.json (the backbone, as Keras serialises it), model.weights.h5, and with a
task task.json and task.weights.h5; tokenizer.json and assets/ hold the vocabulary. What
`config.json` of Hugging Face says beyond (labels, say) is kept beside in hugging_face.json, which
keras-hub does not look at.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kbert.errors import InputError
from kbert.weights import foreign, names
from kbert.weights.foreign import Foreign
from kbert.weights.keras_hub import tokenizers
from kbert.weights.keras_hub.tables import KINDS, MASKED_LM, MASKED_LM_EPSILON, Kind

CONFIG, TASK, BEYOND = "config.json", "task.json", "hugging_face.json"
GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh")
TASKS = {"SequenceClassification": "TextClassifier", "MaskedLM": "MaskedLM"}


def is_keras_hub(folder: Path) -> bool:
    """Whether a folder is a preset of keras-hub."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        return "class_name" in config and "registered_name" in config
    except (OSError, ValueError, TypeError):
        return False


def read(folder: Path) -> Foreign:
    """What a preset folder holds.

    Raises:
        InputError: its backbone or task is not known here, or keras-hub cannot open it.
    """
    import keras_hub

    names_there = {file: _class_name(folder / file) for file in (CONFIG, TASK)}
    backbone, task = names_there[CONFIG], names_there[TASK]
    known = {f"{stem}Backbone" for stem in KINDS}
    tasks = {f"{stem}{name}" for stem in KINDS for name in TASKS.values()}
    if backbone not in known or task not in {None, *tasks}:
        raise InputError(
            f"{folder}: it holds a {task or backbone} of keras-hub; this version knows "
            f"{', '.join(sorted(known))}, and of their tasks {' and '.join(TASKS.values())}."
        )
    settings = {} if task is None else {"preprocessor": None, "compile": False}
    try:
        model = getattr(keras_hub.models, task or backbone).from_preset(
            os.fspath(folder.resolve()), dtype="float32", **settings
        )
    except Exception as error:  # Keras and h5py have an error for each way of being broken
        raise InputError(f"{folder}: keras-hub cannot open it ({error}).") from error
    found = from_model(model)
    if (folder / BEYOND).is_file():
        beyond = json.loads((folder / BEYOND).read_text("utf-8"))
        kind = _kind(backbone)
        sizes = {"model_type", *kind.arguments.values(), *kind.more}
        found.settings |= {key: value for key, value in beyond.items() if key not in sizes}
    found.tokenizer_files = tokenizers.read(folder, _kind(backbone))
    found.notes += [tokenizers.ALBERTS_CASE] if _kind(backbone).stem == "Albert" else []
    return found


def from_model(model) -> Foreign:
    """What a backbone of keras-hub, or a task with its backbone, holds; its tokenizer apart.

    Raises:
        InputError: it is not known here, or a variable is not.
    """
    backbone = getattr(model, "backbone", model)
    kind = _kind(type(backbone).__name__)
    config = backbone.get_config()
    settings = {"model_type": kind.model_type, **kind.more, **kind.fixed}
    settings |= {key: config[argument] for argument, key in kind.arguments.items()}
    settings["attention_" + ("dropout" if "dropout" in settings else "probs_dropout_prob")] = (
        config["dropout"]
    )
    values = names.take(model.weights)
    rows = (*kind.table, *kind.classifier, *(MASKED_LM if kind.transform_activation else ()))
    if model is backbone:
        rows = kind.table
    kept = {path: array for path, array in values.items() if path not in kind.random}
    matched = names.from_checkpoint(kept, rows, f"{backbone.name}/")
    if matched.unknown:
        raise InputError(
            f"{type(model).__name__} has variables that are not known here: {matched.unknown}."
        )
    arrays = {path: _flat(path, array) for path, array in matched.arrays.items()}
    if kind.first_position:
        positions = arrays["position_embedding/embeddings"]
        unused = np.zeros((kind.first_position, positions.shape[1]), np.float32)
        arrays["position_embedding/embeddings"] = np.concatenate([unused, positions])
        arrays["segment_embedding/embeddings"] = unused[:1]
        settings["max_position_embeddings"] += kind.first_position
    found = Foreign(settings, arrays, left_out=[p for p in kind.random if p in values])
    if "classifier/bias" in arrays:
        labels = range(len(arrays["classifier/bias"]))
        settings["id2label"] = {str(i): f"LABEL_{i}" for i in labels}
    if "masked_lm_bias/bias" in arrays:
        found.notes += _notes_on_masked_lm(kind, settings)
    return found


def to_model(settings: dict, arrays: Mapping[str, np.ndarray], head: str | None, **task_settings):
    """The backbone of keras-hub with these weights, or its task with a head.

    Args:
        settings: `config.json`'s contents, with every size.
        arrays: our variable path → array, those of the head too.
        head: its name, "MaskedLM"; None if there is none.
        task_settings: more arguments of the task's class: `preprocessor`.

    Returns:
        The model, and notes on where it computes otherwise.

    Raises:
        InputError: keras-hub has no such backbone, or no place for some weights.
    """
    import keras_hub

    kind = _kind_of(settings)
    notes = _notes(kind, settings)
    rows = (*kind.table, *_task_rows(kind, head))
    arrays = _with_their_positions(kind, settings, arrays)
    is_known = names.known(rows)
    foreign.refuse("keras-hub", arrays, [path for path in arrays if not is_known(path)])
    config = {argument: settings[key] for argument, key in kind.arguments.items()}
    if kind.first_position:
        config["max_sequence_length"] = len(arrays["position_embedding/embeddings"])
    try:
        model = backbone = getattr(keras_hub.models, f"{kind.stem}Backbone")(
            **config, dtype="float32"
        )
    except ValueError as error:
        raise InputError(f"keras-hub cannot build a {kind.stem}Backbone of it: {error}") from error
    if task := _task_rows(kind, head) and TASKS[head]:
        if task == "TextClassifier":
            task_settings["num_classes"] = len(arrays["classifier/bias"])
        model = getattr(keras_hub.models, kind.stem + task)(backbone=backbone, **task_settings)
        notes += _notes_on_masked_lm(kind, settings) if task == "MaskedLM" else []
    theirs = names.to_checkpoint(arrays, rows, "")
    for variable in model.weights:
        path = variable.path.removeprefix(f"{backbone.name}/")
        if path in theirs:
            variable.assign(theirs[path].reshape(variable.shape))
        else:
            notes.append(f"keras-hub's {path} has no counterpart here: it is new.")
    return model, notes


def write(folder: Path, settings: dict, arrays, head: str | None, tokenizer_files) -> list[str]:
    """Write a preset folder.

    Args:
        folder: is there already.
        settings, arrays, head: as in `to_model`.
        tokenizer_files: Hugging Face's file name → contents.

    Returns:
        Notes on what is not the same in keras-hub.

    Raises:
        InputError: as `to_model`.
    """
    import keras_hub

    kind = _kind_of(settings)
    tokenizer, told = tokenizers.make(kind, tokenizer_files)
    preprocessor = None
    if tokenizer is not None and (task := TASKS.get(head)) and _task_rows(kind, head):
        preprocessor = getattr(keras_hub.models, f"{kind.stem}{task}Preprocessor")(
            tokenizer, sequence_length=min(settings["max_position_embeddings"], 512)
        )
    model, notes = to_model(settings, arrays, head, preprocessor=preprocessor)
    model.save_to_preset(os.fspath(folder))
    if tokenizer is not None and preprocessor is None:
        tokenizer.save_to_preset(os.fspath(folder))
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / BEYOND).write_text(text, "utf-8")
    return notes + told


def _class_name(file: Path) -> str | None:
    """The class that one of a preset's JSON files tells Keras to make."""
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text("utf-8"))["registered_name"].split(">")[-1]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not a serialised object of keras-hub ({error}).") from error


def _kind(backbone: str) -> Kind:
    """The kind of a backbone's class name.

    Raises:
        InputError: it is none of those known here.
    """
    stem = backbone.removesuffix("Backbone")
    if stem not in KINDS or stem == backbone:
        known = ", ".join(f"{stem}Backbone" for stem in KINDS)
        raise InputError(f"expected one of keras-hub's {known}; got a {backbone}.")
    return KINDS[stem]


def _kind_of(settings: dict) -> Kind:
    for kind in KINDS.values():
        if kind.model_type == settings["model_type"]:
            return kind
    known = ", ".join(kind.model_type for kind in KINDS.values())
    raise InputError(
        f"model_type is {settings['model_type']!r}; of keras-hub this version knows {known}."
    )


def _task_rows(kind: Kind, head: str | None):
    """Rows of the task for a head; none where keras-hub has no such task."""
    if head == "SequenceClassification":
        return kind.classifier
    return MASKED_LM if head == "MaskedLM" and kind.transform_activation else ()


def _flat(path: str, array: np.ndarray) -> np.ndarray:
    """keras-hub's H and K side by side."""
    if path.endswith("attention/output/kernel"):
        return array.reshape(-1, array.shape[-1])
    if "/attention/" in path:
        return array.reshape(len(array), -1) if path.endswith("kernel") else array.reshape(-1)
    return array


def _with_their_positions(kind: Kind, settings: dict, arrays) -> dict:
    """keras-hub's RoBERTa has no segments: the one that all tokens have goes into the positions."""
    arrays = dict(arrays)
    if kind.first_position:
        first = settings.get("pad_token_id", 1) + 1
        segment = arrays.pop("segment_embedding/embeddings")[0]
        positions = arrays["position_embedding/embeddings"]
        arrays["position_embedding/embeddings"] = positions[first:] + segment
    return arrays


def _notes(kind: Kind, settings: dict) -> list[str]:
    """Where a backbone computes otherwise than `config.json` says."""
    notes = []
    for key, theirs in kind.fixed.items():
        ours = settings[key]
        if ours == theirs or (key == "pos_att_type" and {*_terms(ours)} == {"c2p", "p2c"}):
            continue
        if key != "layer_norm_eps" and (ours not in GELUS or theirs not in GELUS):
            raise InputError(f"{key} is {ours!r}; keras-hub's {kind.stem} has {theirs!r} only.")
        notes.append(f"{key} is {ours} here, and {theirs} in keras-hub: outputs differ slightly.")
    distance, length = (
        settings.get("max_relative_positions", -1),
        settings["max_position_embeddings"],
    )
    if distance not in (-1, length):
        raise InputError(
            f"max_relative_positions is {distance}; keras-hub's {kind.stem} has "
            f"max_position_embeddings, {length}, only."
        )
    dropout = settings[kind.arguments["dropout"]]
    other = settings.get("attention_probs_dropout_prob", settings.get("attention_dropout"))
    if other != dropout:
        notes.append(f"keras-hub drops scores of attention with {dropout}, not {other}.")
    return notes


def _terms(pos_att_type) -> list[str]:
    """DeBERTa's "p2c|c2p", or a list."""
    return pos_att_type.split("|") if isinstance(pos_att_type, str) else pos_att_type or []


def _notes_on_masked_lm(kind: Kind, settings: dict) -> list[str]:
    ours = settings.get("hidden_act", settings.get("activation"))
    theirs = kind.transform_activation
    epsilon = settings.get("layer_norm_eps", 1e-12)
    if (ours, epsilon) == (theirs, MASKED_LM_EPSILON):
        return []
    return [
        f"The masked-LM head has activation {ours} and epsilon {epsilon} here, {theirs} and "
        f"{MASKED_LM_EPSILON} in keras-hub: logits differ slightly."
    ]
