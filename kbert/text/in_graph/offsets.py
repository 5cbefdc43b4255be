"""The way back: which characters of a text the bytes of its normalised words come from."""

from dataclasses import dataclass

import tensorflow as tf
import tensorflow_text as tf_text

from kbert.text.in_graph.engine import keep, operation
from kbert.text.in_graph.normalizer import Marks


def characters(images: dict[bytes, str], marks: Marks, alphabet: set[str], unknown: str):
    """The operation that cuts texts into normalised characters, and keeps where they come from.

    Characters that no piece holds are one with their neighbours of that kind, as they are in ids.
    """
    meant = {*marks.whole, marks.space, marks.composed, marks.replaced, marks.nothing}
    pieces = [(unknown, 0.0), *((c, -1.0) for c in sorted(alphabet | meant))]
    held = alphabet | meant
    shown = {
        # Between the marks, no character that is not held is one with a neighbour's.
        key: (image if held.issuperset(image) else marks.composed.join(image)) or marks.nothing
        for key, image in images.items()
    }
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


def covered(operation, marks: Marks, wide, has_blanks, texts, source, way_back) -> Covered:
    """Cuts texts into normalised characters and words.

    Args:
        operation: of `characters`.
        marks: the private characters.
        wide: those of special tokens that take in the white space before them.
        has_blanks: whether a word's ▁ is the blank before it, not a character put there.
        texts: string (B,).
        source: string (B,), what the offsets count in.
        way_back: from offsets in `texts` to those in `source`, or None where they are one.
    """
    text, starts, ends = operation.tokenize_with_offsets(texts)
    if way_back is not None:
        starts, ends = _in_source(way_back, starts), _in_source(way_back, ends)
    starts, ends = in_characters(source, starts), in_characters(source, ends)
    starts, ends = _as_rust_counts(text.values, starts, ends, marks)

    def is_one_of(*some: str) -> tf.Tensor:
        return tf.reduce_any(text.values[:, tf.newaxis] == [some], 1)

    row = tf.cast(text.value_rowids(), tf.int32)
    is_separator, is_special = is_one_of(marks.separator), is_one_of(*marks.special.values())
    if wide:
        starts = _widened(starts, ends, row, is_one_of(*wide), is_separator)
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


def _in_source(way_back: tf.Tensor, offsets: tf.RaggedTensor) -> tf.RaggedTensor:
    # The operation stumbles over rows without an offset: each gets one, which goes again.
    one = tf.zeros([offsets.nrows(), 1], tf.int64)
    offsets = tf.concat([tf.cast(offsets, tf.int64), one], 1)
    return tf_text.find_source_offsets(way_back, offsets)[:, :-1]


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


def _widened(starts, ends, row, is_wide, is_separator) -> tf.Tensor:
    """Starts, with the white space before the wide ones."""
    is_other = ~is_separator
    ends, row, is_wide = (tf.boolean_mask(x, is_other) for x in (ends, row, is_wide))
    is_first = tf.concat([[-1], row], 0)[:-1] != row
    before = tf.where(is_first, 0, tf.concat([[0], ends], 0)[:-1])
    widened = tf.where(is_wide, before, tf.boolean_mask(starts, is_other))
    return tf.tensor_scatter_nd_update(starts, tf.where(is_other), widened)


def in_characters(texts: tf.Tensor, offsets: tf.RaggedTensor) -> tf.Tensor:
    """Offsets in bytes (B, None) as offsets in code points, the values alone, int32.

    Args:
        texts: string (B,) of UTF-8.
        offsets: ragged, between characters.
    """
    sizes = tf.cast(tf.strings.length(texts), tf.int64)
    # One NUL more, so that there is a byte at every end. Bytes 10xxxxxx go on with a character.
    together = tf.strings.join([tf.strings.reduce_join(texts), b"\0"])
    byte = tf.cast(tf.io.decode_raw(together, tf.uint8), tf.int32)
    before = tf.cumsum(tf.cast(byte // 64 != 2, tf.int32), exclusive=True)
    base = tf.gather(tf.cumsum(sizes, exclusive=True), offsets.value_rowids())
    return tf.gather(before, base + tf.cast(offsets.values, tf.int64)) - tf.gather(before, base)
