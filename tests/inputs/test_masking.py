"""Masks: how many, which, what becomes of them, and that chance is the same everywhere."""

from collections import Counter

import numpy as np
import pytest

import kbert
from kbert.inputs.batches import IGNORED
from kbert.inputs.masking import LONGEST_WORD, Masking, Replacing, special_tokens, words_of_row
from kbert.inputs.packer import Packer
from kbert.text.tokenizer import Tokenizer

V, CLS, SEP, MASK, UNK = 1009, 2, 3, 4, 1
SPECIAL = np.arange(V) < 5
MASKING = Masking(MASK, SPECIAL)


def row_of(sizes, chance):
    """A row of words of these sizes: its ids and the word of each column."""
    ids = chance.integers(5, V, sum(sizes)).tolist()
    words = [word for word, size in enumerate(sizes) for _ in range(size)]
    return [CLS, *ids, SEP], np.array([-1, *words, -1])


# How many and which


@pytest.fixture(scope="module")
def million():
    """Rows of a million tokens, of words of one to four, some unknown; before and after masks."""
    chance = np.random.default_rng(0)
    rows = []
    for number in range(1_000_000 // 127):
        sizes = chance.choice([1, 2, 3, 4], 200, p=[0.7, 0.2, 0.07, 0.03])
        sizes = sizes[np.cumsum(sizes) <= 125]
        ids, words = row_of(sizes, chance)
        ids[7] = UNK
        rows.append((np.array(ids), words, *MASKING.draw(ids, words, number)))
    return rows


def test_15_percent_are_chosen_and_of_these_80_masked_10_exchanged_10_left(million):
    num_tokens = sum((~SPECIAL[ids]).sum() for ids, *_ in million)
    assert num_tokens > 900_000
    before = np.concatenate([targets for *_, targets in million])
    after = np.concatenate([np.array(ids)[places] for _, _, ids, places, _ in million])
    assert abs(100 * len(before) / num_tokens - 15) < 0.1
    assert abs(100 * (after == MASK).mean() - 80) < 0.3
    left = (after == before).mean() - 0.1 / (V - 5)  # without those exchanged by themselves
    assert abs(100 * left - 10) < 0.3
    exchanged = after[(after != MASK) & (after != before)]
    assert abs(100 * len(exchanged) / len(after) - 10) < 0.3
    counts = np.bincount(exchanged, minlength=V)
    assert counts[:5].sum() == 0
    assert 0 < counts[5:].min() < counts[5:].max() < 40  # 14 each on average


def test_no_special_token_is_chosen_and_nothing_else_changes(million):
    for ids, _, after, places, targets in million[::50]:
        assert not SPECIAL[ids[places]].any()
        np.testing.assert_array_equal(ids[places], targets)
        rest = np.setdiff1d(np.arange(len(ids)), places)
        np.testing.assert_array_equal(np.array(after)[rest], ids[rest])
        assert places.tolist() == sorted(places)


def test_words_are_chosen_whole_and_long_ones_as_often_as_short_ones(million):
    chosen, there = Counter(), Counter()
    for ids, words, _, places, _ in million:
        words = np.where(SPECIAL[ids], -1, words)
        is_hit = np.isin(np.arange(len(words)), places)
        sizes, hits = (
            np.bincount(words[words >= 0]),
            np.bincount(words[words >= 0], is_hit[words >= 0]),
        )
        assert set(hits / np.maximum(sizes, 1)) <= {0, 1}
        there.update(sizes.tolist())
        chosen.update(sizes[hits > 0].tolist())
    for size in (1, 2, 3, 4):
        assert chosen[size] / there[size] == pytest.approx(0.15, abs=0.01)


def test_how_often_words_of_a_short_row_are_chosen_is_worked_out_by_hand():
    """Half of four tokens is two. The long word first: taken with probability 2/3. The short one
    first: taken, then the long one with probability 1/3, the one token that is left of its three.
    """
    masking = Masking(MASK, SPECIAL, share=0.5)
    found = Counter()
    for number in range(6000):
        _, places, _ = masking.draw([CLS, 7, 11, 13, 17, SEP], [-1, 0, 0, 0, 1, -1], number)
        found[tuple(places)] += 1
    expected = {(1, 2, 3): 1 / 3, (): 1 / 6, (4,): 1 / 3, (1, 2, 3, 4): 1 / 6}
    assert set(found) == set(expected)
    for places, probability in expected.items():
        assert found[places] / 6000 == pytest.approx(probability, abs=0.02)


def test_without_whole_words_every_token_stands_for_itself():
    masking = Masking(MASK, SPECIAL, share=0.5, whole_words=False)
    for number in range(20):
        _, places, _ = masking.draw([CLS, 7, 11, 13, 17, SEP], [-1, 0, 0, 0, 0, -1], number)
        assert len(places) == 2


def test_a_word_too_long_for_a_word_is_chosen_piece_by_piece():
    ids, words = row_of([LONGEST_WORD + 1, LONGEST_WORD], np.random.default_rng(3))
    sizes = Counter()
    for number in range(200):
        _, places, _ = MASKING.draw(ids, words, number)
        is_second = places > LONGEST_WORD + 1
        assert is_second.sum() in (0, LONGEST_WORD)
        sizes[int((~is_second).sum())] += 1
    assert set(sizes) > {0, 1, 2}


def test_no_row_has_more_masks_than_are_allowed_for_its_length():
    chance = np.random.default_rng(1)
    for number in range(500):
        sizes = chance.integers(1, LONGEST_WORD + 3, chance.integers(0, 29))
        ids, words = row_of(sizes, chance)
        _, places, _ = MASKING.draw(ids, words, number)
        assert len(places) <= MASKING.most(len(ids))
    assert [MASKING.most(length) for length in (0, 5, 13, 128)] == [0, 5, 9, 27]


def test_a_row_of_special_tokens_has_no_masks():
    for ids in ([], [CLS, SEP], [CLS, UNK, SEP]):
        after, places, targets = MASKING.draw(ids, [-1] * len(ids), 0)
        assert (after, places.tolist(), targets.tolist()) == (ids, [], [])


# Chance


def test_masks_depend_on_seed_epoch_and_row_alone():
    ids, words = row_of([1, 2, 1, 1, 3, 1, 2, 1, 1, 1, 1, 2], np.random.default_rng(5))

    def places(seed=0, row=0, epoch=0):
        return Masking(MASK, SPECIAL, seed=seed).draw(ids, words, row, epoch)[1].tolist()

    assert places() == places()
    others = [places(seed=1), places(row=1), places(epoch=1), places(row=1, epoch=1)]
    assert len({tuple(p) for p in [places(), *others]}) > 3


def test_masks_are_the_same_on_every_backend():
    """Written down once: this test runs on all of them."""
    ids = [CLS, *range(10, 41), SEP]
    after, places, targets = MASKING.draw(ids, range(33), row=5, epoch=2)
    assert places.tolist() == GOLDEN[0]
    assert targets.tolist() == [ids[place] for place in places]
    assert [after[place] for place in places] == GOLDEN[1]


GOLDEN = ([5, 7, 8, 18, 26], [4, 567, 4, 27, 4])


# Replaced tokens


def test_replaced_tokens_are_15_percent_and_told_by_their_targets():
    chance = np.random.default_rng(0)
    others = np.array([5, 5, 5, 7, MASK])
    replacing = Replacing(others, SPECIAL)
    found = Counter()
    for number in range(2000):
        ids = [CLS, *chance.integers(8, V, 50).tolist(), UNK, 7, SEP]
        after, targets = replacing.draw(ids, number)
        changed = np.array(ids) != np.array(after)
        np.testing.assert_array_equal(targets == 1, changed)
        np.testing.assert_array_equal(targets == IGNORED, SPECIAL[ids])
        found.update(np.array(after)[changed].tolist())
    assert set(found) == {5, 7}
    assert sum(found.values()) / (2000 * 51) == pytest.approx(0.15, abs=0.002)
    assert found[5] / sum(found.values()) == pytest.approx(0.75, abs=0.02)


def test_a_token_that_chance_replaced_by_itself_was_not_replaced():
    after, targets = Replacing(np.array([7]), SPECIAL, share=0.9).draw([CLS, *[7] * 20, SEP], 0)
    assert targets.tolist() == [IGNORED, *[0] * 20, IGNORED]
    assert after == [CLS, *[7] * 20, SEP]


def test_texts_without_tokens_cannot_replace_any():
    with pytest.raises(kbert.InputError, match="put in the place of others, came none that is not"):
        Replacing(np.array([UNK, SEP]), SPECIAL)


# Of a tokenizer


def test_special_tokens_are_those_of_the_tokenizer(tiny_dir):
    tokenizer = Tokenizer.from_folder(tiny_dir)
    is_special = special_tokens(tokenizer)
    assert is_special.shape == (3001,)
    assert np.flatnonzero(is_special).tolist() == [0, 1, 2, 3, 4]
    masking = Masking.of(tokenizer, share=0.3, seed=7)
    assert (masking.mask_id, masking.share, masking.seed) == (4, 0.3, 7)


def test_the_pieces_of_a_word_share_a_number_in_a_row(tiny_dir):
    tokenizer = Tokenizer.from_folder(tiny_dir)
    (encoding,) = tokenizer.encode(["my qqcat, dog"])
    packer = Packer.of(tokenizer, 61)
    words = words_of_row(packer, encoding.words)
    ids, _ = packer.pack(encoding.ids)
    assert len(words) == len(ids)
    num_pieces = len(tokenizer(["qqcat"])[0])
    assert num_pieces > 1
    assert words.tolist() == [-1, 0, *[1] * num_pieces, 2, 3, -1]


def test_a_tokenizer_without_a_mask_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    with pytest.raises(kbert.InputError, match="Expected a tokenizer with a mask_token, this one"):
        Masking.of(Tokenizer.from_folder(tmp_path))
