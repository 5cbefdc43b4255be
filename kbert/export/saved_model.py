"""A model, its task and its tokenizer as one TensorFlow graph: raw text in, answers out.

    serving_default   text: string (B,), or what the task asks  → the task's answers
    tokens            token_ids: int32 (B, T), padded           → the same

Nothing of kbert or Keras is needed to load it. Export always runs on the TensorFlow backend; a
model of JAX or PyTorch is handed to a process of its own that does.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import keras

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.text.tokenizer import Tokenizer

# A graph is one protocol buffer, which ends at 2 GiB: beyond this the weights stay variables.
LARGEST_FROZEN = 1_900_000_000


def export(model: keras.Model, task, tokenizer: Tokenizer, folder: str | os.PathLike) -> Path:
    """Write the next version of a SavedModel under `folder`, TF Serving's layout.

    Args:
        model: functional, features → logits; on any backend.
        task: gives the packer and the served answers.
        tokenizer: text → token ids; its TensorFlow form goes into the graph.
        folder: `saved_models/NAME`; the version is one above the highest there.

    Returns:
        The version's folder. It is written beside and renamed, as the server polls for versions.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder for versions, it is a file.")
    if keras.backend.backend() != "tensorflow":
        return _export_elsewhere(model, task, tokenizer, folder)
    import tensorflow as tf

    module, signatures = _served(model, task, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".exporting-", dir=folder))
    try:
        tf.saved_model.save(module, str(beside), signatures=signatures)
        beside.chmod(0o755)
        version = folder / str(_next_version(folder))
        os.rename(beside, version)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return version


def _next_version(folder: Path) -> int:
    return 1 + max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=0)


def _served(model, task, tokenizer):
    import tensorflow as tf

    from kbert.inference import freeze
    from kbert.text.in_graph import in_graph

    small = sum(w.value.dtype.size * w.value.shape.num_elements() for w in model.weights)
    module = tf.Module()
    module.tokenizer = in_graph(tokenizer)
    if small < LARGEST_FROZEN:
        module.logits = freeze(model)
    else:
        module.model = model
        module.logits = tf.function(lambda **x: model(x, training=False), autograph=False)
    return module, task.signatures(module.logits, module.tokenizer, tokenizer)


def _export_elsewhere(model, task, tokenizer, folder: Path) -> Path:
    """Hand the model to a TensorFlow process as a `.keras` file, in float32 or its own dtype."""
    with tempfile.TemporaryDirectory() as handed:
        model.save(Path(handed, "model.keras"))
        tokenizer.save(handed)
        Path(handed, "task.json").write_text(json.dumps(task.settings({})), "utf-8")
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
    task = tasks.from_settings(json.loads(Path(handed, "task.json").read_text("utf-8")))
    try:
        tokenizer = Tokenizer.from_folder(handed)
        tokenizer.with_segments = "segment_ids" in model.input
        result = {"version": str(export(model, task, tokenizer, folder))}
    except InputError as error:
        result = {"refused": str(error)}
    Path(handed, "answer.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
