"""Token ids of one text or two → the row that BERT reads (Devlin et al. 2019, figure 2).

    [CLS] a [SEP]              segment ids 0 0 0
    [CLS] a [SEP] b [SEP]      segment ids 0 0 0 1 1

Letters: B rows in a batch, T tokens in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from kbert.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

Row = tuple[list[int], list[int]]
"""One packed example: its token ids and its segment ids, equally long."""


@dataclass(frozen=True)
class Packer:
    """Adds the special tokens, truncates, and pads rows into one batch.

    Args:
        cls_id, sep_id, pad_id: ids of [CLS], [SEP] and [PAD] in the vocabulary.
        max_length: most tokens in a row, the special ones counted.
        with_segments: whether batches carry `segment_ids`. A model that has no segment embeddings
            (RoBERTa, DistilBERT) must not be given them: a functional `keras.Model` called with a
            key it does not know takes its inputs in the wrong order, with no more than a warning.

    Raises:
        InputError: `max_length` leaves no room for the special tokens.
    """

    cls_id: int
    sep_id: int
    pad_id: int
    max_length: int
    with_segments: bool = True

    def __post_init__(self):
        self._check_room(num_special=2, form="[CLS] a [SEP]")

    def pack(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> Row:
        """One row of at most `max_length` tokens; of two texts the longer is cut first.

        Args:
            ids: token ids of the text, without special tokens.
            pair_ids: those of the second text, if there is one.

        Returns:
            `(token_ids, segment_ids)`: segment 0 is [CLS], the first text and its [SEP]; segment 1
            the second text and its [SEP].

        Raises:
            InputError: `max_length` leaves no room for a pair's special tokens.
        """
        if pair_ids is None:
            token_ids = [self.cls_id, *ids[: self.max_length - 2], self.sep_id]
            return token_ids, [0] * len(token_ids)
        self._check_room(num_special=3, form="[CLS] a [SEP] b [SEP]")
        first, second = longest_first(len(ids), len(pair_ids), self.max_length - 3)
        token_ids = [self.cls_id, *ids[:first], self.sep_id, *pair_ids[:second], self.sep_id]
        return token_ids, [0] * (first + 2) + [1] * (second + 1)

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
        self, ragged_ids: tf.RaggedTensor, pad_to_multiple: int = 1
    ) -> dict[str, tf.Tensor]:
        """`pack` and `pad` of single texts as TensorFlow operations, for the served graph.

        Pads to the longest row of this batch, never to `max_length`: one short request costs what
        one short text costs.

        Args:
            ragged_ids: int32 (B, None), token ids without special tokens. B may be 0.
            pad_to_multiple: the padded length is rounded up to a multiple of this, in tokens, but
                never beyond `max_length`.

        Returns:
            The batch that `pad` would give, as tensors of shape (B, T).
        """
        import tensorflow as tf

        row_lengths = tf.cast(ragged_ids.row_lengths(), tf.int32)
        sep_position = tf.minimum(row_lengths, self.max_length - 2)[:, tf.newaxis] + 1  # (B, 1)
        # At least [CLS] [SEP]: the maximum over no rows is the smallest integer there is.
        length = tf.maximum(tf.reduce_max(sep_position) + 1, 2)
        if pad_to_multiple > 1:
            rounded = (length + pad_to_multiple - 1) // pad_to_multiple * pad_to_multiple
            length = tf.minimum(rounded, self.max_length)
        position = tf.range(length)  # (T,)
        # A truncated text keeps one token too many here; its [SEP] is then written over it.
        texts = ragged_ids.to_tensor(self.pad_id, shape=tf.stack([-1, length - 1]))
        token_ids = tf.pad(texts, [[0, 0], [1, 0]], constant_values=self.cls_id)  # (B, T)
        token_ids = tf.where(position == sep_position, self.sep_id, token_ids)
        batch = {"token_ids": token_ids, "padding_mask": position <= sep_position}
        if self.with_segments:
            batch["segment_ids"] = tf.zeros_like(token_ids)
        return batch

    def _check_room(self, num_special: int, form: str):
        if self.max_length < num_special:
            raise InputError(
                f"Expected max_length of at least {num_special}, the special tokens of {form}, "
                f"came {self.max_length}: raise max_length."
            )


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens two texts keep when the longer one is cut first (Hugging Face's rule).

    Args:
        first, second: tokens of the two texts.
        room: tokens that both may keep together.

    Returns:
        What the first and the second keep. Cut to the same length, the longer one (of equals the
        second) keeps the odd token.
    """
    shorter, longer = sorted((first, second))
    if shorter + longer > room:
        longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    return (shorter, longer) if first <= second else (longer, shorter)
