"""The recipe of a run and the options of the command say the same."""

from dataclasses import asdict

import kbert
from kbert.cli.finetune import command_of
from kbert.training.recipe import Recipe

REQUIRED = ["--train", "a.csv", "--checkpoint", "a", "--output", "b"]


def test_every_part_of_a_recipe_is_an_option_with_the_same_default():
    command = command_of(kbert.TextClassification)
    given = command.make_context("finetune", list(REQUIRED)).params
    assert asdict(Recipe()).items() <= given.items()
    assert all(option.help for option in command.params)
