"""Figure 4: what the quickstart's training reached, read from its run folder."""

import csv
import json
from pathlib import Path

from benchmarks.systems import Settings, System
from benchmarks.tables import table

TITLE = "4. The quickstart's training, as its run folder tells"
ROUNDS = 1


def systems(settings: Settings) -> list[System]:
    return [System("run folder", read, given={"run": settings.run})] if settings.run else []


def report(measured) -> str:
    if not measured:
        return "No --run was given."
    turn = measured["run folder"][0]
    if "error" in turn:
        return "(nothing was read)"
    rows = [
        ("kbert: test accuracy", f"{turn['accuracy']:.2%}", "at least 92.5%"),
        ("kbert: seconds of training", f"{turn['seconds']:.0f}", "at most 240"),
        ("PyTorch through the pooler, as reported: test accuracy", "92.89%", None),
        ("PyTorch, as reported: seconds of training", "420", None),
    ]
    used = ", ".join(f"{key} {value}" for key, value in turn["settings"].items())
    return f"{table(('', 'measured', 'wanted'), rows)}\n\nSettings: {used}."


def read(settings: Settings, run: str) -> dict:
    with Path(run, "history.csv").open(encoding="utf-8", newline="") as lines:
        seconds = sum(float(line["seconds"]) for line in csv.DictReader(lines))
    metrics = json.loads(Path(run, "metrics.json").read_text("utf-8"))
    used = json.loads(Path(run, "settings.json").read_text("utf-8"))
    return {"accuracy": metrics["test"]["accuracy"], "seconds": seconds, "settings": used}
