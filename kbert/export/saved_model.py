"""A model, its task and its tokenizer as one TensorFlow graph: raw text in, answers out.

    serving_default   text: string (B,), or what the task asks  → the task's answers
    tokens            token_ids: int32 (B, T), padded           → the same
    …                 see `signatures`

Nothing of kbert or Keras is needed to load it. Export always runs on the TensorFlow backend; a
model of JAX or PyTorch is handed to a process of its own that does.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import keras

import kbert
from kbert import checkpoint, loading, tasks
from kbert.errors import InputError
from kbert.export import graph, model_card, signatures, versions, warm_up
from kbert.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Settings:
    """How a version is written.

    Attributes:
        signatures: names; None for all but `attention`, see `signatures.check_asked`.
        keep: how many versions stay, at least the newest and the one before it, which a server
            answers from until it has loaded the newest; None for all.
        version: its number; None for one above the highest there.
        facts: what the model card tells of the training, see `model_card.facts_of_run`.
    """

    signatures: Sequence[str] | None = None
    keep: int | None = None
    version: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name, least in (("keep", 2), ("version", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                why = " (a server answers from the one before the newest)" if least == 2 else ""
                raise InputError(f"{name}: expected {least} or more{why}, came {value}.")


def export_run(run, folder, dtype: str = "float32", max_length: int | None = None, **settings):
    """Write the next version of a run folder's model; see `export`.

    Args:
        run: a run folder, or another checkpoint with a task.
        folder: `saved_models/NAME`.
        dtype: of the served weights, "float32" or "bfloat16".
        max_length: tokens of a row, if not those of the training.
        settings: those of `Settings`, but for the facts.

    Raises:
        InputError: as `export`; the model has not so many positions.
    """
    versions.check(Path(folder), settings.get("version"))
    loaded = checkpoint.load(run, dtype=dtype)
    task, model = loading.task_model(loaded, run)
    task = replace(task, max_length=max_length or task.max_length)
    if task.max_length > loaded.config.max_length:
        raise InputError(
            f"max_length {task.max_length} is above the {loaded.config.max_length} positions of "
            f"the model. Choose {loaded.config.max_length} or less."
        )
    facts = {"weights": dtype, **model_card.facts_of_run(run)}
    return export(model, task, loaded.tokenizer, folder, Settings(**settings, facts=facts))


def export(
    model: keras.Model,
    task,
    tokenizer: Tokenizer,
    folder: str | os.PathLike,
    settings: Settings | None = None,
) -> Path:
    """Write the next version of a SavedModel under `folder`, TF Serving's layout.

    Args:
        model: functional, features → logits; on any backend.
        task: gives the packer and the served answers.
        tokenizer: text → token ids; its TensorFlow form goes into the graph.
        folder: `saved_models/NAME`; the version is one above the highest there.
        settings: which signatures, and so on.

    Returns:
        The version's folder. It is written beside and renamed, as the server polls for versions.

    Raises:
        InputError: the folder has other things than whole versions, or the version that is asked;
            there is no such signature; the tokenizer has no form in the graph.
    """
    folder, settings = Path(folder), settings or Settings()
    versions.check(folder, settings.version)
    if keras.backend.backend() != "tensorflow":
        return _export_elsewhere(model, task, tokenizer, folder, settings)
    module, served = _served(model, task, tokenizer, settings.signatures)
    with versions.beside(folder) as beside:
        _write(beside, module, served)
        model_card.write(beside, model, task, served, settings.facts)
        tokenizer.save(beside / "assets")
        asked = warm_up.requests(served[signatures.DEFAULT], task, tokenizer)
        warm_up.write(beside, folder.resolve().name, asked)
        version = versions.publish(beside, folder, settings.version)
    if settings.keep:
        versions.remove_old(folder, settings.keep)
    return version


def _served(model, task, tokenizer, asked=None):
    """The module to save, and its signatures by name."""
    import tensorflow as tf

    from kbert.text.in_graph import in_graph

    module = tf.Module()
    module.tokenizer = in_graph(tokenizer)
    has = signatures.all_signatures(task, None, module.tokenizer, tokenizer)
    names = signatures.check_asked(asked, list(has))
    function, module.model = graph.served_function(model, signatures.ATTENTION in names)
    module.function = function
    found = signatures.all_signatures(task, function, module.tokenizer, tokenizer)
    return module, {name: found[name] for name in names}


def _write(folder: Path, module, served):
    import tensorflow as tf

    tf.saved_model.save(module, str(folder), signatures=served)
    signatures.set_methods(folder)
    (folder / "assets").mkdir(exist_ok=True)


def _export_elsewhere(model, task, tokenizer, folder: Path, settings: Settings) -> Path:
    """Hand the model to a TensorFlow process as a `.keras` file, in float32 or its own dtype."""
    with tempfile.TemporaryDirectory() as handed:
        model.save(Path(handed, "model.keras"))
        tokenizer.save(handed)
        told = {"task": task.settings({}), "settings": asdict(settings)}
        Path(handed, "told.json").write_text(json.dumps(told), "utf-8")
        answer = Path(handed, "answer.json")
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        command = [sys.executable, "-m", "kbert.export.saved_model", handed, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        result = json.loads(answer.read_text("utf-8")) if answer.exists() else {}
    if "refused" in result:
        raise InputError(result["refused"])
    if done.returncode:
        raise RuntimeError(f"the export on TensorFlow failed:\n{done.stderr}")
    return Path(result["version"])


def _main(handed: str, folder: str):
    for package in ("heads", "layers", "models"):  # which register what a .keras file may hold
        for file in (Path(kbert.__file__).parent / package).glob("[!_]*.py"):
            import_module(f"kbert.{package}.{file.stem}")
    model = keras.saving.load_model(Path(handed, "model.keras"), compile=False)
    told = json.loads(Path(handed, "told.json").read_text("utf-8"))
    task, settings = tasks.from_settings(told["task"]), Settings(**told["settings"])
    try:
        tokenizer = Tokenizer.from_folder(handed)
        tokenizer.with_segments = "segment_ids" in model.input
        result = {"version": str(export(model, task, tokenizer, folder, settings))}
    except InputError as error:
        result = {"refused": str(error)}
    Path(handed, "answer.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
