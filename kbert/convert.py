"""A checkpoint from one format into another: Hugging Face's, Google's of TensorFlow 1, Keras's."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kbert import checkpoint
from kbert.errors import InputError
from kbert.hub import find_folder
from kbert.weights import foreign, formats, names, safetensors, tf_checkpoint
from kbert.weights.keras_hub import presets

# What one `.keras` file can hold: a head's name → its file of heads/ and the function in it.
HEAD_BUILDERS = {
    "SequenceClassification": ("classification", "classification"),
    "TokenClassification": ("tokens", "token_classification"),
    "QuestionAnswering": ("span", "span"),
    "MaskedLM": ("masked_lm", "masked_lm"),
    "NextSentencePrediction": ("next_sentence", "next_sentence"),
}


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        source_format: of `formats.format_of`.
        class_name: what transformers calls the model that was written.
        left_out: names in the source that are known and no weights of the model.
        dropped: our variable paths of the head that was to be dropped.
        not_copied: names of the source's other files.
        notes: sentences on what is not the same in the new format.
    """

    source_format: str
    class_name: str
    left_out: list[str]
    dropped: list[str]
    not_copied: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass
class Holdings:
    """A loaded checkpoint's weights, with those of its one head.

    Attributes:
        loaded: the checkpoint.
        settings: its `config.json`, with every size.
        arrays: our variable path → array, of the encoder and the head.
        head: the head's name in the tables of models/, or None.
        own: variable path → array of a head that only kbert has.
        model_files: file name → contents of SentencePiece's *.model.
    """

    loaded: checkpoint.Checkpoint
    settings: dict
    arrays: dict[str, np.ndarray]
    head: str | None
    own: dict[str, np.ndarray]
    model_files: dict[str, bytes]

    def tokenizer_files(self) -> dict[str, bytes]:
        with TemporaryDirectory() as folder:
            self.loaded.tokenizer.save(folder)
            files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
        return files | self.model_files


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    to: str,
    *,
    allow_pickle: bool = False,
    drop_head: bool = False,
    overwrite: bool = False,
) -> Report:
    """Write a checkpoint in another format: beside `target` first, then renamed.

    Args:
        source: a folder of any of the formats, or a hub name.
        target: the folder to make; for `to="keras"` a preset folder of keras-hub, or with the
            ending .keras one file of Keras with kbert's own model.
        to: "hugging-face", "google" or "keras".
        allow_pickle: see `checkpoint.load`.
        drop_head: whether the head's weights are left behind.
        overwrite: whether a `target` that is there is replaced.

    Returns:
        What was done, with all that is not in `target` named.

    Raises:
        InputError: the source cannot be loaded whole, or the format has no place for some of its
            weights; nothing is written then. Or `target` is there.
    """
    writers: dict[str, Callable[[Path, Holdings], list[str]]] = {
        formats.HUGGING_FACE: _write_hugging_face,
        formats.GOOGLE: _write_google,
        formats.KERAS: _write_keras,
    }
    if to not in writers:
        raise InputError(f"there is no format {to!r}; there are {', '.join(writers)}.")
    source, target = find_folder(source, allow_pickle=allow_pickle), Path(target)
    _check_target(source, target, overwrite)
    contents = checkpoint.read(source, allow_pickle)
    held, dropped = _holdings(source, contents, drop_head)
    class_name = checkpoint.class_name(held.settings, held.head)
    report = Report(
        formats.format_of(source), class_name, contents.left_out, dropped, _others(source)
    )
    is_file = to == formats.KERAS and target.suffix == ".keras"
    beside = target.with_name(f"{target.name}.partial{'.keras' if is_file else ''}")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(beside)
    try:
        write = _write_file if is_file else writers[to]
        report.notes = contents.notes + write(beside, held)
        if target.exists():
            old = target.with_name(f"{target.name}.old")
            _remove(old)
            os.rename(target, old)
            os.rename(beside, target)
            _remove(old)
        else:
            os.rename(beside, target)
    finally:
        _remove(beside)
    return report


def _check_target(source: Path, target: Path, overwrite: bool):
    inside = target.resolve() in (source.resolve(), *source.resolve().parents)
    if inside:
        raise InputError(f"{target}: {source} is read from there. Choose another place.")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists. Choose another place, or pass --overwrite.")


def _holdings(folder: Path, contents: checkpoint.Contents, drop_head: bool):
    """What is to be written, and the variable paths that are dropped."""
    loaded = checkpoint.build(folder, contents, "float32")
    architecture = checkpoint.architecture_of(folder, loaded.settings)
    heads = dict(loaded.encoder.head_weights)
    own = heads.pop(names.OURS)
    bare = foreign.bare_arrays(heads, architecture)
    head, arrays, dropped = None, {}, []
    if drop_head:
        dropped = {path for arrays in (*heads.values(), own) for path in arrays} - {*bare}
        arrays, own = bare, {}
    else:
        head, arrays = _one_head(folder, loaded.settings, heads, bare)
    settings = {**architecture.config_to_hugging_face(loaded.config), **loaded.settings}
    if drop_head or not own:
        settings["architectures"] = [checkpoint.class_name(settings, head)]
    if drop_head:
        settings.pop("kbert", None)
    arrays = {**names.take(loaded.encoder.weights), **arrays}
    held = Holdings(loaded, settings, arrays, head, own, contents.model_files)
    return held, sorted(dropped)


def _one_head(folder: Path, settings: dict, heads: dict, bare: dict):
    """The head that a folder's weights make up, and all of its arrays and the pooler's."""
    stem = checkpoint.class_name(settings, None).removesuffix("Model")
    named = (settings.get("architectures") or [""])[0].removeprefix(f"{stem}For")
    smallest_first = sorted(heads, key=lambda head: len(heads[head]))
    for head in [named] if named in heads else [None, *smallest_first]:
        arrays = {**bare, **heads.get(head, {})}
        if all(
            arrays.get(path) is array or np.array_equal(arrays.get(path), array)
            for others in heads.values()
            for path, array in others.items()
        ):
            return head, arrays
    parts = sorted({path for arrays in heads.values() for path in arrays})
    raise InputError(
        f"{folder}: expected the weights of one head of a {stem}, came {', '.join(parts)}. Convert "
        "the encoder alone: --drop-head."
    )


def _write_hugging_face(folder: Path, held: Holdings) -> list[str]:
    architecture = checkpoint.architecture_of(folder, held.settings)
    tensors = foreign.to_hugging_face(held.arrays, architecture, held.head)
    own = {f"{names.OURS}.{p.replace('/', '.')}": array for p, array in held.own.items()}
    folder.mkdir()
    safetensors.write(folder / safetensors.WEIGHTS, {**tensors, **own})
    _write_files(folder, held.tokenizer_files())
    checkpoint.write_json(folder / checkpoint.CONFIG, held.settings)
    return []


def _write_google(folder: Path, held: Holdings) -> list[str]:
    foreign.refuse("Google's format", held.own, held.own)
    folder.mkdir()
    tf_checkpoint.write(folder, held.settings, held.arrays, held.head)
    files = held.tokenizer_files()
    _write_files(folder, files)
    if tf_checkpoint.VOCABULARY in files:
        return []
    return ["Google's code has WordPiece only: it cannot read this tokenizer; kbert can."]


def _write_keras(folder: Path, held: Holdings) -> list[str]:
    foreign.refuse("keras-hub", held.own, held.own)
    folder.mkdir()
    files = held.tokenizer_files()
    return presets.write(folder, held.settings, held.arrays, held.head, files)


def _write_file(file: Path, held: Holdings) -> list[str]:
    """One .keras file: the functional model, which Keras opens where kbert is imported."""
    from importlib import import_module

    import keras

    model, head, homes = held.loaded.encoder, held.head, []
    is_known = {weight.path for weight in model.weights}
    of_head = [path for path in held.arrays if path not in is_known]
    if held.own or (head is not None and head not in HEAD_BUILDERS):
        foreign.refuse("a .keras file", {**held.arrays, **held.own}, [*of_head, *held.own])
    if head is not None:
        name, function = HEAD_BUILDERS[head]
        labels = [len(held.arrays["classifier/bias"])] if "classifier/bias" in held.arrays else []
        homes = [f"kbert.heads.{name}"]
        model = getattr(import_module(homes[0]), function)(model, *labels)
    elif of_head:
        homes = ["kbert.heads.pooling"]
        vector = import_module(homes[0]).pooled(model, "pooler")
        model = keras.Model(model.input, {**model.output, "pooled": vector}, name=model.name)
    paths = {weight.path for weight in model.weights}
    foreign.refuse(
        "a .keras file", held.arrays, [path for path in held.arrays if path not in paths]
    )
    names.assign(model.weights, held.arrays)
    model.save(file)
    architecture = checkpoint.architecture_of(file, held.settings).__name__
    return [
        "A .keras file has no vocabulary and no labels: keep those of the source with it.",
        f"Before keras.models.load_model opens it: import {', '.join([architecture, *homes])}",
    ]


def _write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _others(folder: Path) -> list[str]:
    """A folder's files and folders that are neither config, weights nor tokenizer."""
    known = {
        "config.json", "bert_config.json", "vocab.txt", "vocab.json", "merges.txt", "assets",
        "added_tokens.json", "special_tokens_map.json", "checkpoint", "metadata.json", "task.json",
        "preprocessor.json", presets.BEYOND,
    }  # fmt: skip
    endings = (
        ".safetensors",
        ".safetensors.index.json",
        ".model",
        ".weights.h5",
        ".index",
        ".meta",
    )
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in known
        and not path.name.endswith(endings)
        and not path.name.startswith(("pytorch_model", "tokenizer", "model.weights"))
        and ".data-" not in path.name
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
