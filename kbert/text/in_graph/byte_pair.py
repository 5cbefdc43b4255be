"""Byte-level BPE (Radford et al. 2019) as TensorFlow operations: GPT-2's and RoBERTa's tokenizer.

Regular expressions put a byte between words that no UTF-8 has, and SentencePiece's operation, with
a model made here (engine.py), merges the bytes between (merges.py says why as Rust does). Its
table writes every byte as the character that GPT-2's vocabulary has for it.

GPT-2's expression for words looks ahead: of several blanks before a word, the last is not theirs,
`\\s+(?!\\S)`. TensorFlow's regular expressions cannot, so those blanks are cut off first. Which
characters are letters, digits and blanks, Rust is asked: each library has its own Unicode.

ModernBERT's normaliser composes characters (NFC), between special tokens and never with them. What
Rust looks for in normalised text only, the graph looks for in the text as it is: no name of an
added token comes of composing.
"""

import functools
import json
import re

import tensorflow as tf
import tensorflow_text as tf_text
from tokenizers import pre_tokenizers

from kbert.text.in_graph.characters import all_characters, private_characters, ranges
from kbert.text.in_graph.engine import BPE, as_utf_8, keep, operation
from kbert.text.in_graph.merges import merged_pieces
from kbert.text.in_graph.normalizer import parts_of
from kbert.text.in_graph.served import check_added, refuse
from kbert.text.tokenizer import Tokenizer

BETWEEN = b"\xff"
BEYOND_LETTERS = 0x40000  # planes 4 to 13 have no characters, the last three no letters
CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"


class InGraphBytePair(tf.Module):
    """Texts to token ids, without special tokens around them: the ids of `tokenizer(texts)`.

    Call it on a string tensor (B,) of UTF-8; the result is an int32 `tf.RaggedTensor` (B, None).
    Bytes that are not UTF-8 read as U+FFFD, as `bytes.decode("utf-8", "replace")` reads them.
    """

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(name="in_graph_byte_pair")
        parts = json.loads(tokenizer.rust.to_str())
        check_added(parts)
        cut = parts["pre_tokenizer"]
        steps = [*parts_of(parts["normalizer"])]
        if steps not in ([], ["NFC"]) or not cut.get("use_regex", True):
            came = " and ".join(steps) or "other words"
            refuse("byte-level BPE of GPT-2's words, with the normaliser NFC or none", came)
        self._composes = bool(steps)
        self._adds_space = cut["add_prefix_space"]

        pieces = merged_pieces(tokenizer)
        private = private_characters("".join(piece for piece, _ in pieces))
        special = {token["content"]: token for token in parts["added_tokens"]}
        marks = {content: next(private) for content in special}
        self._between = next(private)
        listed = [(piece or next(private), score) for piece, score in pieces]
        unknown = len(listed)
        listed += [(mark, 0.0) for mark in (next(private), self._between, *marks.values())]
        images = {bytes([byte]): character for byte, character in _characters_of_bytes().items()}
        images |= {content.encode(): mark for content, mark in marks.items()}
        images[BETWEEN] = self._between
        self._operation = operation(listed, unknown, images, model_type=BPE)
        self._between_id = unknown + 1
        special_ids = [token["id"] for token in special.values()]
        self._token_ids = tf.constant([*range(unknown + 2), *special_ids], tf.int32)

        letters, digits, blanks = _classes()
        others = f"[^{letters}{digits}{blanks}]"
        self._blanks = blanks
        self._words = f"(?:{CONTRACTIONS}| ?[{letters}]+| ?[{digits}]+| ?{others}+|[{blanks}]+)"
        contents = sorted(special, key=len, reverse=True)
        self._special = "|".join(map(re.escape, contents))
        wide = "|".join(re.escape(c) for c in contents if special[c]["lstrip"])
        others = "|".join(re.escape(c) for c in contents if not special[c]["lstrip"])
        # The one kind takes the blanks before it; \1 or \2 is what remains.
        kinds = [rf"[{blanks}]*({wide})"] * bool(wide) + [f"({others})"] * bool(others)
        self._around = "|".join(kinds) + "()" * (2 - len(kinds))

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Token ids of each text; B and every length may differ from call to call."""
        texts = as_utf_8(texts)
        if not self._special:
            return self._ids(self._cut(texts))
        is_named = tf.strings.regex_full_match(texts, rf"(?s).*(?:{self._special}).*")
        return tf.cond(
            tf.reduce_any(is_named),
            lambda: self._ids(self._cut_around_special_tokens(texts)),
            lambda: self._ids(self._cut(texts)),
        )

    def with_offsets(self, texts: tf.Tensor) -> tuple:
        """Raises InputError: a token may be a part of a character here."""
        refuse("characters as their smallest pieces, for offsets", "bytes")

    def _cut(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts with a byte between words."""
        if self._composes:
            texts = tf_text.normalize_utf8(texts, "NFC")
        if self._adds_space:
            has_one = tf.strings.regex_full_match(texts, "(?s)(?: .*)?")
            texts = tf.where(has_one, texts, tf.strings.join([" ", texts]))
        blank = f"[{self._blanks}]"
        before_last = f"({blank})({blank}[^{self._blanks}])"
        texts = tf.strings.regex_replace(texts, before_last, rb"\1" + BETWEEN + rb"\2")
        return tf.strings.regex_replace(texts, self._words, rb"\0" + BETWEEN)

    def _cut_around_special_tokens(self, texts: tf.Tensor) -> tf.Tensor:
        """The same where texts name special tokens, which stand as they are."""
        alone = BETWEEN + rb"\1\2" + BETWEEN
        parts = tf.strings.split(tf.strings.regex_replace(texts, self._around, alone), BETWEEN)
        part = parts.values
        is_special = tf.strings.regex_full_match(part, self._special)
        part = tf.where(is_special, part, self._cut(part))
        return tf.strings.reduce_join(parts.with_values(part), axis=1)

    def _ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        ids = self._operation.tokenize(texts)
        ids = keep(ids, ids.values != self._between_id)
        return ids.with_values(tf.gather(self._token_ids, ids.values))


def _characters_of_bytes() -> dict[int, str]:
    """The character that a vocabulary of bytes has for each byte (openai/gpt-2, encoder.py)."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    images = {byte: chr(byte) for byte in visible}
    return images | {byte: chr(256 + number) for number, byte in enumerate(hidden)}


@functools.cache
def _classes() -> tuple[str, str, str]:
    """Letters, digits and blanks as Rust's expression has them, as ranges of a regular one."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    blanks = [
        c for some in all_characters() for c in some if c.isspace() and len(split(f"!{c}")) > 1
    ]
    return ranges(_joining("a", split)), ranges(_joining("1", split)), ranges(map(ord, blanks))


def _joining(before: str, split) -> list[int]:
    """The code points that are of one word with the character before them."""
    codes = []
    for characters in all_characters():
        if (first := ord(characters[0])) >= BEYOND_LETTERS:
            break
        cut = {start for _, (start, _) in split(before + before.join(characters))}
        codes += [first + i for i in range(len(characters)) if 2 * i + 1 not in cut]
    return codes
