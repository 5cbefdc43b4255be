"""WordPiece as TensorFlow operations.

BERT's text normalisation (Devlin et al. 2018, `BasicTokenizer`) looks at one character at a
time: it drops it, or writes a few others for it. So the Rust tokenizer is asked what it makes of
every character of Unicode, and the answers become the table of TensorFlow Text's
`FastBertNormalizer`, in place of its own one, which is not BERT's: that folds case by NFKC (`º`
to `o`, `…` to `...`) and keeps U+FFFD. `FastWordpieceTokenizer` does the rest. The ids are then
the eager tokenizer's, whatever edition of Unicode each library goes by.

One difference remains. Where accents are stripped, Rust also sorts neighbouring marks by their
combining class, and the graph leaves them in the order of the text. It shows only where two
marks outlive the stripping (some of Adlam, Glagolitic and musical notation do) and the
vocabulary holds both; no published BERT vocabulary that kbert is tested with does.
"""

import functools
import json
import re
import string

import flatbuffers
import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tokenizers import pre_tokenizers

from kbert.text.in_graph.characters import (
    all_characters,
    changed,
    double_array,
    private_characters,
    trie,
)
from kbert.text.in_graph.engine import as_utf_8
from kbert.text.in_graph.preparation import in_characters
from kbert.text.in_graph.served import refuse
from kbert.text.tokenizer import Tokenizer

# ASCII characters that are words of their own to both libraries, as a regular expression.
ASCII_PUNCTUATION = r"!-/:-@\[-`{-~"
CUTTING = " " + string.punctuation  # ends a word, in normalised text
MAX_REPETITION = 1000  # of RE2
MAX_PIECE_BYTES = 256  # of TensorFlow Text (fast_wordpiece_tokenizer_utils.h)


class InGraphWordPiece(tf.Module):
    """Texts to token ids, without [CLS] and [SEP]: the ids of `tokenizer(texts)`.

    Call it on a string tensor (B,) of UTF-8; the result is an int32 `tf.RaggedTensor` (B, None).
    Bytes that are not UTF-8 read as U+FFFD, as `bytes.decode("utf-8", "replace")` reads them.
    """

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(name="in_graph_word_piece")
        parts = json.loads(tokenizer.rust.to_str())
        _check(parts)
        max_characters = parts["model"]["max_input_chars_per_word"]
        special_ids = {token["content"]: token["id"] for token in parts["added_tokens"]}
        alphabet = set("".join(tokenizer.vocab))
        private = private_characters(alphabet)

        # Every character that no piece holds becomes this one: a word with it is unknown.
        self._unknown = next(private)
        # A special token becomes one character; Rust looks for the longest first.
        contents = sorted(special_ids, key=len, reverse=True)
        self._special_characters = {content: next(private) for content in contents}
        self._spare_character = next(private)
        # What stands in the place of the rest of a special token, so that no offset changes.
        self._rest = next(private)
        renamed = {ord(c): next(private) for c in _cut_by_tensorflow(alphabet)}
        pieces = [
            piece.translate(renamed)
            if _can_be_found(piece, max_characters)
            # Holds punctuation, where words are cut, so that no word is ever this.
            else f"[{self._spare_character}{token_id}]"
            for token_id, piece in enumerate(tokenizer.vocab)
        ]
        for content, character in self._special_characters.items():
            pieces[special_ids[content]] = character

        written = {c: renamed.get(ord(c), c) for c in alphabet}
        written |= _word_boundaries(tokenizer, written, self._unknown)
        own = {character: f" {character} " for character in self._special_characters.values()}
        own[self._rest] = ""
        model = _normalizer_model(tokenizer.rust.normalizer, written, self._unknown, own)
        self._normalizer = tf_text.FastBertNormalizer(model_buffer=model)
        self._word_piece = tf_text.FastWordpieceTokenizer(
            vocab=pieces,
            unknown_token=pieces[tokenizer.unk_id],
            # Rust's limit is in characters, this one in bytes: the expression below does it.
            max_bytes_per_word=2**31 - 1,
            token_out_type=tf.int32,
        )
        self._max_characters = max_characters
        self._long_word = f"[^ {ASCII_PUNCTUATION}]{{{max_characters + 1},}}"

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Token ids of each text; B and every length may differ from call to call."""
        texts = self._normalizer.normalize(self._with_special_characters(texts))
        texts = tf.strings.regex_replace(texts, self._long_word, self._unknown)
        return self._word_piece.tokenize(texts)

    def with_offsets(self, texts: tf.Tensor) -> tuple:
        """Token ids, and the characters of the text that each token covers.

        Returns:
            `(ids, starts, ends)`, int32 ragged (B, None): [start, end), counted in characters
            (code points) as `tokenizer.encode` counts them.
        """
        texts = self._with_special_characters(as_utf_8(texts))
        normal, way_back = self._normalizer.normalize_with_offsets(texts)
        characters = tf.strings.unicode_decode(normal, "UTF-8")
        first = characters.row_starts()
        # What each normalised character comes from: the rows of the way back are one longer.
        sizes = tf.cast(
            tf.strings.length(tf.strings.unicode_split(normal, "UTF-8")).values, tf.int64
        )
        at = tf.cumsum(sizes, exclusive=True) + characters.value_rowids()
        origins = in_characters(texts, characters.with_values(tf.gather(way_back.values, at)))

        shortened, last = self._without_long_words(characters)
        shortened = tf.strings.unicode_encode(shortened, "UTF-8")
        ids, starts, ends = self._word_piece.tokenize_with_offsets(shortened)
        base = tf.gather(first, ids.value_rowids())
        begin = base + tf.cast(in_characters(shortened, starts), tf.int64)
        end = base + tf.cast(in_characters(shortened, ends), tf.int64) - 1
        ends = tf.gather(origins, tf.maximum(end, tf.gather(last, begin)))
        # A special token is one character here, and the rest of it nothing.
        special = [[ord(character) for character in self._special_characters.values()]]
        rest = [[len(content) - 1 for content in self._special_characters]]
        is_special = tf.gather(characters.values, begin)[:, tf.newaxis] == special
        ends += 1 + tf.reduce_sum(tf.where(is_special, rest, 0), 1)
        return ids, ids.with_values(tf.gather(origins, begin)), ids.with_values(ends)

    def _without_long_words(self, characters: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """The same with the unknown character, then blanks, for words that are too long.

        Args:
            characters: int32 ragged (B, None), code points; N in all.

        Returns:
            The characters, and int64 (N,), the number of the last character of the long word that
            each is in, 0 if in none.
        """
        code, number = characters.values, tf.range(tf.size(characters.values, tf.int64))
        is_cut = tf.reduce_any(code[:, tf.newaxis] == [[ord(c) for c in CUTTING]], 1)
        is_new = is_cut | tf.concat([[True], is_cut], 0)[:-1]
        is_new |= number == tf.gather(characters.row_starts(), characters.value_rowids())
        word = tf.cumsum(tf.cast(is_new, tf.int32)) - 1
        length = tf.math.bincount(word)
        is_long = tf.gather(length, word) > self._max_characters
        last = tf.gather(tf.math.segment_max(number, word), word)
        code = tf.where(is_long, tf.where(is_new, ord(self._unknown), ord(" ")), code)
        return characters.with_values(code), tf.where(is_long, last, 0)

    def _with_special_characters(self, texts: tf.Tensor) -> tf.Tensor:
        """The texts with the names of special tokens as characters."""
        # Few texts name a special token, or hold a private character that would read as one.
        named = "|".join(map(re.escape, self._special_characters))
        return tf.cond(
            tf.reduce_any(
                # \C is any byte: `.` would not go past bytes that are not UTF-8.
                tf.strings.regex_full_match(texts, rf"(?s)\C*(?:{named}|{self._private()})\C*")
            ),
            lambda: self._write_special_characters(texts),
            lambda: texts,
        )

    def _private(self) -> str:
        return f"[{''.join(self._special_characters.values())}{self._rest}]"

    def _write_special_characters(self, texts: tf.Tensor) -> tf.Tensor:
        texts = tf.strings.regex_replace(texts, self._private(), self._spare_character)
        for content, character in self._special_characters.items():
            image = character + self._rest * (len(content) - 1)
            texts = tf.strings.regex_replace(texts, re.escape(content), image)
        return texts


def _check(parts: dict) -> None:
    """Raises InputError unless the graph can do all that the Rust tokenizer does."""
    model = parts["model"]
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    flagged = [token["content"] for token in parts["added_tokens"] if any(map(token.get, flags))]
    max_characters = model["max_input_chars_per_word"]
    long = [piece for piece in model["vocab"] if len(piece.encode()) > MAX_PIECE_BYTES]
    long = [piece for piece in long if _can_be_found(piece, max_characters)]
    for what, found, is_served in (
        ("a BertNormalizer", _kind(parts["normalizer"]), ["BertNormalizer"]),
        ("a BertPreTokenizer", _kind(parts["pre_tokenizer"]), ["BertPreTokenizer"]),
        ("the continuing_subword_prefix '##'", model["continuing_subword_prefix"], ["##"]),
        (f"max_input_chars_per_word under {MAX_REPETITION}", max_characters, range(MAX_REPETITION)),
        (f"added tokens without {', '.join(flags)}", flagged, [[]]),
        (f"pieces of at most {MAX_PIECE_BYTES} bytes", long, [[]]),
    ):
        if found not in is_served:
            refuse(what, found)


def _kind(part: dict | None) -> str | None:
    return part and part["type"]


def _can_be_found(piece: str, max_characters: int) -> bool:
    """Whether a word can be this piece, or hold it."""
    length = len(piece.removeprefix("##"))
    return 0 < length <= max_characters and not any(map(str.isspace, piece))


def _cut_by_tensorflow(alphabet: set[str]) -> list[str]:
    """The characters beyond ASCII at which `FastWordpieceTokenizer` cuts words.

    It goes by ICU's table of punctuation, Rust by an older one, and it cuts at Chinese
    characters whether the tokenizer asks for it or not. Under private names it leaves them be.
    """
    characters = sorted(c for c in alphabet if not c.isascii())
    probe = tf_text.FastWordpieceTokenizer(["[UNK]", "x", "##x"])
    words = tf.constant([f"x{c}x" for c in characters], tf.string)
    lengths = probe.tokenize(words).row_lengths().numpy()
    return [c for c, length in zip(characters, lengths, strict=True) if length > 1]


def _word_boundaries(tokenizer: Tokenizer, written: dict, unknown: str) -> dict[str, str]:
    """White space and punctuation as Rust's pre-tokenizer sees them: how the graph writes them."""
    pieces = set(tokenizer.vocab)
    blanks, cutting = _cutting()
    boundaries = dict.fromkeys(blanks, " ")
    for character in cutting:
        if character not in pieces:
            boundaries[character] = f" {unknown} "
        elif not character.isascii():  # at ASCII's, TensorFlow Text cuts by itself
            boundaries[character] = f" {written[character]} "
    return boundaries


@functools.cache
def _cutting() -> tuple[list[str], list[str]]:
    """The characters that cut words and are in none, and those that are words by themselves."""
    cut, blanks, cutting = pre_tokenizers.BertPreTokenizer(), [], []
    for characters in all_characters():
        text = "a".join(["", *characters, ""])
        words = [word for word, _ in cut.pre_tokenize_str(text)]
        if words != [text]:
            blanks += sorted(set(characters).difference("".join(words)))
            cutting += sorted({word for word in words if len(word) == 1} - {"a"})
    return blanks, cutting


def _normalizer_model(normalizer, written: dict, unknown: str, own: dict) -> tf.Tensor:
    """The model buffer of `FastBertNormalizer` (fast_bert_normalizer.h in TensorFlow Text).

    A trie from a character's bytes to 0x40000000 | offset << 6 | length of what is written for
    it, in bytes of a pool. A character without a value stays as it is. Bytes that break off, or
    begin no character, are looked up too: they are written as U+FFFD is.

    Args:
        normalizer: Rust's.
        written: how the graph writes characters of normalised text; all others are `unknown`.
        own: what is written for the graph's own characters.
    """
    pool, values = bytearray(), {}

    def value(image: str) -> int:
        if image not in values:
            utf8 = image.encode()
            values[image] = 0x40000000 | len(pool) << 6 | len(utf8)
            pool.extend(utf8)
        return values[image]

    of_code = np.full(0x110000, value(unknown), np.int32)
    for character, image in written.items():
        of_code[ord(character)] = value(image) if image != character else 0
    for character, normalized in changed(normalizer).items():
        image = "".join(written.get(c, unknown) for c in normalized)
        of_code[ord(character)] = value(image)
    for character, image in own.items():
        of_code[ord(character)] = value(image)
    broken = int(of_code[0xFFFD]) or value("\ufffd")
    units = double_array(*trie(of_code, broken))

    builder = flatbuffers.Builder(units.nbytes + len(pool))
    trie_offset = builder.CreateNumpyVector(units)
    pool_offset = builder.CreateByteVector(bytes(pool))
    builder.StartObject(4)  # slot 0 tells how the table was made; nothing reads it
    builder.PrependUOffsetTRelativeSlot(1, trie_offset, 0)
    builder.PrependInt32Slot(2, int(of_code[0]), 0)
    builder.PrependUOffsetTRelativeSlot(3, pool_offset, 0)
    builder.Finish(builder.EndObject())
    return tf.constant(np.frombuffer(builder.Output(), np.uint8))
