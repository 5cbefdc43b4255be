"""The likeliest answers of windows: against all pieces counted one by one, and in the graph."""

from itertools import accumulate

import numpy as np
import pytest

from kbert.inputs.candidates import Candidates
from kbert.inputs.windows import windows

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WORDS += ["eleven", "twelve"]
CONTEXT = " ".join(WORDS)
ENDS = list(accumulate(WORDS, lambda end, word: end + 1 + len(word), initial=-1))[1:]
OFFSETS = [(end - len(word), end) for end, word in zip(ENDS, WORDS, strict=True)]
COLUMN = 3  # [CLS] asked [SEP]
LIMITS = [(4, None), (13, None), (4, 11), (1, 3)]


def in_windows(seed):
    """Three windows of seven tokens that share four, and logits of rows that are longer."""
    found = [w._replace(column=COLUMN) for w in windows(range(len(WORDS)), 7, 4)]
    logits = np.random.default_rng(seed).standard_normal((len(found), 2, 13)).astype("float32")
    return found, 2 * logits


def brute(found, logits, longest, most):
    """(score, start, end) of every piece in every window, and the score of no answer."""
    pieces = []
    for window, (starts, ends) in zip(found, logits.astype("float64"), strict=True):
        for first in range(window.start, window.end):
            for last in range(first, min(first + longest, window.end)):
                size = OFFSETS[last][1] - OFFSETS[first][0]
                if most is None or size <= most:
                    shift = COLUMN - window.start
                    score = starts[first + shift] + ends[last + shift]
                    pieces.append((score, OFFSETS[first][0], OFFSETS[last][1]))
    return pieces, min(starts[0] + ends[0] for starts, ends in logits.astype("float64"))


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("may_be_none", [False, True])
def test_the_likeliest_answers_are_those_of_all_pieces(limits, may_be_none):
    found, logits = in_windows(seed=sum(limits, start=0) if limits[1] else limits[0])
    pieces, null_score = brute(found, logits, *limits)
    candidates = Candidates(CONTEXT, OFFSETS, *limits)
    for window, (starts, ends) in zip(found, logits, strict=True):
        candidates.add(window, starts, ends)
    result = candidates.found(5, may_be_none)
    total = sum(np.exp(score) for score, _, _ in pieces) + may_be_none * np.exp(null_score)
    best = {}
    for score, start, end in sorted(pieces, reverse=True):
        best.setdefault((start, end), score)
    expected = [(np.exp(score) / total, *piece) for piece, score in best.items()][:5]
    if may_be_none:
        expected = sorted([*expected, (np.exp(null_score) / total, 0, 0)], reverse=True)[:5]
    assert len(result.answers) == len(expected)
    for answer, (score, start, end) in zip(result.answers, expected, strict=True):
        assert (answer["start"], answer["end"]) == (start, end)
        assert answer["text"] == CONTEXT[start:end]
        assert answer["score"] == pytest.approx(score, rel=1e-9)
    highest = max(pieces)
    assert result.null_odds == pytest.approx(null_score - highest[0])
    assert (result.likeliest["start"], result.likeliest["end"]) == highest[1:]
    assert result.nothing["text"] == ""


def test_scores_worked_out_by_hand():
    """Two tokens, e = 2.718 for one piece of the three, and for no answer."""
    (window,) = windows([7, 7], 5, 1)
    window = window._replace(column=1)
    candidates = Candidates("ab c", [(0, 2), (3, 4)], longest=2)
    candidates.add(window, np.array([0.5, 0.0, 1.0, 9.0]), np.array([0.5, 0.0, 0.0, 9.0]))
    answer, nothing, other = candidates.found(3, may_be_none=True).answers
    e = np.exp(1)
    assert answer == {"text": "c", "start": 3, "end": 4, "score": pytest.approx(e / (2 * e + 2))}
    assert nothing["score"] == pytest.approx(e / (2 * e + 2))
    assert other == {"text": "ab", "start": 0, "end": 2, "score": pytest.approx(1 / (2 * e + 2))}
    assert candidates.found(1, may_be_none=False).answers[0]["score"] == pytest.approx(e / (e + 2))


def test_a_piece_that_begins_with_the_blank_before_it_is_told_without():
    """Tokens of bytes: GPT-2's."""
    (window,) = windows([7, 7], 5, 1)
    candidates = Candidates("a  b", [(0, 1), (1, 4)], longest=1)
    candidates.add(window, np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    answer = candidates.found(1, may_be_none=False).likeliest
    assert (answer["text"], answer["start"], answer["end"]) == ("b", 3, 4)


@pytest.mark.parametrize("may_be_none", [False, True])
def test_a_context_without_tokens_has_no_answer(may_be_none):
    (window,) = windows([], 5, 1)
    candidates = Candidates(" ", [], longest=3, most_characters=7)
    candidates.add(window, np.zeros(4), np.zeros(4))
    found = candidates.found(2, may_be_none)
    assert found.likeliest == found.nothing
    score = pytest.approx(float(may_be_none))
    assert found.nothing == {"text": "", "start": 0, "end": 0, "score": score}
    assert found.null_odds == 1e9


NUMBER = 7


def assert_listed(got, answers):
    """The best answers of the graph, in their order, are those of Python."""
    count = int(got["count"])
    assert count == len(answers)
    assert [text.decode() for text in got["answers"]] == [a["text"] for a in answers] + [""] * (
        NUMBER - count
    )
    for name, key, nothing in (
        ("starts", "start", -1),
        ("ends", "end", -1),
        ("scores", "score", 0),
    ):
        expected = [a[key] for a in answers] + [nothing] * (NUMBER - count)
        assert got[name].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("threshold", [None, -0.5, 99.0])
def test_the_graph_gives_the_same_answers(limits, threshold):
    """Two questions of the same context in windows, with a context without tokens between."""
    import tensorflow as tf

    from kbert.inputs.candidates_in_graph import best_answers
    from kbert.inputs.windows import Window, stack

    (empty,) = windows([], 7, 4, text=1)
    found, logits, contexts = [], [], [CONTEXT, " ", CONTEXT]
    for number, seed in ((0, 3), (1, None), (2, 5)):
        some, scores = in_windows(seed) if seed else ([empty._replace(column=2)], None)
        found += [window._replace(text=number) for window in some]
        logits.append(np.zeros((1, 2, 13), "float32") if scores is None else scores)
    logits = np.concatenate(logits)
    numbers = [tf.constant(x, tf.int32) for x in stack(found)[1:]]
    offsets = [OFFSETS, [], OFFSETS]
    starts, ends = (
        tf.ragged.constant([[pair[i] for pair in of] for of in offsets], tf.int32) for i in (0, 1)
    )
    got = best_answers(
        tf.constant(logits), Window(None, *numbers), tf.constant(contexts), (starts, ends),
        limits, (NUMBER, threshold),
    )  # fmt: skip
    for number, context in enumerate(contexts):
        candidates = Candidates(context, offsets[number], *limits)
        for window, scores in zip(found, logits, strict=True):
            if window.text == number:
                candidates.add(window, *scores)
        result = candidates.found(NUMBER, threshold is not None)
        assert_listed({name: x.numpy()[number] for name, x in got.items()}, result.answers)
        is_none = threshold is not None and result.null_odds > threshold
        expected = result.nothing if is_none else result.likeliest
        assert got["answer"].numpy()[number].decode() == expected["text"]
        assert (got["start"].numpy()[number], got["end"].numpy()[number]) == (
            expected["start"], expected["end"]
        )  # fmt: skip
        assert got["score"].numpy()[number] == pytest.approx(expected["score"], abs=1e-5)
        if threshold is not None:
            assert got["null_odds"].numpy()[number] == pytest.approx(result.null_odds, rel=1e-5)
