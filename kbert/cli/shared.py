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


def show_scores(figures: dict, name):
    click.echo(
        f"{name}: accuracy {figures['accuracy']:.2%}, macro F1 {figures['macro_f1']:.2%}, "
        f"loss {figures['loss']:.4f}, {figures['examples']:,} examples"
    )
