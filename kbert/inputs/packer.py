"""Token ids of one text, two or more → the row that a model reads.

    BERT       [CLS] a [SEP]      [CLS] a [SEP] b [SEP]        (Devlin et al. 2019, figure 2)
    RoBERTa    <s> a </s>         <s> a </s> </s> b </s>       and so on: see `text.form`

Letters: B rows in a batch, T tokens in a row.

Multiple choice is a pair for every choice, (question, choice). Pack those of all questions as rows
of one batch, B·C of them, and reshape what `pad` gives to (B, C, T).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from kbert.errors import InputError, InputWarning
from kbert.text.form import Form

if TYPE_CHECKING:
    import tensorflow as tf

# What a served batch's length is rounded up to, in tokens: oneDNN prepares each product of matrices
# anew for a length that it has not seen.
PAD_STEP = 8

Row = tuple[list[int], list[int]]
"""One packed example: its token ids and its segment ids, equally long."""

# Hugging Face's names, and which text is cut; None: the longest.
TRUNCATIONS = {"longest_first": None, "only_first": 0, "only_second": 1}


@dataclass(frozen=True)
class Packer:
    """Adds the special tokens, truncates, and pads rows into one batch.

    Args:
        form: the special tokens around texts, and the segment numbers: `tokenizer.form`.
        pad_id: the padding's id in the vocabulary.
        max_length: most tokens in a row, the special ones counted.
        with_segments: whether batches carry `segment_ids`. A model that has no segment embeddings
            (RoBERTa, DistilBERT) must not be given them: a functional `keras.Model` called with a
            key it does not know takes its inputs in the wrong order, with no more than a warning.
        truncation: which text is cut where they are too long together: "longest_first",
            "only_first" or "only_second" (a question stays whole, its context is cut).

    Raises:
        InputError: `max_length` leaves no room for the special tokens, there is no `pad_id`, or no
            such `truncation`.
    """

    form: Form
    pad_id: int
    max_length: int
    with_segments: bool = True
    truncation: str = "longest_first"

    @classmethod
    def of(cls, tokenizer, max_length: int, truncation: str = "longest_first") -> Packer:
        """The packer for a tokenizer's model: its form, its padding, segments if it has them."""
        form, pad_id, with_segments = tokenizer.form, tokenizer.pad_id, tokenizer.with_segments
        return cls(form, pad_id, max_length, with_segments, truncation)

    def __post_init__(self):
        if self.truncation not in TRUNCATIONS:
            raise InputError(
                f"Expected truncation to be one of {', '.join(TRUNCATIONS)}, came "
                f"{self.truncation!r}."
            )
        if self.pad_id is None:
            raise InputError(
                "Expected the id of the padding, came None: this vocabulary has no padding token. "
                "Padding is masked, so that any id serves: give that of the token that ends a text."
            )
        self.room()

    def room(self, num_texts: int = 1) -> int:
        """How many tokens that many texts may have together beside the special ones.

        Raises:
            InputError: `max_length` is smaller than the special tokens.
        """
        num_special = self.form.num_special(num_texts)
        if self.max_length < num_special:
            raise InputError(
                f"Expected max_length of at least {num_special}, the special tokens around "
                f"{num_texts} text{'s' * (num_texts > 1)}, came {self.max_length}: raise "
                "max_length."
            )
        return self.max_length - num_special

    def pack(self, *texts: Sequence[int]) -> Row:
        """One row of at most `max_length` tokens; texts that are too long together are cut.

        Args:
            texts: token ids of one text, two or more, without special tokens.

        Returns:
            `(token_ids, segment_ids)`, as `form` has them.

        Raises:
            InputError: `max_length` leaves no room for the special tokens, or cutting the one text
                that may be cut does not help.
        """
        kept = self.kept([len(ids) for ids in texts])
        return self.form.join([ids[:length] for ids, length in zip(texts, kept, strict=True)])

    def kept(self, lengths: Sequence[int]) -> list[int]:
        """How many tokens texts of these lengths keep in a row; errors are those of `pack`."""
        room = self.room(len(lengths))
        cut = TRUNCATIONS[self.truncation]
        if cut is None:
            return longest_first(lengths, room)
        excess = sum(lengths) - room
        if excess <= 0:
            return list(lengths)
        if cut >= len(lengths) or lengths[cut] <= excess:
            raise InputError(self._cannot_cut(" and ".join(map(str, lengths)), room))
        return [n - excess if number == cut else n for number, n in enumerate(lengths)]

    def origins(self, *texts: Sequence[int]) -> list[tuple[int, int]]:
        """Where each column of `pack(*texts)` comes from: the numbers of a text and its token.

        Returns:
            (text, token) for every column; (-1, -1) for a special token. With the `words` of a
            `text.tokenizer.Encoding`, a column's word is `words[text][token]`.
        """
        return self.form.origins(self.kept([len(ids) for ids in texts]))

    def pad(self, rows: Sequence[Row], length: int) -> dict[str, np.ndarray]:
        """Rows → one batch, every row padded at its end to `length` tokens.

        A token's position is its column.

        Returns:
            `token_ids` int32 (B, length); `padding_mask` bool (B, length), True = a real token;
            and, if `with_segments`, `segment_ids` int32 (B, length), 0 where padded.

        Raises:
            InputError: a row is longer than `length`.
        """
        lengths = np.array([len(token_ids) for token_ids, _ in rows], dtype=np.int64)
        if lengths.size and lengths.max() > length:
            raise InputError(
                f"Expected rows of at most {length} tokens, came one of {lengths.max()}: "
                f"pack with max_length={length} or pad to a greater length."
            )
        padding_mask = np.arange(length) < lengths[:, np.newaxis]

        def padded(column: int, fill: int) -> np.ndarray:
            values = np.full(padding_mask.shape, fill, dtype=np.int32)
            real = chain.from_iterable(row[column] for row in rows)
            values[padding_mask] = np.fromiter(real, dtype=np.int32, count=lengths.sum())
            return values

        batch = {"token_ids": padded(0, self.pad_id), "padding_mask": padding_mask}
        if self.with_segments:
            batch["segment_ids"] = padded(1, 0)
        return batch

    def pack_in_graph(
        self, *texts: tf.RaggedTensor, pad_to_multiple: int = 1
    ) -> dict[str, tf.Tensor]:
        """`pack` and `pad` as TensorFlow operations, for the served graph.

        Pads to the longest row of this batch, never to `max_length`: one short request costs what
        one short text costs.

        Args:
            texts: one, two or more, each int32 (B, None), token ids without special tokens: row b
                of the batch is made of row b of each. B may be 0.
            pad_to_multiple: the padded length is rounded up to a multiple of this, in tokens, but
                never beyond `max_length`.

        Returns:
            The batch that `pad` would give, as tensors of shape (B, T). Where `pack` raises for a
            row, the graph fails with InvalidArgumentError.
        """
        import tensorflow as tf

        pool, runs = self._runs_in_graph(tf, texts)
        ends, end = [], 0
        for _, length in runs:
            end = end + length
            ends.append(end)
        length = tf.maximum(tf.reduce_max(end), self.form.num_special(len(texts)))
        if pad_to_multiple > 1:
            rounded = (length + pad_to_multiple - 1) // pad_to_multiple * pad_to_multiple
            length = tf.minimum(rounded, self.max_length)
        position = tf.range(length)  # (T,)
        # From a row's end to its start, each run is written over the columns before its end.
        index = segment_ids = tf.zeros([tf.shape(end)[0], length], tf.int32)  # (B, T)
        for number in reversed(range(len(runs))):
            (base, size), before = runs[number], position < ends[number]
            index = tf.where(before, position + (base - (ends[number] - size)), index)
            # A text stands at every other run, with the special tokens after it.
            if number % 2 == 0 and number and self.with_segments:
                segment_ids = tf.where(before, self.form.segments[number > 2], segment_ids)
        batch = {"token_ids": tf.gather(pool, index), "padding_mask": position < end}
        if self.with_segments:
            if self.form.suffix and self.form.last_segment is not None:
                last = position == end - 1
                segment_ids = tf.where(last, self.form.last_segment, segment_ids)
            batch["segment_ids"] = segment_ids
        return batch

    def _runs_in_graph(self, tf, texts):
        """The runs of tokens that make a row: prefix, text, special tokens, text … suffix.

        Returns:
            (pool, runs): int32 (P,), all tokens there are, the padding first; and for each run its
            place in the pool and its length, both int or int32 (B, 1).
        """
        form = self.form
        special = [self.pad_id, *form.prefix, *form.between, *form.suffix]
        row_lengths = [tf.cast(text.row_lengths(), tf.int32) for text in texts]
        kept = self._kept_in_graph(tf, row_lengths)
        runs = [(1, len(form.prefix))]
        after = [(1 + len(form.prefix), len(form.between))] * (len(texts) - 1)
        after.append((len(special) - len(form.suffix), len(form.suffix)))
        offset = len(special)
        for text, length, specials in zip(texts, kept, after, strict=True):
            base = offset + tf.cast(text.row_starts(), tf.int32)
            runs += [(base[:, tf.newaxis], length[:, tf.newaxis]), specials]
            offset += tf.size(text.values)
        pool = tf.concat([tf.constant(special, tf.int32), *(text.values for text in texts)], 0)
        return pool, runs

    def _kept_in_graph(self, tf, lengths: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """`kept` of all rows: int32 (B,) for each text."""
        room = self.room(len(lengths))
        cut = TRUNCATIONS[self.truncation]
        if cut is None:
            return _longest_first_in_graph(tf, lengths, room)
        excess = tf.maximum(tf.add_n(lengths) - room, 0)
        can_cut = tf.zeros_like(excess, tf.bool) if cut >= len(lengths) else lengths[cut] > excess
        message = self._cannot_cut("the lengths below", room)
        check = tf.debugging.Assert(
            tf.reduce_all(can_cut | (excess == 0)), [message, *lengths], summarize=8
        )
        with tf.control_dependencies([check]):
            return [n - excess if number == cut else n for number, n in enumerate(lengths)]

    def _cannot_cut(self, lengths: str, room: int) -> str:
        return (
            f"max_length={self.max_length} leaves room for {room} tokens, came texts of {lengths}, "
            f"and truncation={self.truncation!r} may cut one alone and not away: raise "
            "max_length, shorten the other text, or take truncation='longest_first'."
        )


def warn_of_cut(cut: int, number: int, max_length: int) -> None:
    """One warning for all inputs that were too long, with their count; none if there are none."""
    if cut:
        warnings.warn(
            f"Inputs with more than max_length={max_length} tokens were cut: {cut:,} of "
            f"{number:,}. Raise max_length, or give a stride where the task answers in windows.",
            InputWarning,
            stacklevel=3,
        )


def longest_first(lengths: Sequence[int], room: int) -> list[int]:
    """How many tokens texts keep when the longest is cut first (Hugging Face's rule for two).

    Args:
        lengths: tokens of the texts.
        room: tokens that all may keep together.

    Returns:
        What each text keeps. Of those cut to the same length, the longer ones (of equals the
        later) keep the odd tokens.
    """
    if sum(lengths) <= room:
        return list(lengths)
    kept = list(lengths)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)  # equals in the order they came
    for place, number in enumerate(order):
        kept[number] = min(lengths[number], room // (len(lengths) - place))
        room -= kept[number]
    return kept


def _longest_first_in_graph(tf, lengths: Sequence[tf.Tensor], room: int) -> list[tf.Tensor]:
    """`longest_first` of many rows: int32 (B,) for each text."""
    if len(lengths) == 1:
        return [tf.minimum(lengths[0], room)]
    lengths = tf.stack(lengths, axis=1)  # (B, texts)
    order = tf.argsort(lengths, axis=1, stable=True)
    shares = []
    for place, length in enumerate(tf.unstack(tf.gather(lengths, order, batch_dims=1), axis=1)):
        shares.append(tf.minimum(length, room // (lengths.shape[1] - place)))
        room = room - shares[-1]
    back = tf.argsort(order, axis=1)
    return tf.unstack(tf.gather(tf.stack(shares, axis=1), back, batch_dims=1), axis=1)
