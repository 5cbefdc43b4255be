"""A run's folder from its first byte to its last: made as `<output>.partial`, renamed when whole.

While a run trains, its partial folder holds settings.json and the state (`state.py`). A run that
was interrupted and left a usable folder keeps its state there, too.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kbert.errors import InputError
from kbert.hub import write_json
from kbert.training import state

SETTINGS, METRICS = "settings.json", "metrics.json"


Records = Sequence[Mapping[str, Any]]


def settings_of(source, recipe, task, train: Records, validation, tokenizer) -> dict:
    """What makes a run this run and no other, for settings.json."""
    told = {
        "checkpoint": str(source),
        **asdict(recipe),
        "task": {"name": task.name, **vars(task)},
        "data": _data(train),
        "validation": validation and _data(validation),
        "vocabulary": {
            "pieces": tokenizer.vocab_size,
            "sha256": _digest([tokenizer.rust.to_str()]),
        },
    }
    return json.loads(json.dumps(told, default=str))  # as a file gives them back


def _data(records: Records) -> dict:
    digest = _digest(json.dumps(record, default=str) for record in records)
    return {"records": len(records), "sha256": digest}


def _digest(texts) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return found.hexdigest()


def partial_of(output: Path) -> Path:
    """The folder in which a run is made."""
    return output.with_name(output.name + ".partial")


def check(output: Path, overwrite: bool, resume: bool) -> None:
    """Raises an InputError if a run may not begin, or not go on, in this folder."""
    partial = partial_of(output)
    if state.is_in(partial):
        if not (overwrite or resume):
            raise InputError(
                f"{partial} holds a run that was broken off: go on with it (--resume), or start "
                "anew (--overwrite)."
            )
    elif resume and state.is_in(output):
        return  # an interrupted run, which goes on
    elif resume and (output / SETTINGS).is_file():
        raise InputError(
            f"{output}: nothing to go on with, the run is finished. Choose another folder to "
            "train a new one."
        )
    if not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"{output}: expected a folder, it is a file.")
    if not overwrite:
        raise InputError(f"{output} exists. Choose another folder, or pass --overwrite.")
    if any(output.iterdir()) and not (output / SETTINGS).is_file():
        raise InputError(
            f"{output} exists and is no run folder (it has no {SETTINGS}): it is not overwritten. "
            "Choose another folder."
        )


def begin(output: Path, settings: dict, resume: bool) -> tuple[Path, state.State | None]:
    """The folder to work in, and the state with which a run goes on; None for a new one.

    Raises:
        InputError: the run that is there has other settings, data or vocabulary; it stays where
            it is.
    """
    work = partial_of(output)
    if resume and state.is_in(work):
        _check_same(work, settings)
        return work, state.latest(work)
    if resume and state.is_in(output):  # an interrupted run
        _check_same(output, settings)
        shutil.rmtree(work, ignore_errors=True)
        os.rename(output, work)
        return work, state.latest(work)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_json(work / SETTINGS, settings)
    return work, None


def finish(work: Path, output: Path, metrics: dict, keep_state: bool) -> None:
    """Write the figures, and put the folder in its place; a run that was there goes then."""
    write_json(work / METRICS, metrics)
    if not keep_state:
        shutil.rmtree(work / state.FOLDER, ignore_errors=True)
    if not output.exists():
        os.rename(work, output)
        return
    old = output.with_name(output.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    os.rename(output, old)
    os.rename(work, output)
    shutil.rmtree(old)


def _check_same(folder: Path, after: dict) -> None:
    before = json.loads((folder / SETTINGS).read_text("utf-8"))
    different = [
        f"{name} was {_shown(before.get(name))}, is {_shown(after.get(name))}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]
    if different:
        raise InputError(
            f"{folder} was begun with other settings, so it cannot go on: {'; '.join(different)}. "
            "Give those it had, or start anew with --overwrite."
        )


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key} {str(x)[:40]}" for key, x in value.items())
