"""The tokenizer as TensorFlow operations, for the graph that a server runs."""

import tensorflow as tf
from tokenizers import models, pre_tokenizers

from kbert.text.in_graph.byte_pair import InGraphBytePair
from kbert.text.in_graph.sentence_piece import InGraphSentencePiece
from kbert.text.in_graph.word_piece import InGraphWordPiece
from kbert.text.tokenizer import Tokenizer


def in_graph(tokenizer: Tokenizer) -> tf.Module:
    """The same tokenizer as TensorFlow operations; built in seconds, called in microseconds.

    Args:
        tokenizer: of any kind that kbert reads or learns; `numbers_to_unk` has no form here.

    Returns:
        A `tf.Module` to call inside a `tf.function`: string (B,) → int32 ragged (B, None), the ids
        of `tokenizer(texts)`. Its `with_offsets` gives `(ids, starts, ends)`, the offsets of
        `tokenizer.encode(texts)`. It can be saved in a SavedModel, which then loads where only
        `tensorflow` and `tensorflow_text` are installed.

    Raises:
        InputError: the tokenizer has a part with no form in the graph; the text says which.
    """
    if isinstance(tokenizer.rust.model, models.WordPiece):
        return InGraphWordPiece(tokenizer)
    if isinstance(tokenizer.rust.pre_tokenizer, pre_tokenizers.ByteLevel):
        return InGraphBytePair(tokenizer)
    return InGraphSentencePiece(tokenizer)
