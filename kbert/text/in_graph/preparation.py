"""Texts made ready for SentencePiece's operation, and the way back from there to their characters.

Bytes of no UTF-8 mark what a table of characters cannot tell: where clusters are (clusters.py), and
of blanks before a ▁, whether they are one themselves.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import tensorflow as tf
import tensorflow_text as tf_text

from kbert.text.in_graph.characters import all_characters, ranges
from kbert.text.in_graph.engine import as_utf_8
from kbert.text.in_graph.normalizer import LONE, SPACE, STRIPPED, Table

FIRST_BYTE_OF_NONE = 0xF8  # from here on, bytes are none of UTF-8
# White space to Rust's regular expressions; Python adds four separators.
BLANKS = [c for c in range(0x3001) if chr(c).isspace() and c not in range(0x1C, 0x20)]


@dataclass(frozen=True)
class Prepared:
    """A batch of texts as the operation gets them.

    Attributes:
        texts: string (B,), with bytes that are none of UTF-8.
        source: string (B,), what offsets count in: the same, or the texts as they were before they
            were composed.
        plain: string (B,), the texts as they came, in UTF-8.
        way_back: (B + 1,), from offsets in composed texts, and in one more, to those in `source`;
            None where nothing was composed.
    """

    texts: tf.Tensor
    source: tf.Tensor
    plain: tf.Tensor
    way_back: tf.Tensor | None = None

    def covered(self, starts: tf.RaggedTensor, ends: tf.RaggedTensor) -> tuple:
        """The characters of `source` between offsets in `texts`: (starts, ends), int32 values."""
        if self.way_back is None:
            return in_characters(self.texts, starts), in_characters(self.texts, ends)
        # To Rust, a composed character is the first of those it comes from.
        last = starts.with_values(_last_characters(self.texts, ends))
        size = tf.strings.length(self.source, "UTF8_CHAR")
        size = tf.gather(size, starts.value_rowids())
        starts, last, ends = (self._in_source(offsets) for offsets in (starts, last, ends))
        # Of one that became two, the way back from the second is behind it already.
        is_inside = tf.cast(last.values < ends.values, tf.int32)
        starts, last = (in_characters(self.source, offsets) for offsets in (starts, last))
        # The way back from within marks that changed places is behind them.
        return tf.minimum(starts, size - 1), tf.minimum(last + is_inside, size)

    def blanks_before(self, row: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
        """Where the white space before characters begins: `at` if there is none.

        Args:
            row, at: int32 (N,), numbers of texts, and of characters in them.
        """
        characters = tf.strings.unicode_decode(self.plain, "UTF-8")
        is_blank = tf.reduce_any(characters.values[:, tf.newaxis] == [BLANKS], 1)
        others = tf.where(~is_blank)[:, 0] + 1
        base = tf.gather(characters.row_starts(), row)
        before = tf.searchsorted(others, base + tf.cast(at, tf.int64), side="right")
        last = tf.gather(tf.concat([[0], others], 0), before)
        return tf.cast(tf.maximum(last - base, 0), tf.int32)

    def _in_source(self, offsets: tf.RaggedTensor) -> tf.RaggedTensor:
        offsets = offsets.with_values(_without_marks(self.texts, offsets))
        # The operation stumbles over rows without an offset, and falls over no rows: each row gets
        # an offset more, and there is a row more, which go again.
        ones = tf.zeros([offsets.nrows(), 1], tf.int64)
        offsets = tf.concat([tf.concat([offsets, ones], 1), tf.zeros([1, 1], tf.int64)], 0)
        return tf_text.find_source_offsets(self.way_back, offsets)[:-1, :-1]


class Preparation:
    """What is done to texts before the table."""

    def __init__(
        self, table: Table, special: Mapping[str, str], composes: bool, private: Iterator[str]
    ):
        """Args:
        table: of the normaliser. It gets entries for what stands in for special tokens' names.
        special: the names, and what the table writes for them.
        composes: whether the normaliser composes characters (NFC, NFKC).
        private: characters that no piece holds.
        """
        self._clusters, self._composes = table.clusters, composes
        # SentencePiece drops NUL; to Rust it is a character that no piece holds.
        self._unheld = next(private)
        names = sorted(special, key=len, reverse=True)
        self._names = "|".join(map(re.escape, names))
        self._leading, self._blank = table.leading, table.blank
        self._stand_ins = []
        for name in names if composes else ():
            # As many bytes, so that no offset changes. Nothing becomes one with them.
            private_one = next(private)
            stand_in = private_one + (len(name.encode()) - len(private_one.encode())) * "\x01"
            if marks := _joining(name[-1]):
                self._stand_ins.append((f"{re.escape(name)}([{marks}])", stand_in))
                table.images[stand_in.encode()] = special[name]

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts (B,) as the operation gets them."""
        texts = self._readable(as_utf_8(texts))
        if self._composes:
            texts = tf_text.normalize_utf8(self._without_names(texts), "NFC")
        return self._with_blanks(texts)

    def with_way_back(self, texts: tf.Tensor) -> Prepared:
        """The same, with the way back."""
        plain = as_utf_8(texts)
        texts = self._readable(plain)
        if not self._composes:
            return Prepared(self._with_blanks(texts), texts, plain)
        more = tf.concat([self._without_names(texts), [""]], 0)
        composed, way_back = tf_text.normalize_utf8_with_offsets_map(more, "NFC")
        return Prepared(self._with_blanks(composed[:-1]), texts, plain, way_back)

    def _readable(self, texts: tf.Tensor) -> tf.Tensor:
        if self._clusters:
            texts = self._clusters(texts)
        return tf.strings.regex_replace(texts, r"\x00", self._unheld)

    def _without_names(self, texts: tf.Tensor) -> tf.Tensor:
        """Names of special tokens as others where the character behind would be one with them."""
        for name, stand_in in self._stand_ins:
            texts = tf.strings.regex_replace(texts, name, rf"{stand_in}\1")
        return texts

    def _with_blanks(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts with bytes at blanks before a ▁, which Rust strips or makes a ▁ of their own."""
        if not self._leading:
            return texts
        begin = f"(^|{self._names})" if self._names else "(^)"

        def written():
            stripped = (f"{begin}({self._leading}){SPACE}", rb"\1\2" + STRIPPED + SPACE.encode())
            lone = (f"({self._blank}){SPACE}", LONE + rb"\1" + SPACE.encode())
            found = texts
            for pattern, image in (stripped, lone):
                found = tf.strings.regex_replace(found, pattern, image)
            return found

        has_any = tf.strings.regex_full_match(texts, f"(?s).*{self._blank}{SPACE}.*")
        return tf.cond(tf.reduce_any(has_any), written, lambda: texts)


def _joining(character: str) -> str:
    """The characters that become one with a character before them, as ranges."""

    def joins(other: str) -> bool:
        return len(unicodedata.normalize("NFC", character + other)) == 1

    return ranges(ord(c) for some in all_characters() for c in some if joins(c))


def in_characters(texts: tf.Tensor, offsets: tf.RaggedTensor) -> tf.Tensor:
    """Offsets in bytes (B, None) as offsets in code points, the values alone, int32.

    Args:
        texts: string (B,) of UTF-8, and of bytes that are none of it and do not count.
        offsets: ragged, between characters.
    """
    byte, base = _bytes(texts, offsets)
    is_first = (byte // 64 != 2) & (byte < FIRST_BYTE_OF_NONE)  # 10xxxxxx go on with one
    before = tf.cumsum(tf.cast(is_first, tf.int32), exclusive=True)
    return tf.gather(before, base + tf.cast(offsets.values, tf.int64)) - tf.gather(before, base)


def _without_marks(texts: tf.Tensor, offsets: tf.RaggedTensor) -> tf.Tensor:
    """Offsets in bytes, but for those that are none of UTF-8; the values alone, int64."""
    byte, base = _bytes(texts, offsets)
    before = tf.cumsum(tf.cast(byte < FIRST_BYTE_OF_NONE, tf.int64), exclusive=True)
    return tf.gather(before, base + tf.cast(offsets.values, tf.int64)) - tf.gather(before, base)


def _last_characters(texts: tf.Tensor, ends: tf.RaggedTensor) -> tf.Tensor:
    """Where the characters before offsets in bytes begin; the values alone, int64."""
    byte, base = _bytes(texts, ends)
    is_first = byte // 64 != 2
    number = tf.cumsum(tf.cast(is_first, tf.int64)) - 1
    at = tf.maximum(base + tf.cast(ends.values, tf.int64) - 1, base)
    return tf.gather(tf.where(is_first)[:, 0], tf.gather(number, at)) - base


def _bytes(texts: tf.Tensor, offsets: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """All bytes of texts, int32, with one more at the end, and where each offset's text begins."""
    sizes = tf.cast(tf.strings.length(texts), tf.int64)
    together = tf.strings.join([tf.strings.reduce_join(texts), b"\0"])
    byte = tf.cast(tf.io.decode_raw(together, tf.uint8), tf.int32)
    return byte, tf.gather(tf.cumsum(sizes, exclusive=True), offsets.value_rowids())
