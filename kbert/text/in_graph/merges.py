"""Byte-pair encoding (Sennrich et al. 2016) by SentencePiece's operation."""

import json
from collections.abc import Iterator

import tensorflow as tf

from kbert.text.in_graph.engine import BPE, operation
from kbert.text.in_graph.normalizer import SPACE
from kbert.text.in_graph.served import check_merges, refuse
from kbert.text.tokenizer import Tokenizer


class Merges(tf.Module):
    """Words → ids: neighbours are joined, the pair of the earliest merge first."""

    def __init__(self, pieces, unknown: int, whole: dict[str, int], private: Iterator[str]):
        """Args:
        pieces: (piece, score) in id order, of `merged_pieces`.
        unknown: the id of what no piece holds.
        whole: word → id, of words of one character that are not merged.
        private: characters that no piece holds.
        """
        super().__init__(name="merges")
        listed = [(piece or next(private), score) for piece, score in pieces]
        # No text becomes the piece that stands for the unknown; its name is another's.
        listed += [(word, 0.0) for word in whole]
        listed[unknown] = (next(private), 0.0)
        self._token_ids = tf.constant([*range(len(pieces)), *whole.values()], tf.int32)
        images = {(SPACE + word).encode(): word for word in whole}
        self._operation = operation(listed, unknown, images, model_type=BPE)

    def tokenize(self, words: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Ids of words (W,), and where each piece ends, in bytes; int32 ragged (W, None)."""
        ids, _, ends = self._operation.tokenize_with_offsets(words)
        ids = ids.with_values(tf.gather(self._token_ids, ids.values))
        return ids, tf.cast(ends, tf.int32)


def merged_pieces(tokenizer: Tokenizer) -> list[tuple[str, float]]:
    """The pieces of byte-pair encoding (Sennrich et al. 2016) with scores: the earlier, the higher.

    SentencePiece joins two neighbours that make a piece, of the highest score; Rust two that a
    merge names, of the earliest. It is the same if the merges make each piece of its own
    characters, which Rust is asked: a piece's span is then joined the same way in any word.

    Raises:
        InputError: the merges make something else of a piece.
    """
    model = json.loads(tokenizer.rust.to_str())["model"]
    check_merges(model)
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(left + right, rank)
    whole = [t for t in ranks if [token.value for token in tokenizer.rust.model.tokenize(t)] != [t]]
    if whole:
        refuse("merges that make each of its pieces", f"others that {whole[0]!r} comes of")
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    return [
        (piece, -float(ranks.get(piece, 0))) if piece in ranks or len(piece) == 1 else ("", 0.0)
        for piece in vocab
    ]
