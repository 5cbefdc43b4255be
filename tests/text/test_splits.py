"""Plain splits."""

import pytest

from kbert.text.splits import by_punctuation, by_spaces


def test_the_lecture_example():
    text = "Chewie, we're home!"
    assert by_spaces(text) == ["Chewie,", "we're", "home!"]
    assert by_punctuation(text) == ["Chewie", ",", "we", "'", "re", "home", "!"]


@pytest.mark.parametrize("split", [by_spaces, by_punctuation])
def test_white_space_is_no_word(split):
    assert split("") == split(" \t\n\u00a0\u3000") == []
    assert split(" a\n\nb\u00a0c ") == ["a", "b", "c"]


def test_every_character_of_punctuation_stands_alone():
    assert by_punctuation("«Olá»… R$1.234,56--x_y") == [
        "«", "Olá", "»", "…", "R", "$", "1", ".", "234", ",", "56", "-", "-", "x", "_", "y",
    ]  # fmt: skip


def test_marks_stay_with_their_letters():
    assert by_punctuation("हिन्दी n\u0303andu") == ["हिन्दी", "n\u0303andu"]
