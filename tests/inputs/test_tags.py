"""Tags of three schemes, and the entities that they mark: what conlleval and seqeval read."""

import random

import pytest

from kbert.errors import InputError
from kbert.inputs import tags
from kbert.inputs.tags import Entity

# The lectures' "Barack Obama nasceu no Havaí", and two names of a type side by side.
LECTURE = {
    "IOB1": ["I-PER", "I-PER", "O", "O", "I-LOC", "B-LOC"],
    "IOB2": ["B-PER", "I-PER", "O", "O", "B-LOC", "B-LOC"],
    "BIOES": ["B-PER", "E-PER", "O", "O", "S-LOC", "S-LOC"],
}


def conlleval(sequence):
    """Chunks as conlleval.pl finds them (Tjong Kim Sang), with seqeval's S; (type, start, end)."""
    found, begin, before, kind_before = [], 0, "O", "O"
    for place, tag in enumerate([*sequence, "O"]):
        prefix, kind = tag[0], tag.split("-", 1)[-1]
        ends = (
            before in "ES"
            or (before == "B" and prefix in "BSO")
            or (before == "I" and prefix in "BSO")
            or (before != "O" and kind_before != kind)
        )
        starts = (
            prefix in "BS"
            or (before in "ESO" and prefix in "EI")
            or (prefix != "O" and kind_before != kind)
        )
        if ends and before != "O":
            found.append((kind_before, begin, place))
        if starts:
            begin = place
        before, kind_before = prefix, kind
    return found


def test_the_schemes_say_the_same_in_other_letters():
    expected = [Entity("PER", 0, 2), Entity("LOC", 4, 5), Entity("LOC", 5, 6)]
    for scheme, written in LECTURE.items():
        assert tags.entities(written) == expected
        assert tags.written(expected, 6, scheme) == written
        assert tags.to_iob2(written) == LECTURE["IOB2"]
        assert tags.from_iob2(LECTURE["IOB2"], scheme) == written


def test_tags_of_any_entities_come_back_from_every_scheme():
    chance = random.Random(3)
    for _ in range(300):
        length, place, marked = chance.randrange(1, 13), 0, []
        while place < length:
            end = min(length, place + chance.randrange(1, 4))
            if chance.random() < 0.6:
                marked.append(Entity(chance.choice(["PER", "A-B"]), place, end))
            place = end
        for scheme in tags.SCHEMES:
            written = tags.written(marked, length, scheme)
            assert tags.entities(written) == marked
            assert tags.breaks(written, scheme) == []
            assert tags.from_iob2(tags.to_iob2(written), scheme) == written


def test_any_sequence_is_read_as_conlleval_reads_it():
    chance = random.Random(5)
    letters = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC"))]
    for _ in range(3000):
        sequence = chance.choices(letters, k=chance.randrange(13))
        assert tags.entities(sequence) == conlleval(sequence)


@pytest.mark.parametrize("scheme", tags.SCHEMES)
def test_the_scheme_of_whole_sentences_is_found(scheme):
    assert tags.scheme_of([["O"], LECTURE[scheme]]) == scheme


@pytest.mark.parametrize(
    ("sequence", "scheme", "places"),
    [
        (["O", "I-PER", "I-PER"], "IOB2", [1]),
        (["B-PER", "I-LOC"], "IOB2", [1]),
        (["B-PER", "O", "E-PER"], "BIOES", [0, 2]),
        (["S-PER", "I-PER", "E-PER"], "BIOES", [1]),
        (["I-PER", "E-PER"], "IOB1", [1]),
        (["PER", "O"], "IOB2", [0]),
        # A B- that need not be one: CoNLL-2003 has two.
        (["O", "B-PER", "I-PER"], "IOB1", []),
    ],
)
def test_tags_that_break_their_scheme_are_found(sequence, scheme, places):
    assert tags.breaks(sequence, scheme) == places


def test_broken_tags_are_told_with_their_places_and_count():
    sentences = [LECTURE["IOB2"], ["O", "I-PER", "I-LOC"], ["I-X"], ["I-X"], ["B-X"], ["B-X"]]

    def where(number, place):
        return f"<{number}:{place}>"

    words = (
        r"expected tags in IOB2, .*came 4 that break it: <1:1>: 'I-PER' after 'O'; <1:2>: 'I-LOC' "
        r"after 'I-PER'; <2:0>: 'I-X' after nothing; <3:0>.*\(--repair\)"
    )
    with pytest.raises(InputError, match=words):
        tags.as_iob2(sentences, where)
    assert tags.as_iob2(sentences, where, repair=True)[1] == ["O", "B-PER", "B-LOC"]
