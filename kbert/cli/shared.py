"""What commands have in common: how they tell what is wrong, and what was measured."""

import contextlib
from pathlib import Path

import click

from kbert.errors import InputError


@contextlib.contextmanager
def naming(file):
    """What is wrong with records is told with the name of their file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def run_folder(run) -> Path:
    """The path of a run folder, which must be there."""
    if not Path(run).is_dir():
        raise InputError(f"{run}: no such run folder.")
    return Path(run)


# Figures that are shares of one, told in percent.
SHARES = ("accuracy", "f1", "precision", "recall", "exact_match")


def show_scores(figures: dict, name):
    """One line: the figures, and of how many examples; one more for each part that has its own."""
    click.echo(f"{name}: {', '.join(shown(figures))}, {figures['examples']:,} examples")
    for parts in figures.values():
        if isinstance(parts, dict):
            for part, its_figures in parts.items():
                show_scores(its_figures, f"  {part}")


def shown(figures: dict) -> list[str]:
    """The figures themselves, each with its name."""
    return [
        f"{words(key)} " + (f"{value:.2%}" if key.endswith(SHARES) else f"{value:.4f}")
        for key, value in figures.items()
        if isinstance(value, float)
    ]


def words(key: str) -> str:
    """A figure's name as it is read: "macro_f1" is "macro F1"."""
    names = {"f1": "F1", "mae": "MAE"}
    return " ".join(names.get(word, word) for word in key.split("_"))


@contextlib.contextmanager
def needs_serving():
    """What the extra `serving` brings is imported; without it, it is said how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] == "kbert":
            raise
        raise InputError(
            f"{error.name} is not installed: this needs kbert's extra `serving`, "
            "pip install -e '.[serving]'"
        ) from error


def tokenizer_of(name: str):
    """The tokenizer of a folder of any format, or of a model of the hub, without its weights."""
    from kbert import checkpoint, hub
    from kbert.text.tokenizer import Tokenizer
    from kbert.weights import formats

    folder = hub.find_folder(name, files=hub.TOKENIZER_FILES)
    if formats.format_of(folder) == formats.HUGGING_FACE:
        return Tokenizer.from_folder(folder)
    return checkpoint.read(folder).tokenizer
