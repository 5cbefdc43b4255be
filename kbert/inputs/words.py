"""Texts as words and their tokens, for labels of words: a word's label is that of its first token.

    text      Barack Obama nasceu no Havaí.             characters of a word: [starts, ends)
    tokens    Barack Obama nasceu no Ha ##vaí .         first: 0 1 2 3 4 6

A text that comes as words keeps them. One that comes whole is split as its tokenizer's
pre-tokenizer does; where that splits at white space alone (SentencePiece), punctuation is split
off besides, as BERT's does, so that a name does not end in the comma behind it.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
from tokenizers import models

from kbert.errors import InputError
from kbert.inputs.packer import Packer, Row
from kbert.inputs.tags import Entity, entities, written
from kbert.inputs.windows import Window, packed_windows

ASCII_SYMBOLS = "$+<=>^`|~"  # punctuation to BERT, beside Unicode's


@dataclass(frozen=True)
class Sentence:
    """A text as W words, F of them with tokens.

    Attributes:
        text: as it came; of words, these with a blank between.
        ids: the token ids, without special tokens.
        first: int (F,), the tokens with which words begin.
        words: int (F,), the words that begin there. Others have no token: nothing is left of them
            when the tokenizer has cleaned the text.
        starts, ends: int (W,), the characters [start, end) of each word in the text.
        given: whether it came as words.
    """

    text: str
    ids: list[int]
    first: np.ndarray
    words: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    given: bool

    def __len__(self) -> int:
        return len(self.starts)


def sentences(inputs: Sequence[str | Sequence[str]], tokenizer) -> list[Sentence]:
    """Texts, each a string or a sequence of words → sentences, in their order."""
    found: list = [None] * len(inputs)
    for is_given, build in ((False, _split), (True, _given)):
        places = [n for n, text in enumerate(inputs) if isinstance(text, str) is not is_given]
        texts = [inputs[n] for n in places]
        for place, text, encoding in zip(places, texts, tokenizer.encode(texts), strict=True):
            found[place] = build(text, encoding, tokenizer)
    return found


def packed_sentences(
    packer: Packer, found: Sequence[Sentence], stride: int | None
) -> Iterator[tuple[Window, Row]]:
    """Sentences as packed rows: one each, cut to its beginning; with a stride, in windows."""
    room = packer.room() if stride is None else None
    yield from packed_windows(packer, (sentence.ids[:room] for sentence in found), stride or 0)


def tags_with_tokens(sentence: Sentence, tags: Sequence[str], where: str) -> list[str]:
    """The tags of the words that have tokens: an entity begins with the first of those.

    Args:
        where: which sentence it is, for errors.

    Raises:
        InputError: none of an entity's words has one.
    """
    place = {word: n for n, word in enumerate(sentence.words.tolist())}
    kept = []
    for entity in entities(tags):
        covered = [place[word] for word in range(entity.start, entity.end) if word in place]
        if not covered:
            start, end = sentence.starts[entity.start], sentence.ends[entity.end - 1]
            raise InputError(
                f"{where}: no token covers the entity {sentence.text[start:end]!r} "
                f"({entity.type}), so that nothing can carry its label: the tokenizer reads it as "
                "nothing. Make its words O, or take them out."
            )
        kept.append(Entity(entity.type, covered[0], covered[-1] + 1))
    return written(kept, len(place))


def _given(words: Sequence[str], encoding, tokenizer) -> Sentence:
    words = list(words)
    lengths = np.array([len(word) for word in words], np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    numbers = np.array(encoding.words, np.int64)
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    return Sentence(
        " ".join(words), encoding.ids, first, numbers[first], starts, starts + lengths, True
    )


def _split(text: str, encoding, tokenizer) -> Sentence:
    offsets = encoding.offsets
    if splits_like_bert(tokenizer):
        first = np.flatnonzero(np.diff(encoding.words, prepend=-1))
    else:
        offsets = [_trimmed(text, *offset) for offset in offsets]
        first = np.array(list(_beginnings(text, offsets)), np.int64)
    starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    ends = np.maximum.reduceat(ends, first) if len(first) else ends[:0]
    return Sentence(text, encoding.ids, first, np.arange(len(first)), starts[first], ends, False)


def splits_like_bert(tokenizer) -> bool:
    """Whether the tokenizer's words end at punctuation, and no piece begins within one."""
    return isinstance(tokenizer.rust.model, models.WordPiece)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters of a token without white space around them: byte-level BPE has it before."""
    covered = text[start:end]
    if not covered.strip():
        return 0, 0
    return start + len(covered) - len(covered.lstrip()), end - len(covered) + len(covered.rstrip())


def _beginnings(text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[int]:
    """The tokens with which words begin: after white space, at punctuation and after it."""
    end_before = -1
    for token, (start, end) in zip(count(), offsets):
        if end <= start:
            continue  # white space alone
        is_apart = start > end_before or (
            start == end_before and (is_punctuation(text[start]) or is_punctuation(text[start - 1]))
        )
        if is_apart:
            yield token
        end_before = max(end, end_before)


@cache
def is_punctuation(character: str) -> bool:
    """Whether BERT takes the character for punctuation (google-research/bert, tokenization.py)."""
    return unicodedata.category(character).startswith("P") or character in ASCII_SYMBOLS
