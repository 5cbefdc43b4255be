"""`words` and the entities of `tags` as TensorFlow operations: a served graph finds names.

Letters: N texts, W words of all texts together, E entities of all texts together, C labels.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from kbert.inputs.tags import split_tag
from kbert.inputs.words import is_punctuation, splits_like_bert


class Words(NamedTuple):
    """The words of N texts: W in all, every field a tensor (W,).

    Attributes:
        text: int32, the number of the text.
        token: int32, the first token of the word, in its text.
        start, end: int32, the word's characters [start, end).
    """

    text: tf.Tensor
    token: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor


class Entities(NamedTuple):
    """The entities of N texts: E in all, every field a tensor (E,).

    Attributes:
        text: int32, the number of the text.
        type: string.
        start, end: int32, the entity's characters [start, end).
        score: float32, the mean of its words' scores.
    """

    text: tf.Tensor
    type: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    score: tf.Tensor


def word_finder(tokenizer):
    """The way from tokens to words, `sentences` of texts that come whole.

    Returns:
        A function of texts, string (N,), and their ids, starts and ends, int32 ragged (N, None),
        as `with_offsets` gives them; it returns `Words`.
    """
    if splits_like_bert(tokenizer):
        begins = tf.constant([not piece.startswith("##") for piece in tokenizer.vocab])
        return lambda texts, ids, starts, ends: _words(tf.gather(begins, ids.values), starts, ends)
    symbols = [c for c in range(sys.maxunicode + 1) if is_punctuation(chr(c))]
    symbols = tf.constant(symbols, tf.int32)

    def find(texts, ids, starts, ends):
        characters = tf.strings.unicode_decode(texts, "UTF-8")
        row = starts.value_rowids()
        place = tf.gather(characters.row_starts(), row) + tf.cast(starts.values, tf.int64)
        before = tf.concat([[-1], ends.values], 0)[:-1]
        before = tf.where(row == tf.concat([[-1], row], 0)[:-1], before, -1)

        def is_symbol(at):
            code = tf.gather(characters.values, tf.maximum(at, 0))
            near = tf.minimum(tf.searchsorted(symbols, code), tf.size(symbols) - 1)
            return tf.gather(symbols, near) == code

        at_symbol = (starts.values == before) & (is_symbol(place) | is_symbol(place - 1))
        return _words((starts.values > before) | at_symbol, starts, ends)

    return find


def _words(is_first: tf.Tensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> Words:
    row = tf.cast(starts.value_rowids(), tf.int32)
    number = tf.range(tf.size(row)) - tf.gather(tf.cast(starts.row_starts(), tf.int32), row)
    word = tf.cumsum(tf.cast(is_first, tf.int32)) - 1
    fields = (tf.boolean_mask(field, is_first) for field in (row, number, starts.values))
    return Words(*fields, tf.math.segment_max(ends.values, word))


def labels_of_words(words: Words, outputs: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The likeliest label of each word and its probability, (W,): those of its first token.

    Args:
        words: of N texts.
        outputs: float ragged (N, None, C), logits of the tokens, as far as they were looked at.

    Returns:
        int32 and float32; -1 and 0 for words beyond.
    """
    seen = tf.cast(outputs.row_lengths(), tf.int32)
    is_seen = words.token < tf.gather(seen, words.text)
    place = tf.gather(tf.cast(outputs.row_starts(), tf.int32), words.text) + words.token
    logits = tf.gather(outputs.values, tf.boolean_mask(place, is_seen))
    probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
    label = tf.argmax(probabilities, -1, output_type=tf.int32)
    where = tf.where(is_seen)

    def spread(values, default):
        everywhere = tf.fill(tf.shape(is_seen), default)
        return tf.tensor_scatter_nd_update(everywhere, where, values)

    return spread(label, -1), spread(tf.reduce_max(probabilities, -1), 0.0)


def entities_in_graph(
    labels: Sequence[str], words: Words, chosen: tf.Tensor, scores: tf.Tensor
) -> Entities:
    """`tags.entities` of all texts.

    Args:
        labels: the C labels.
        words: of all texts.
        chosen: int32 (W,), the number of each word's label; -1 for an O.
        scores: float32 (W,).
    """
    prefixes, kinds = zip(*map(split_tag, [*labels, "O"]), strict=True)
    names = sorted(set(kinds))
    kind_of, name_of = tf.constant([names.index(kind) for kind in kinds]), tf.constant(names)
    chosen = tf.where(chosen < 0, len(labels), chosen)
    before = tf.concat([[len(labels)], chosen], 0)[:-1]
    before = tf.where(words.text == tf.concat([[-1], words.text], 0)[:-1], before, len(labels))

    def has(which, prefix):
        return tf.gather(tf.constant([p in prefix for p in prefixes]), which)

    kind = tf.gather(kind_of, chosen)
    is_apart = has(chosen, "BS") | has(before, "OES") | (kind != tf.gather(kind_of, before))
    inside = ~has(chosen, "O")
    begins = inside & is_apart
    entity = tf.boolean_mask(tf.cumsum(tf.cast(begins, tf.int32)) - 1, inside)
    return Entities(
        tf.boolean_mask(words.text, begins),
        tf.gather(name_of, tf.boolean_mask(kind, begins)),
        tf.boolean_mask(words.start, begins),
        tf.math.segment_max(tf.boolean_mask(words.end, inside), entity),
        tf.math.segment_mean(tf.boolean_mask(scores, inside), entity),
    )


def rectangular(found: Entities, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """Entities as arrays (N, most): `type` and `text` string, `start` and `end` int32, `score`.

    `count` int32 (N,) tells how many there are; what follows is "" and 0.
    """
    number = tf.size(texts)
    counts = tf.math.bincount(found.text, minlength=number, maxlength=number)
    of = tf.gather(texts, found.text)
    covered = tf.strings.substr(of, found.start, found.end - found.start, unit="UTF8_CHAR")

    def padded(values):
        return tf.RaggedTensor.from_row_lengths(values, counts).to_tensor()

    fields = found._asdict() | {"text": covered}
    return {name: padded(values) for name, values in fields.items()} | {"count": counts}
