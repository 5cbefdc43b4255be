"""Rust's normaliser as a table of characters, for SentencePiece's operation."""

import unicodedata
from dataclasses import dataclass

import tokenizers
from tokenizers import pre_tokenizers

from kbert.text.in_graph.characters import PRIVATE_USE, all_characters, normalize_each

SPACE = "\u2581"  # ▁, what a word begins with


@dataclass(frozen=True)
class Marks:
    """Private characters with a meaning in the graph.

    Attributes:
        separator: between words.
        space: a ▁ of the text itself; it begins a word.
        composed: behind what a few characters became; to Rust it covers the first of them.
        replaced: behind what a few were replaced by; to Rust it covers the last.
        nothing: what a character became that the normaliser drops.
        special: of each special token's name.
    """

    separator: str
    space: str
    composed: str
    replaced: str
    nothing: str
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


def images_of(
    rust: tokenizers.Tokenizer, parts: dict, marks: Marks, alphabet: set[str]
) -> dict[bytes, str]:
    """What the graph writes for characters, one or a few, that do not stay as they are."""
    spaces = _spaces(parts)
    free = {chr(code) for code in PRIVATE_USE} - alphabet
    meant = {mark for mark in vars(marks).values() if isinstance(mark, str)}
    meant |= set(marks.special.values())
    spare = next(c for c in sorted(free) if c not in meant)

    def written(text: str) -> str:
        text = "".join(spare if c in meant else c for c in text)
        text = "".join(marks.separator if c in spaces else c for c in text)
        return text.replace(SPACE, marks.separator + marks.space)

    normal = {}
    for characters in all_characters():
        normal.update(zip(characters, normalize_each(rust.normalizer, characters), strict=True))
    found = {c.encode(): written(n) for c, n in normal.items() if written(n) != c and c != "\0"}
    if SPACE in normal[SPACE] and "WhitespaceSplit" not in parts_of(parts["pre_tokenizer"]):
        # A blank is a ▁ too, which a ▁ behind it leaves alone.
        blanks = [c for c, image in normal.items() if image == " "]
        found |= {(c + SPACE).encode(): 2 * (marks.separator + marks.space) for c in blanks}
    for text in _pairs_and_triples():
        whole = normalize_each(rust.normalizer, [text])[0]
        if whole != "".join(normal[c] for c in text):
            found[text.encode()] = written(whole) + marks.composed
    for step in parts_of(parts["normalizer"]).get("Replace", []):
        if text := step["pattern"].get("String"):
            whole = normalize_each(rust.normalizer, [text])[0]
            found[text.encode()] = written(whole) + marks.replaced
    return found | {content.encode(): mark for content, mark in marks.special.items()}


def _spaces(parts: dict) -> set[str]:
    """The characters that end a word and belong to none."""
    if "WhitespaceSplit" not in parts_of(parts["pre_tokenizer"]):
        return {" "}
    spaces = set()
    for characters in all_characters():
        words = pre_tokenizers.WhitespaceSplit().pre_tokenize_str("".join(characters))
        spaces |= set(characters).difference("".join(word for word, _ in words))
    return spaces


def _pairs_and_triples() -> set[str]:
    """Canonical decompositions, and their marks in other orders."""
    texts = {"\r\n"}
    for characters in all_characters():
        for character in characters:
            if len(decomposed := unicodedata.normalize("NFD", character)) > 1:
                base, *marks = decomposed
                texts.add(decomposed)
                texts.add("".join([base, *reversed(marks)]))
                texts.update(base + mark for mark in marks)
                texts.add(unicodedata.normalize("NFC", decomposed[:-1]) + decomposed[-1])
    return {text for text in texts if len(text) > 1}
