"""Pairs of sentences: what follows what, and that half of them are false."""

import pytest

import kbert
from kbert.inputs.sentence_pairs import (
    documents,
    next_sentences,
    sentence_orders,
    sentences,
)

# Sentence j of document i is "i.j".
TEXTS = [[f"{i}.{j}" for j in range(3 + 2 * (i % 3))] for i in range(101)]
NEIGHBOURS = [(f"{i}.{j}", f"{i}.{j + 1}") for i, x in enumerate(TEXTS) for j in range(len(x) - 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Help me. You're my hope!", ["Help me.", "You're my hope!"]),
        ('He said "No." Then he left', ['He said "No."', "Then he left"]),
        ("It costs 3.50 today. 7 of them?  Yes…\tWell", [
            "It costs 3.50 today.", "7 of them?", "Yes…", "Well",
        ]),
        ("as in e.g. small letters. Ça va", ["as in e.g. small letters.", "Ça va"]),
        ("你好。再见！好", ["你好。", "再见！", "好"]),
        ("  no mark  ", ["no mark"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences_end_at_their_marks(text, expected):
    assert sentences(text) == expected


def test_blank_lines_part_documents():
    lines = ["One. Two.", "Three.", "", "  ", "Four", "five", ""]
    assert documents(lines) == [["One.", "Two.", "Three."], ["Four", "five"]]


def test_without_blank_lines_a_line_is_a_document():
    assert documents(["One. Two.", "Three.", ""]) == [["One.", "Two."], ["Three."]]
    assert documents([]) == documents([" "]) == []


def test_half_of_the_second_sentences_are_from_another_document():
    pairs = next_sentences(TEXTS, seed=3)
    assert [first for first, *_ in pairs] == [first for first, _ in NEIGHBOURS]
    real = [(first, second) for first, second, is_real in pairs if is_real]
    assert set(real) <= set(NEIGHBOURS)
    assert abs(len(real) - len(pairs) / 2) <= 0.5
    for first, second, is_real in pairs:
        assert (first.split(".")[0] == second.split(".")[0]) == is_real
    drawn = {second.split(".")[0] for _, second, is_real in pairs if not is_real}
    assert len(drawn) > 80  # of all documents


def test_half_of_the_pairs_are_exchanged():
    pairs = sentence_orders(TEXTS)
    in_order = [(a, b) if is_real else (b, a) for a, b, is_real in pairs]
    assert in_order == NEIGHBOURS
    assert abs(sum(is_real for *_, is_real in pairs) - len(pairs) / 2) <= 0.5


@pytest.mark.parametrize("make", [next_sentences, sentence_orders])
def test_the_seed_tells_which(make):
    assert make(TEXTS) == make(TEXTS)
    assert make(TEXTS) != make(TEXTS, seed=1)


# Bad input


def test_next_sentences_need_two_documents():
    with pytest.raises(kbert.InputError, match="two documents or more, .* came 1: put a blank"):
        next_sentences([["a", "b"]])


@pytest.mark.parametrize("make", [next_sentences, sentence_orders])
def test_documents_of_one_sentence_have_no_pairs(make):
    with pytest.raises(kbert.InputError, match="of two sentences or more, came 2 of one at most"):
        make([["a"], ["b"]])
