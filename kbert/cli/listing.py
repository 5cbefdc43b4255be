"""`kbert runs`: the runs of a folder with their figures."""

import json
from pathlib import Path

import click

from kbert.cli.shared import shown
from kbert.errors import InputError

COLUMNS = ("run", "task", "epochs", "kept", "learning rate", "test", "state")


@click.command()
@click.argument("folder", default="runs")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run.")
def runs(folder, as_json):
    """List the runs in FOLDER: task, epochs, the test's first figures, whether they ended."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder. Give the one that holds your run folders.")
    found = [told(path) for path in sorted(Path(folder).iterdir()) if is_run(path)]
    if as_json:
        for run in found:
            click.echo(json.dumps(run, ensure_ascii=False))
        return
    if not found:
        click.echo(f"{folder} holds no run folder (none has a settings.json).")
        return
    lines = [COLUMNS, *([str(run[column]) for column in COLUMNS] for run in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def is_run(path: Path) -> bool:
    return (path / "settings.json").is_file()


def told(path: Path) -> dict:
    """A run in a line. One that is not finished has no metrics.json, or one that says why."""
    settings, metrics = _read(path / "settings.json"), _read(path / "metrics.json")
    is_partial = path.suffix == ".partial"
    state = "trains, or goes on with --resume" if is_partial else metrics.get("stopped", "finished")
    return {
        "run": path.name.removesuffix(".partial"),
        "task": settings.get("task", {}).get("name", "-"),
        "epochs": settings.get("epochs", "-"),
        "kept": metrics.get("epoch") or "-",
        "learning rate": settings.get("learning_rate", "-"),
        "test": ", ".join(shown(metrics.get("test", {}))[:2]) or "-",
        "state": state,
    }


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise InputError(f"{file}: expected JSON, came what is not ({error}).") from error
