"""The way back: which characters of a text the bytes of its normalised words come from."""

from dataclasses import dataclass

import tensorflow as tf

from kbert.text.in_graph.engine import keep, operation
from kbert.text.in_graph.normalizer import UNSEEN, Marks
from kbert.text.in_graph.preparation import Prepared


def characters(images: dict[bytes, str], marks: Marks, alphabet: set[str], unknown: str):
    """The operation that cuts texts into normalised characters, and keeps where they come from.

    Characters that no piece holds are one with their neighbours of that kind, as they are in ids.
    """
    meant = {*marks.whole, marks.space, marks.composed, marks.replaced, marks.nothing, marks.unseen}
    pieces = [(unknown, 0.0), *((c, -1.0) for c in sorted(alphabet | meant))]
    held = alphabet | meant
    shown = {
        # Between the marks, no character that is not held is one with a neighbour's.
        key: (image if held.issuperset(image) else marks.composed.join(image)) or marks.nothing
        for key, image in images.items()
    }
    shown |= dict.fromkeys(UNSEEN.intersection(images), marks.unseen)
    return operation(pieces, 0, shown, out_type=tf.string)


@dataclass(frozen=True)
class Covered:
    """The normalised characters of a batch, N in all, and what they cover.

    Attributes:
        words: ragged (B, None), the strings of W words in all.
        sizes: int32 (N,), the characters' bytes.
        starts, ends: int32 (N,), what each covers in its text.
        beginnings: int32 (N,), where a piece begins that has the character and the ▁ before it.
        first: int64 (W,), the number of each word's first character.
    """

    words: tf.RaggedTensor
    sizes: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    beginnings: tf.Tensor
    first: tf.Tensor

    def of_pieces(self, ends: tf.RaggedTensor, prefix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What pieces cover in their text.

        Args:
            ends: int32 ragged (W, None), where each piece ends, in bytes of its word.
            prefix: int32 (W,), bytes that the words were given before their own.

        Returns:
            int32 (number of pieces,) twice: starts and ends.
        """
        before = tf.cumsum(self.sizes, exclusive=True)
        word = ends.value_rowids()
        own = tf.gather(tf.gather(before, self.first), word)
        end = own - tf.gather(prefix, word) + ends.values
        is_new = tf.concat([[-1], word], 0)[:-1] != word
        begin = tf.where(is_new, own, tf.maximum(tf.concat([[0], end], 0)[:-1], own))
        left = tf.searchsorted(before, begin, side="right") - 1
        right = tf.searchsorted(before, end - 1, side="right") - 1
        starts = tf.where(is_new, tf.gather(self.beginnings, left), tf.gather(self.starts, left))
        ends = tf.gather(self.ends, tf.maximum(right, left))
        # A piece of the prefix alone stands for the word's first character.
        return starts, tf.where(end <= own, starts + 1, ends)


def covered(operation, marks: Marks, wide, has_blanks: bool, prepared: Prepared) -> Covered:
    """Cuts texts into normalised characters and words.

    Args:
        operation: of `characters`.
        marks: the private characters.
        wide: those of special tokens that take in the white space before them.
        has_blanks: whether a word's ▁ is the blank before it, not a character put there.
        prepared: the texts, B of them.
    """
    text, starts, ends = operation.tokenize_with_offsets(prepared.texts)
    starts, ends = prepared.covered(starts, ends)
    is_seen = text.values != marks.unseen
    text = keep(text, is_seen)
    starts, ends = tf.boolean_mask(starts, is_seen), tf.boolean_mask(ends, is_seen)
    starts, ends = _as_rust_counts(text.values, starts, ends, marks)

    def is_one_of(*some: str) -> tf.Tensor:
        return tf.reduce_any(text.values[:, tf.newaxis] == [some], 1)

    row = tf.cast(text.value_rowids(), tf.int32)
    is_separator, is_special = is_one_of(marks.separator), is_one_of(*marks.special.values())
    if wide:
        starts = tf.where(is_one_of(*wide), prepared.blanks_before(row, starts), starts)
    segment = 2 * tf.cumsum(tf.cast(is_special, tf.int32)) - tf.cast(is_special, tf.int32) + row
    shown = ~is_one_of(marks.nothing, marks.composed, marks.replaced)
    text = keep(text, shown)
    starts, ends, segment, is_separator = (
        tf.boolean_mask(x, shown) for x in (starts, ends, segment, is_separator)
    )
    # A word begins with a segment and behind a separator.
    cut = segment + tf.cumsum(tf.cast(is_separator, tf.int32))
    before = tf.concat([[0], starts], 0)[:-1]
    kept = keep(text, ~is_separator)
    starts, ends, before, segment, cut = (
        tf.boolean_mask(x, ~is_separator) for x in (starts, ends, before, segment, cut)
    )
    is_first = tf.concat([[-1], cut], 0)[:-1] != cut
    beginnings = starts
    if has_blanks:
        is_behind_blank = is_first & (tf.concat([[-1], segment], 0)[:-1] == segment)
        beginnings = tf.where(is_behind_blank, before, starts)
    word = tf.cumsum(tf.cast(is_first, tf.int32)) - 1
    first = tf.where(is_first)[:, 0]
    strings = tf.strings.unsorted_segment_join(kept.values, word, tf.size(first))
    words_before = tf.cumsum(tf.cast(tf.concat([[False], is_first], 0), tf.int64))
    words = tf.RaggedTensor.from_row_splits(
        strings, tf.gather(words_before, kept.row_splits), validate=False
    )
    sizes = tf.strings.length(kept.values)
    return Covered(words, sizes, starts, ends, beginnings, first)


def _as_rust_counts(text: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, marks: Marks) -> tuple:
    """Starts and ends as Rust has them for what a few characters became, or one became a few."""
    follows = tf.concat([text, [""]], 0)[1:]
    # A character of the graph's alphabet covers one of the text: `ﬁ` is all that its `f` and its
    # `i` come from. Only what no piece holds, and special tokens, cover more.
    covers_one = tf.strings.length(text, "UTF8_CHAR") == 1
    covers_one &= ~tf.reduce_any(text[:, tf.newaxis] == [[*marks.special.values()]], 1)
    # The mark's own end is that of all that was replaced.
    whole = tf.concat([ends, [0]], 0)[1:]
    ends = tf.where(covers_one, starts + 1, ends + tf.cast(follows == marks.composed, tf.int32))
    ends = tf.maximum(ends, starts + 1)
    is_replaced = follows == marks.replaced
    return tf.where(is_replaced, whole - 1, starts), tf.where(is_replaced, whole, ends)
