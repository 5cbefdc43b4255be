"""Characters with marks behind them, as Rust looks them up in a SentencePiece file's table.

SentencePiece takes the longest entry of its table that a text goes on with. Rust's `Precompiled`
(the crate spm_precompiled) goes by clusters, a character and the marks behind it. For a cluster of
up to five bytes it takes the shortest entry that begins it: of `e` and a tilde that is `ẽ`, of `²`
and a tilde `2`, and the tilde is gone. Of a longer one it looks up each character by itself.

So the graph puts a byte before and behind every cluster, where a text has any: the entries of
composed characters begin and end with them. A third stands before each mark that goes.

One thing differs. Where a character of which several are written (`½`) loses its mark, Rust counts
the second of them as the mark's; in the graph all cover the character.
"""

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

import tensorflow as tf
from tokenizers import normalizers

from kbert.text.in_graph.characters import all_characters, normalize_each, precompiled, ranges

BEGIN, END, GOES = b"\xff", b"\xfe", b"\xfd"  # no UTF-8 has them
MOST_BYTES = 5  # of a cluster that is looked up whole
# A mark of two bytes to try with, one with an entry in tables, and what stands for an entry.
ACUTE, DIALYTIKA_TONOS, FOUND = "\u0301", "\u0344", "b"


class Clusters:
    """Where texts have clusters: where they begin and end, and what of them goes."""

    def __init__(
        self,
        entries: Collection[str],
        composed: Mapping[str, str],
        names: Mapping[str, str],
        private: Iterator[str],
    ):
        """Args:
        entries: the characters that the table has an entry for.
        composed: characters with marks, up to five bytes, and what is written for them.
        names: of special tokens, into which no cluster reaches, and what is written for them.
        private: characters that no piece holds.
        """
        self._begin, self._end, self._goes, self._spare = (next(private) for _ in range(4))
        marks, controls, prepended = kinds()
        behind = {size: [m for m in marks if len(m.encode()) == size] for size in (2, 3, 4)}
        self._mark = _one_of(marks)
        first = [re.escape(name) for name in sorted(names, key=len, reverse=True)]
        any_cluster = f"{_one_of(prepended)}*[^{ranges(map(ord, controls))}]{self._mark}+"
        self._cluster = "|".join([*first, any_cluster])
        self._losing = self._losing_a_mark(entries, composed, behind)
        self.images = {BEGIN + text.encode() + END: image for text, image in composed.items()}
        self.images |= {BEGIN + name.encode() + END: image for name, image in names.items()}
        self.images |= {GOES + mark.encode(): "" for mark in marks} | {BEGIN: "", END: ""}

    def _losing_a_mark(self, entries, composed, behind: dict[int, list[str]]) -> list[str]:
        """Regular expressions for an entry that begins a cluster, and for what of it goes."""
        by_size = {size: [e for e in entries if len(e.encode()) == size] for size in (1, 2, 3)}
        mark = {size: _one_of(marks) for size, marks in behind.items()}
        rest = {1: f"{mark[2]}{{1,2}}|{mark[3]}|{mark[4]}", 2: f"{mark[2]}|{mark[3]}", 3: mark[2]}
        parts = [f"({_one_of(some)})({rest[size]})" for size, some in by_size.items() if some]
        if some := [text for text in composed if len(text.encode()) == MOST_BYTES - 2]:
            parts.append(f"({'|'.join(map(re.escape, some))})({mark[2]})")
        return parts

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts (B,) with bytes at their clusters."""
        has_any = tf.strings.regex_full_match(texts, f"(?s).*{self._mark}.*")
        return tf.cond(tf.reduce_any(has_any), lambda: self._with_bytes(texts), lambda: texts)

    def _with_bytes(self, texts: tf.Tensor) -> tf.Tensor:
        begin, end, goes = self._begin, self._end, self._goes
        replace = tf.strings.regex_replace
        texts = replace(texts, f"[{begin}{end}{goes}]", self._spare)
        texts = replace(texts, self._cluster, rf"{begin}\0{end}")
        for part in self._losing:
            texts = replace(texts, f"{begin}{part}{end}", rf"{begin}\1{end}{goes}\2{end}")
        texts = replace(texts, f"({goes}{self._mark})({self._mark})", rf"\1{goes}\2")
        for character, byte in ((begin, BEGIN), (end, END), (goes, GOES)):
            texts = replace(texts, character, byte)
        return texts


@functools.cache
def kinds() -> tuple[list[str], list[str], list[str]]:
    """Characters as Rust joins them.

    Returns:
        The marks, which are one cluster with what is before them; the characters that have no
        marks, such as controls; and those that are one with what is behind them.
    """
    marks = _normalized_to("a", lambda c: f"a{c}", lambda c: FOUND)
    alone = _normalized_to(
        DIALYTIKA_TONOS, lambda c: c + DIALYTIKA_TONOS + ACUTE, lambda c: c + FOUND
    )
    prepended = _normalized_to("e" + ACUTE, lambda c: f"{c}e{ACUTE}", lambda c: f"{c}e{ACUTE}")
    return marks, alone, prepended


def _normalized_to(entry: str, text_of, image_of) -> list[str]:
    """The characters whose text a table with one entry, to FOUND, makes the image of."""
    normalizer = normalizers.Precompiled(precompiled({entry.encode(): FOUND}))
    found = []
    for characters in all_characters():
        images = normalize_each(normalizer, [text_of(c) for c in characters])
        found += [c for c, i in zip(characters, images, strict=True) if i == image_of(c)]
    return found


def _one_of(characters: Iterable[str]) -> str:
    return f"[{ranges(map(ord, characters))}]"
