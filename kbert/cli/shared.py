"""What commands have in common: how they tell what is wrong, and what was measured."""

import contextlib

import click

from kbert.errors import InputError


@contextlib.contextmanager
def naming(file):
    """What is wrong with records is told with the name of their file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


# Figures that are shares of one, told in percent.
SHARES = ("accuracy", "f1", "precision", "recall", "exact_match")


def show_scores(figures: dict, name):
    """One line: the figures, and of how many examples."""
    shown = [
        f"{key.replace('_f1', '_F1').replace('_', ' ')} "
        + (f"{value:.2%}" if key.endswith(SHARES) else f"{value:.4f}")
        for key, value in figures.items()
        if isinstance(value, float)
    ]
    click.echo(f"{name}: {', '.join(shown)}, {figures['examples']:,} examples")
