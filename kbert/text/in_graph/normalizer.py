"""Rust's normaliser as a table of characters, for SentencePiece's operation."""

import functools
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import tokenizers
from tokenizers import pre_tokenizers

from kbert.text.in_graph.characters import CHUNK, all_characters, changed, normalize_each, ranges
from kbert.text.in_graph.clusters import BEGIN, END, Clusters

SPACE = "\u2581"  # ▁, what a word begins with
# Bytes that no UTF-8 has: behind blanks that Rust strips, before one that is a ▁ of its own.
STRIPPED, LONE = b"\xfc", b"\xfb"
UNSEEN = {BEGIN, END, STRIPPED}  # nothing is written for them


@dataclass(frozen=True)
class Marks:
    """Private characters with a meaning in the graph.

    Attributes:
        separator: between words.
        space: a ▁ of the text itself; it begins a word.
        composed: behind what a few characters became; to Rust it covers the first of them.
        replaced: behind what a few were replaced by; to Rust it covers the last.
        nothing: what a character became that the normaliser drops.
        unseen: what a byte became that stands beside characters.
        special: of each special token's name.
    """

    separator: str
    space: str
    composed: str
    replaced: str
    nothing: str
    unseen: str
    special: dict[str, str]

    def without_offsets(self, image: str) -> str:
        """What is written where only the words matter."""
        return image.translate(dict.fromkeys(map(ord, [self.composed, self.replaced])))

    @property
    def whole(self) -> list[str]:
        """What is a piece of its own where texts are cut into words."""
        return [self.separator, *self.special.values()]


def parts_of(part: dict | None) -> dict[str, list[dict]]:
    """The steps of a normaliser or pre-tokenizer, by type, in their order."""
    if part is None:
        return {}
    steps = part.get("normalizers") or part.get("pretokenizers") or [part]
    return {kind: [s for s in steps if s["type"] == kind] for kind in [s["type"] for s in steps]}


class Table:
    """What the graph writes for characters, one or a few, that do not stay as they are.

    Attributes:
        images: from the bytes of characters to what is written for them.
        clusters: `Clusters` of the texts that are looked up, or None where Rust needs none.
        blank: where a blank too is a ▁ if one stands behind it, a regular expression of a blank;
            else None.
        leading: the same of blanks that Rust strips, at the beginning of a text.
    """

    def __init__(self, rust: tokenizers.Tokenizer, marks: Marks, private: Iterator[str]):
        """Args:
        private: characters that no piece holds, and `marks` has not.
        """
        parts = json.loads(rust.to_str())
        self._rust, self._marks, self._spare = rust, marks, next(private)
        self._spaces = _spaces(parts)
        normal = changed(rust.normalizer)
        concerned = {*normal, *self._spaces, *self._meant, SPACE} - {"\0"}
        self.images = {c.encode(): self._written(normal.get(c, c)) for c in concerned}
        self.leading = self.blank = None
        if SPACE in normal.get(SPACE, SPACE) and "WhitespaceSplit" not in _splits(parts):
            blanks = [" ", *(c for c, image in normal.items() if image == " ")]
            nothing = [c for c, image in normal.items() if not image]
            self.blank = f"[{ranges(map(ord, blanks))}]"
            self.leading = f"[{ranges(map(ord, blanks + nothing))}]+"
            self.images |= {LONE + c.encode(): marks.separator + marks.space for c in blanks}
            self.images[STRIPPED] = ""
        steps = parts_of(parts["normalizer"])
        composed = self._composed(normal)
        for step in steps.get("Replace", []):
            if text := step["pattern"].get("String"):
                whole = normalize_each(rust.normalizer, [text])[0]
                self.images[text.encode()] = self._written(whole) + marks.replaced
        self.images |= {content.encode(): mark for content, mark in marks.special.items()}
        self.clusters = None
        if next(iter(steps), None) == "Precompiled":
            self.clusters = Clusters([*normal], composed, marks.special, private)
            composed = {}
            self.images |= self.clusters.images
        self.images |= {text.encode(): image for text, image in composed.items()}

    @property
    def _meant(self) -> set[str]:
        meant = {mark for mark in vars(self._marks).values() if isinstance(mark, str)}
        return meant | set(self._marks.special.values())

    def _written(self, text: str) -> str:
        text = "".join(self._spare if c in self._meant else c for c in text)
        text = "".join(self._marks.separator if c in self._spaces else c for c in text)
        return text.replace(SPACE, self._marks.separator + self._marks.space)

    def _composed(self, normal: dict[str, str]) -> dict[str, str]:
        """Characters with marks that become other than one by one, and what is written."""
        texts, images = _pairs_and_triples(), []
        for first in range(0, len(texts), CHUNK):
            images += normalize_each(self._rust.normalizer, texts[first : first + CHUNK])
        return {
            text: self._written(image) + self._marks.composed
            for text, image in zip(texts, images, strict=True)
            if image != "".join(normal.get(c, c) for c in text)
        }


def _splits(parts: dict) -> dict[str, list[dict]]:
    return parts_of(parts["pre_tokenizer"])


def _spaces(parts: dict) -> set[str]:
    """The characters that end a word and belong to none."""
    if "WhitespaceSplit" not in _splits(parts):
        return {" "}
    spaces = set()
    for characters in all_characters():
        words = pre_tokenizers.WhitespaceSplit().pre_tokenize_str("".join(characters))
        spaces |= set(characters).difference("".join(word for word, _ in words))
    return spaces


@functools.cache
def _pairs_and_triples() -> list[str]:
    """Canonical decompositions, their marks in other orders, and marks that mean the same."""
    texts = set()
    for characters in all_characters():
        for character in characters:
            if len(decomposed := unicodedata.normalize("NFD", character)) > 1:
                base, *marks = decomposed
                texts.add(decomposed)
                texts.add("".join([base, *reversed(marks)]))
                texts.update(base + mark for mark in marks)
                texts.add(unicodedata.normalize("NFC", decomposed[:-1]) + decomposed[-1])
    others = {"\u0300": "\u0340", "\u0301": "\u0341", "\u0313": "\u0343", "\u0308\u0301": "\u0344"}
    for mark, other in others.items():
        texts |= {text.replace(mark, other) for text in texts}
    return sorted(text for text in texts if len(text) > 1)
