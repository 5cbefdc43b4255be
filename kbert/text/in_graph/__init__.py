"""The tokenizer as TensorFlow operations, for the graph that a server runs."""

from kbert.text.in_graph.word_piece import InGraphWordPiece
from kbert.text.tokenizer import Tokenizer


def in_graph(tokenizer: Tokenizer) -> InGraphWordPiece:
    """The same tokenizer as TensorFlow operations; built in seconds, called in microseconds.

    Args:
        tokenizer: with BERT's normaliser and pre-tokenizer, as every BERT folder has them.

    Returns:
        A `tf.Module` to call inside a `tf.function`. It can be saved in a SavedModel, which then
        loads where only `tensorflow` and `tensorflow_text` are installed.

    Raises:
        InputError: the tokenizer has a part with no form in the graph; the text says which.
    """
    return InGraphWordPiece(tokenizer)
