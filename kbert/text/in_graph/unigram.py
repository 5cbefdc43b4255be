"""Unigram's best segmentation (Kudo 2018) as TensorFlow operations, in float64 as in Rust.

SentencePiece's operation adds up scores in float32. That is not enough: in ALBERT's vocabulary
`▁` `hab` `it` and `▁ha` `bit` differ in the eighth digit, and in T5's `-------` is `---` `---` `-`
or the same in another order by Rust's rounding alone. So the search stands here. It goes through
all words at once, a character at a time; each word that a batch holds is searched once.
"""

import numpy as np
import tensorflow as tf

from kbert.text.in_graph.engine import keep

UNKNOWN_PENALTY = 10.0  # below the least score, in SentencePiece and in Rust
NO_PIECE, BEGINS_ONE = -1, -2
# Words with more characters are searched apart, so that the others do not wait for them.
LONG = 40


class Unigram(tf.Module):
    """Words → ids: the pieces with the largest sum of scores; unknown ones in a row are one."""

    def __init__(self, pieces: list[tuple[str, float]], unknown: int, whole: dict[str, int]):
        """Args:
        pieces: (piece, score) in id order.
        unknown: the id of what no piece holds.
        whole: word → id, of words that are not searched.
        """
        super().__init__(name="unigram")
        scores = np.array([score for _, score in pieces])
        self._unknown, self._unknown_score = unknown, scores.min() - UNKNOWN_PENALTY
        self._scores = np.concatenate([scores, np.zeros(len(whole)), [-np.inf]])
        self._token_ids = np.array([*range(len(pieces)), *whole.values()], np.int32)
        keys = [*(piece for piece, _ in pieces), *whole]
        numbers = {key[:end]: BEGINS_ONE for key in keys for end in range(1, len(key))}
        numbers |= {key: number for number, key in enumerate(keys)}
        table = tf.lookup.KeyValueTensorInitializer(
            [*numbers], [*numbers.values()], value_dtype=tf.int32
        )
        self._numbers = tf.lookup.StaticHashTable(table, NO_PIECE)

    def tokenize(self, words: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Ids of words (W,), and where each piece ends, in bytes; int32 ragged (W, None)."""
        distinct, place = tf.unique(words)
        is_long = tf.strings.length(distinct, "UTF8_CHAR") > LONG
        ids, ends = tf.cond(
            tf.reduce_any(is_long),
            lambda: self._search_apart(distinct, is_long),
            lambda: self._search(distinct),
        )
        return tf.gather(ids, place), tf.gather(ends, place)

    def _search_apart(self, words: tf.Tensor, is_long: tf.Tensor) -> tuple:
        short = self._search(tf.boolean_mask(words, ~is_long))
        long = self._search(tf.boolean_mask(words, is_long))
        order = tf.concat([tf.where(~is_long), tf.where(is_long)], 0)[:, 0]
        back = tf.math.invert_permutation(order)
        both = zip(short, long, strict=True)
        return tuple(tf.gather(tf.concat(parts, 0), back) for parts in both)

    # One function, that is built and optimised once, wherever it is called.
    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    def _search(self, words: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Forward to each character's best way there, then back along the ways."""
        characters = tf.strings.unicode_split(words, "UTF-8")
        numbers, scores = self._candidates(characters)
        steps = tf.cast(tf.reduce_max(tf.concat([[1], characters.row_lengths()], 0)), tf.int32)
        arrived = self._forward(characters.row_starts(), numbers, scores, steps)
        lengths = tf.cast(characters.row_lengths(), tf.int32)
        is_end = _ends_of_pieces(arrived[..., 1], lengths, steps)
        is_end = tf.RaggedTensor.from_tensor(is_end, lengths).values
        flat = tf.RaggedTensor.from_tensor(tf.transpose(arrived[..., 0]), lengths)
        ids = characters.with_values(tf.gather(self._token_ids, flat.values))
        ends = tf.cumsum(tf.strings.length(characters.values))
        before = tf.gather(tf.concat([[0], ends], 0), characters.row_starts())
        ends = characters.with_values(ends - tf.gather(before, characters.value_rowids()))
        return self._fused(keep(ids, is_end), keep(ends, is_end))

    def _candidates(self, characters: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Numbers and scores (N + 1, K) of the pieces of 1 to K characters from each character.

        The row more is for what is beyond the last of the N characters.
        """
        flat = characters.values
        size = tf.size(flat)
        left = tf.gather(characters.row_limits(), characters.value_rowids())
        left = tf.cast(left, tf.int32) - tf.range(size)
        columns = tf.TensorArray(tf.int32, 1, dynamic_size=True, element_shape=[None])

        def step(length, at, text, columns):
            """Column `length` - 1, for texts of that many characters that begin at `at`."""
            found = self._numbers.lookup(text)
            none = tf.fill([size + 1], NO_PIECE)
            column = tf.tensor_scatter_nd_update(none, at[:, tf.newaxis], found)
            columns = columns.write(length - 1, tf.maximum(column, NO_PIECE))
            goes_on = (found != NO_PIECE) & (tf.gather(left, at) > length)
            at, text = tf.boolean_mask(at, goes_on), tf.boolean_mask(text, goes_on)
            return length + 1, at, tf.strings.join([text, tf.gather(flat, at + length)]), columns

        begun = step(1, tf.range(size), flat, columns)
        *_, columns = tf.while_loop(lambda _, at, *__: tf.size(at) > 0, step, begun)
        numbers = tf.transpose(columns.stack())
        scores = tf.where(numbers == NO_PIECE, len(self._scores) - 1, numbers)
        scores = tf.gather(self._scores, scores)
        # A character that is no piece is unknown.
        first = numbers[:, :1]
        unheld = first == NO_PIECE
        first_scores = tf.where(unheld, self._unknown_score, scores[:, :1])
        first = tf.where(unheld, self._unknown, first)
        return (
            tf.concat([first, numbers[:, 1:]], 1),
            tf.concat([first_scores, scores[:, 1:]], 1),
        )

    def _forward(self, starts, numbers, scores, steps) -> tf.Tensor:
        """The last piece of the best way to each place.

        Args:
            starts: int64 (W,), the number of each word's first character.
            numbers, scores: of `_candidates`.
            steps: the characters of the longest word.

        Returns:
            int32 (steps, W, 2): number and length of the piece that ends behind character t.
        """
        words, last = tf.size(starts), tf.shape(numbers, tf.int64)[0] - 1
        longest = tf.shape(numbers)[1]
        lengths = tf.range(1, longest + 1)[tf.newaxis]
        nowhere = tf.fill([words, longest], tf.constant(-np.inf, tf.float64))
        best = tf.concat([tf.zeros([words, 1], tf.float64), nowhere], 1)
        pieces = tf.zeros([words, longest + 1, 2], tf.int32)
        found = tf.TensorArray(tf.int32, steps, element_shape=[None, 2])

        def step(t, best, pieces, found):
            """Column k of `best` and `pieces` is for place t + k."""
            at = tf.minimum(starts + tf.cast(t, tf.int64), last)
            reached = best[:, :1] + tf.gather(scores, at)
            here = tf.gather(numbers, at)
            here = tf.stack([here, tf.broadcast_to(lengths, tf.shape(here))], -1)
            is_better = reached > best[:, 1:]  # of equal ways, Rust too keeps the first
            best = tf.where(is_better, reached, best[:, 1:])
            pieces = tf.where(is_better[..., tf.newaxis], here, pieces[:, 1:])
            found = found.write(t, pieces[:, 0])
            best = tf.pad(best, [[0, 0], [0, 1]], constant_values=-np.inf)
            return t + 1, best, tf.pad(pieces, [[0, 0], [0, 1], [0, 0]]), found

        *_, found = tf.while_loop(lambda t, *_: t < steps, step, (0, best, pieces, found))
        return tf.ensure_shape(found.stack(), [None, None, 2])

    def _fused(self, ids: tf.RaggedTensor, ends: tf.RaggedTensor) -> tuple:
        """Unknown pieces in a row as the last of them."""
        is_unknown = tf.concat([ids.values == self._unknown, [False]], 0)
        row = tf.concat([ids.value_rowids(), [-1]], 0)
        mask = ~(is_unknown[:-1] & is_unknown[1:] & (row[:-1] == row[1:]))
        return keep(ids, mask), keep(ends, mask)


def _ends_of_pieces(lengths: tf.Tensor, ends: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Whether a piece of the best way ends behind a character: bool (W, steps).

    Args:
        lengths: int32 (steps, W), of the piece by which the best way comes there.
        ends: int32 (W,), the words' lengths.
        steps: the longest of them.
    """
    is_end = tf.TensorArray(tf.bool, steps, element_shape=[None])

    def step(t, end, is_end):
        here = end == t + 1
        return t - 1, tf.where(here, end - lengths[t], end), is_end.write(t, here)

    *_, is_end = tf.while_loop(lambda t, *_: t >= 0, step, (steps - 1, ends, is_end))
    return tf.transpose(tf.ensure_shape(is_end.stack(), [None, None]))
