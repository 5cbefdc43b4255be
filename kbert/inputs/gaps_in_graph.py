"""`gaps` as TensorFlow operations, for the served graph.

Letters: N texts, W windows, G gaps of all texts, K words for a gap, V tokens in the vocabulary.
"""

from collections.abc import Sequence

import tensorflow as tf

from kbert.inputs.gaps import IDEOGRAPH, PLACES, stride_of
from kbert.inputs.packer import PAD_STEP, Packer
from kbert.inputs.pieces_in_graph import MOST_TOKENS, in_pieces
from kbert.inputs.windows_in_graph import packed_windows_in_graph
from kbert.text.in_graph.engine import as_utf_8

__all__ = [
    "as_utf_8",
    "best_in_pieces",
    "check_size",
    "filled",
    "of_places",
    "packed_gaps",
    "padded",
    "places_of",
    "surfaces",
    "with_places",
]

# Numbers that are in memory at once: logits of a piece, bytes of the filled texts.
MOST_LOGITS, MOST_FILLED = 32_000_000, 256_000_000

# What str.isspace says yes to.
BLANKS = (
    r"[\t-\r\x1c- \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
)


def packed_gaps(packer: Packer, ids: tf.RaggedTensor, mask_id: int):
    """`packed_gaps` of all texts as one batch; windows without gaps stay in.

    Args:
        packer: its `max_length` is the length of a full row.
        ids: int32 (N, None), token ids without special tokens.

    Returns:
        (features, places, tokens): what the model takes; ragged (W, None), the gaps' columns; and
        ragged (N, None), their numbers among the tokens of their text.
    """
    found, features = packed_windows_in_graph(
        packer, ids, stride_of(packer), pad_to_multiple=PAD_STEP
    )
    own = tf.ragged.range(found.own_start, found.own_end)  # (W, None)
    first = tf.gather(tf.cast(ids.row_starts(), tf.int32), found.text)
    own_ids = tf.gather(ids.values, (own + first[:, tf.newaxis]).values)
    asked = tf.ragged.boolean_mask(own, own.with_values(own_ids == mask_id))
    places = asked + (found.column - found.start)[:, tf.newaxis]
    counts = tf.math.segment_sum(places.row_lengths(), found.text)
    tokens = tf.RaggedTensor.from_row_lengths(asked.values, counts)
    return with_places(features, places), places, tokens


def with_places(features: dict, places: tf.RaggedTensor) -> dict:
    """The features and `masked_positions`, (B, M), padded with zeros: one place at least."""
    padded = places.to_tensor(0)
    one = tf.zeros([tf.shape(padded)[0], 1], tf.int32)
    return {**features, PLACES: tf.concat([padded, one], 1)}


def places_of(is_gap: tf.Tensor) -> tf.RaggedTensor:
    """The columns where a bool (B, T) is true, int32 ragged (B, None)."""
    columns = tf.broadcast_to(tf.range(tf.shape(is_gap)[1]), tf.shape(is_gap))
    return tf.ragged.boolean_mask(columns, is_gap)


def padded(values: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """What G gaps have, (G, …), by their texts: (N, most gaps, …), then "", 0.0 or -1."""
    nothing = -1 if values.dtype == tf.int32 else "" if values.dtype == tf.string else 0.0
    return tf.RaggedTensor.from_row_lengths(values, counts, validate=False).to_tensor(nothing)


def best_in_pieces(logits, most: int, vocab_size: int):
    """Features → the K likeliest tokens of their M places, in bounded memory.

    Args:
        logits: features → float (W, M, V).
        most: K.
        vocab_size: V.

    Returns:
        A function of features: ids int32 (W, M, K) and probabilities float32 (W, M, K).
    """

    def best(**features):
        found = tf.cast(logits(**features), tf.float32)
        highest, tokens = tf.math.top_k(found, most)
        return tokens, tf.exp(highest - tf.reduce_logsumexp(found, -1, keepdims=True))

    def rows(features):
        places = tf.shape(features[PLACES])[1]
        by_tokens = MOST_TOKENS // tf.maximum(tf.shape(features["token_ids"])[1], 1)
        return tf.minimum(by_tokens, MOST_LOGITS // (places * vocab_size))

    return in_pieces(best, (tf.int32, tf.float32), rows)


def of_places(values, places: tf.RaggedTensor) -> list:
    """Of tensors (W, M, K), what stands for places: (G, K) each."""
    is_asked = tf.sequence_mask(places.row_lengths(), tf.shape(values[0])[1])
    return [tf.boolean_mask(x, is_asked) for x in values]


def check_size(texts: tf.Tensor, counts: tf.Tensor, most: int) -> None:
    """Fails where the filled texts, K for each gap, would be larger than memory bears."""
    lengths = tf.cast(tf.strings.length(texts), tf.int64)
    size = tf.reduce_sum(lengths * tf.cast(counts, tf.int64)) * most
    message = f"the filled texts would have more than {MOST_FILLED:,} bytes: send fewer gaps, came"
    tf.debugging.Assert(size <= MOST_FILLED, [message, counts])


def filled(texts, starts, ends, begins_word, words) -> tf.Tensor:
    """`gaps.filled` of G gaps and K tokens each: string (G, K).

    Args:
        texts: string (G,), the text of each gap.
        starts, ends: int32 (G,), its characters.
        begins_word: bool (G, K), whether a token begins a word.
        words: string (G, K), how it reads, without the blank before it.
    """
    whole = tf.strings.length(texts, "UTF8_CHAR")
    until = tf.strings.substr(texts, tf.zeros_like(starts), starts, "UTF8_CHAR")
    after = tf.strings.substr(texts, ends, whole - ends, "UTF8_CHAR")[:, tf.newaxis]
    before = tf.strings.regex_replace(until, BLANKS + r"+$", "")
    length = tf.strings.length(before)
    blank = tf.strings.substr(until, length, tf.strings.length(until) - length)[:, tf.newaxis]
    runs = is_of_word(before, r"(?s).*", "")[:, tf.newaxis] & is_of_word(words, "", r"(?s).*")
    blank = tf.where((blank == "") & runs, " ", blank)
    blank = tf.where(begins_word, blank, "")
    before, after = (tf.broadcast_to(x, tf.shape(words)) for x in (before[:, tf.newaxis], after))
    return tf.strings.join([before, blank, words, after])


def is_of_word(texts: tf.Tensor, before: str, after: str) -> tf.Tensor:
    """`gaps.is_of_word` of a character within texts, by what stands before and after it."""
    is_letter = tf.strings.regex_full_match(texts, rf"{before}[\p{{L}}\p{{N}}]{after}")
    return is_letter & ~tf.strings.regex_full_match(texts, before + IDEOGRAPH + after)


def surfaces(tokens: Sequence[str]) -> tuple[tf.Tensor, tf.Tensor]:
    """How V tokens read: whether each begins a word, bool (V,), and its word, string (V,)."""
    begins = tf.constant([token.startswith(" ") for token in tokens])
    return begins, tf.constant([token.removeprefix(" ") for token in tokens])
