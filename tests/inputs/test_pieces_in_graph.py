"""Batches in pieces give what they give at once."""

import numpy as np
import pytest
import tensorflow as tf

from kbert.inputs import pieces_in_graph
from kbert.inputs.pieces_in_graph import in_pieces

IDS = np.arange(11 * 7, dtype="int32").reshape(11, 7)


class Watched:
    """Twice the features, and the sums of the rows; notes how many rows came at once."""

    def __init__(self):
        self.rows = []

    def __call__(self, token_ids):
        self.rows.append(int(token_ids.shape[0]))
        return 2 * token_ids, tf.reduce_sum(token_ids, axis=1)


@pytest.mark.parametrize(
    ("most", "together", "pieces"),
    [(7 * 4, 1, [4, 4, 3]), (7 * 4, 3, [3, 3, 3, 2]), (1, 1, [1] * 11), (1, 5, [5, 5, 1]),
     (1000, 1, [11])],
)  # fmt: skip
def test_pieces_have_at_most_so_many_tokens_and_keep_the_order(monkeypatch, most, together, pieces):
    monkeypatch.setattr(pieces_in_graph, "MOST_TOKENS", most)
    watched = Watched()
    doubled, sums = in_pieces(watched, (tf.int32, tf.float32), together=together)(
        token_ids=tf.constant(IDS)
    )
    assert watched.rows == pieces
    np.testing.assert_array_equal(doubled, 2 * IDS)
    np.testing.assert_array_equal(sums, IDS.sum(axis=1).astype("float32"))


@pytest.mark.parametrize("rows", [0, 1, 11])
def test_the_graph_takes_any_number_of_rows(rows, monkeypatch):
    monkeypatch.setattr(pieces_in_graph, "MOST_TOKENS", 21)
    function = in_pieces(lambda token_ids: token_ids[:, tf.newaxis] + 1, tf.int32)
    spec = tf.TensorSpec([None, None], tf.int32)
    traced = tf.function(lambda ids: function(token_ids=ids), input_signature=[spec])
    np.testing.assert_array_equal(traced(IDS[:rows]), IDS[:rows, np.newaxis] + 1)


def test_another_step_can_be_given():
    watched = Watched()
    in_pieces(watched, (tf.int32, tf.int32), lambda features: 6)(token_ids=tf.constant(IDS))
    assert watched.rows == [6, 5]
