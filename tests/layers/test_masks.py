"""Who may attend to whom, written out."""

import numpy as np
from harness import to_numpy

from kbert.layers import masks

YES, NO = True, False


def test_padding_hides_the_padded_keys_from_every_query():
    mask = to_numpy(masks.padding(np.array([[YES, YES, NO], [YES, NO, NO]])))
    assert mask.dtype == bool
    assert mask.tolist() == [[[[YES, YES, NO]]], [[[YES, NO, NO]]]]


def test_a_padding_mask_of_ones_and_zeros_is_read_as_yes_and_no():
    mask = to_numpy(masks.padding(np.array([[1, 1, 0]])))
    assert mask.tolist() == [[[[YES, YES, NO]]]]


def test_causal_lets_a_query_see_itself_and_what_stands_before_it():
    mask = to_numpy(masks.causal(3, 3))
    assert mask.dtype == bool
    assert mask.tolist() == [[[[YES, NO, NO], [YES, YES, NO], [YES, YES, YES]]]]


def test_the_last_query_stands_at_the_last_key_when_earlier_keys_were_kept():
    assert to_numpy(masks.causal(2, 5)).tolist() == [
        [[[YES, YES, YES, YES, NO], [YES, YES, YES, YES, YES]]]
    ]
    assert to_numpy(masks.causal(1, 7)).all()


def test_a_band_lets_a_query_see_what_stands_near_it():
    mask = to_numpy(masks.band(4, 1))
    assert mask.dtype == bool
    assert mask.tolist() == [
        [[[YES, YES, NO, NO], [YES, YES, YES, NO], [NO, YES, YES, YES], [NO, NO, YES, YES]]]
    ]
    assert to_numpy(masks.band(5, 4)).all()


def test_both_allows_what_two_masks_allow_together():
    padding = masks.padding(np.array([[YES, YES, NO]]))
    both = to_numpy(masks.both(masks.causal(3, 3), padding))
    assert both.tolist() == [[[[YES, NO, NO], [YES, YES, NO], [YES, YES, NO]]]]


def test_no_mask_allows_everything():
    mask = masks.causal(3, 3)
    assert masks.both(mask, None) is mask
    assert masks.both(None, mask) is mask
    assert masks.both(None, None) is None
