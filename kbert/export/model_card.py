"""What a version says of itself: assets/model_card.json, beside the vocabulary."""

import json
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras

from kbert.hub import write_json

FILE = "model_card.json"
PACKAGES = ("kbert", "keras", "tensorflow", "tensorflow-text")
# Of a run folder: how it was trained, and how well.
SETTINGS, METRICS = "settings.json", "metrics.json"


def facts_of_run(run: Path) -> dict[str, Any]:
    """Training data, recipe and figures of a run folder; less where it was not made by kbert."""
    settings, metrics = (_read(Path(run, name)) for name in (SETTINGS, METRICS))
    recipe = {key: x for key, x in settings.items() if key not in ("data", "task", "vocabulary")}
    return {
        "training_data": settings.get("data"),
        "vocabulary": settings.get("vocabulary"),
        "training": recipe or None,
        "metrics": metrics or None,
    }


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def write(
    folder: Path, model: keras.Model, task, signatures: Mapping[str, Callable], facts: Mapping
) -> None:
    """Write the card of a version into the assets of its folder.

    Args:
        folder: the version's.
        model: for its number of weights and its dtype.
        task: one of `kbert.tasks`.
        signatures: the served functions by name.
        facts: what else is known, as `facts_of_run` gives it.
    """
    card = {
        "task": task.name,
        "labels": getattr(task, "labels", getattr(task, "criteria", None)),
        "settings": {key: value for key, value in vars(task).items() if key != "labels"},
        "training_data": None,
        "training": None,
        "metrics": None,
        **facts,
        "model": model.name,
        "parameters": model.count_params(),
        "versions": {"python": platform.python_version(), **_versions()},
        "signatures": {name: _described(function) for name, function in signatures.items()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(folder / "assets" / FILE, card)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # kbert run from its source alone
            continue
    return found


def _described(function: Callable) -> dict[str, dict[str, dict]]:
    """Inputs and outputs of a served function: dtype and shape, None for what is open."""
    concrete = function.get_concrete_function()
    inputs = concrete.structured_input_signature
    specs = {spec.name: spec for spec in (*inputs[0], *inputs[1].values())}
    both = {"inputs": specs, "outputs": concrete.structured_outputs}
    return {
        side: {name: {"dtype": x.dtype.name, "shape": _shape(x)} for name, x in named.items()}
        for side, named in both.items()
    }


def _shape(tensor) -> list[int | None] | None:
    return None if tensor.shape.rank is None else tensor.shape.as_list()
