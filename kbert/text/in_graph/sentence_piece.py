"""SentencePiece's tokenizers as TensorFlow operations: Unigram, and BPE of characters.

SentencePiece's operation, with a model made here (engine.py), cuts texts into words. Its table says
what Rust's normaliser makes of every character of Unicode, as Rust says itself; white space becomes
a mark between words, a special token's name one private character. Its pieces are those marks, so
that all between them is one unknown piece: a word. The words' pieces are then found as Rust finds
them: Unigram's in unigram.py, those of BPE in merges.py.

What stays different from Rust, all of it rare. A table's entries of a few characters are known as
far as they are canonical decompositions (clusters.py says how Rust reads them), and not where the
text is in lower case before the table is asked. NFKC composes in two steps: a mark behind `ﬁ` is
not one with its i. And composing goes by TensorFlow Text's Unicode, an older one than Rust's.
"""

import json

import tensorflow as tf

from kbert.text.in_graph import offsets
from kbert.text.in_graph.characters import private_characters
from kbert.text.in_graph.engine import keep, operation
from kbert.text.in_graph.merges import Merges, merged_pieces
from kbert.text.in_graph.normalizer import SPACE, Marks, Table, parts_of
from kbert.text.in_graph.preparation import Preparation
from kbert.text.in_graph.served import check_metaspace
from kbert.text.in_graph.unigram import Unigram
from kbert.text.tokenizer import Tokenizer


class InGraphSentencePiece(tf.Module):
    """Texts to token ids, without special tokens around them: the ids of `tokenizer(texts)`.

    Call it on a string tensor (B,) of UTF-8; the result is an int32 `tf.RaggedTensor` (B, None).
    Bytes that are not UTF-8 read as U+FFFD, as `bytes.decode("utf-8", "replace")` reads them.
    """

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(name="in_graph_sentence_piece")
        parts = json.loads(tokenizer.rust.to_str())
        self._prefixes_all = check_metaspace(parts) == "always"
        model = parts["model"]
        is_unigram = model["type"] == "Unigram"
        pieces = [tuple(p) for p in model["vocab"]] if is_unigram else merged_pieces(tokenizer)
        alphabet = set("".join(piece for piece, _ in pieces))
        special = {token["content"]: token for token in parts["added_tokens"]}
        private = private_characters(alphabet)
        meanings = [next(private) for _ in range(6)]
        self._marks = marks = Marks(*meanings, {content: next(private) for content in special})
        self._wide = [marks.special[c] for c, token in special.items() if token["lstrip"]]
        self._has_blanks = "WhitespaceSplit" not in parts_of(parts["pre_tokenizer"])
        table = Table(tokenizer.rust, marks, private)
        composes = bool({"NFC", "NFKC"} & set(parts_of(parts["normalizer"])))
        self._prepared = Preparation(table, marks.special, composes, private)
        images = table.images
        self._characters = offsets.characters(images, marks, alphabet, next(private))
        written = {key: marks.without_offsets(image) for key, image in images.items()}
        self._has_spaces = any(marks.space in image for image in written.values())
        whole = [(next(private), 0.0), *((mark, -1.0) for mark in marks.whole)]
        self._words = operation(whole, 0, written, out_type=tf.string)
        ids = {marks.special[content]: token["id"] for content, token in special.items()}
        if is_unigram:
            ids |= {SPACE + mark: number for mark, number in ids.items()}
            self._model = Unigram(pieces, model["unk_id"], ids)
        else:
            self._model = Merges(pieces, tokenizer.unk_id, ids, private)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Token ids of each text; B and every length may differ from call to call."""
        words = self._words.tokenize(self._prepared(texts))
        words = keep(words, words.values != self._marks.separator)
        ids, _ = self._model.tokenize(self._prefixed(words))
        return _by_text(ids, words, ids.values)

    def with_offsets(self, texts: tf.Tensor) -> tuple:
        """Token ids, and the characters of the text that each token covers.

        Returns:
            `(ids, starts, ends)`, int32 ragged (B, None): [start, end), counted in characters
            (code points) as `tokenizer.encode` counts them.
        """
        prepared = self._prepared.with_way_back(texts)
        covered = offsets.covered(
            self._characters, self._marks, self._wide, self._has_blanks, prepared
        )
        words = covered.words
        prefixed = self._prefixed(words)
        ids, ends = self._model.tokenize(prefixed)
        prefix = tf.strings.length(prefixed) - tf.strings.length(words.values)
        starts, ends = covered.of_pieces(ends, prefix)
        return tuple(_by_text(ids, words, values) for values in (ids.values, starts, ends))

    def _prefixed(self, words: tf.RaggedTensor) -> tf.Tensor:
        """The words (W,) with ▁ before those that have one to Rust."""
        text = words.values
        prefixed = tf.strings.join([SPACE, text])
        if not self._prefixes_all:
            # Only after white space: not at the beginning of a text or behind a special token.
            is_special = tf.reduce_any(text[:, tf.newaxis] == [[*self._marks.special.values()]], 1)
            row = tf.concat([[-1], words.value_rowids()], 0)
            is_first = (row[1:] != row[:-1]) | tf.concat([[False], is_special], 0)[:-1]
            prefixed = tf.where(is_first | is_special, text, prefixed)
        if self._has_spaces:
            prefixed = tf.strings.regex_replace(prefixed, f"{SPACE}?{self._marks.space}", SPACE)
        return prefixed


def _by_text(ids: tf.RaggedTensor, words: tf.RaggedTensor, values: tf.Tensor) -> tf.RaggedTensor:
    """Values of the tokens of words, as rows of the texts (B, None)."""
    splits = tf.gather(ids.row_splits, words.row_splits)
    return tf.RaggedTensor.from_row_splits(values, splits, validate=False)
