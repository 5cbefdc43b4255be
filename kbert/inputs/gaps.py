"""Gaps of a text: the places that a model is asked to fill, and how a text reads when they are.

Letters: B rows in a batch, T tokens in a row, M places in a row, padded.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from kbert.inputs.packer import Packer
from kbert.inputs.windows import packed_windows

# Chinese, as BERT's tokenizer has it (google-research/bert, tokenization.py), a little rounder.
IDEOGRAPH = "[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]"
PLACES = "masked_positions"  # the model's input, see `heads.masked_lm`


@dataclass(frozen=True)
class GapPacker:
    """Pads rows that have places: (token ids, segment ids, places), the columns that are asked.

    Args:
        packer: packs texts and pads the rest.
        places: length of a row → M, where it shall depend on that alone (XLA compiles each pair of
            sizes); None for as many as a batch needs, rounded up to a power of two.
    """

    packer: Packer
    places: Callable[[int], int] | None = None

    @property
    def max_length(self) -> int:
        return self.packer.max_length

    def pad(self, rows: Sequence[tuple], length: int) -> dict[str, np.ndarray]:
        """`Packer.pad`, and `masked_positions` int32 (B, M): a row's places, then zeros. M ≥ 1."""
        batch = self.packer.pad([row[:2] for row in rows], length)
        most = max((len(row[2]) for row in rows), default=1)
        size = self.places(length) if self.places else 1 << max(most - 1, 0).bit_length()
        batch[PLACES] = np.zeros((len(rows), size), np.int32)
        for number, row in enumerate(rows):
            batch[PLACES][number, : len(row[2])] = row[2]
        return batch


class Gap(NamedTuple):
    """A gap of a text.

    Attributes:
        text: the number of the text.
        start, end: its characters [start, end).
    """

    text: int
    start: int
    end: int


def packed_gaps(packer: Packer, texts: Sequence[str], tokenizer) -> tuple[list, list[list[Gap]]]:
    """The gaps of texts, each in a row with as much of the text around it as there is room for.

    Args:
        packer: a longer text becomes windows that share half of their tokens, each asked for the
            gaps that it sees best. Windows without gaps are left out.
        texts: with the name of the tokenizer's mask token ([MASK], <mask>) where a word is asked.

    Returns:
        (rows, gaps): rows with places, for `GapPacker`; and for each row the gaps at its places.
    """
    mask_id = tokenizer.special_id("mask_token")
    encodings = tokenizer.encode(texts)
    rows, gaps = [], []
    ids = (encoding.ids for encoding in encodings)
    for window, row in packed_windows(packer, ids, stride_of(packer)):
        own = range(window.own_start, window.own_end)
        encoding = encodings[window.text]
        asked = [token for token in own if encoding.ids[token] == mask_id]
        if asked:
            shift = window.column - window.start
            rows.append((*row, [token + shift for token in asked]))
            found = [encoding.offsets[token] for token in asked]
            name = tokenizer.special_tokens["mask_token"]
            gaps.append([_gap(window.text, texts[window.text], *x, name) for x in found])
    return rows, gaps


def stride_of(packer: Packer) -> int:
    """Half of a full window: so every token has a quarter of the window on either side."""
    return packer.room() // 2


def _gap(number: int, text: str, start: int, end: int, name: str) -> Gap:
    # RoBERTa's <mask> takes in the blanks before it.
    return Gap(number, end - len(name) if text[start:end].endswith(name) else start, end)


# How a text reads


def reader(tokenizer) -> Callable[[int], str]:
    """Token id → how it reads behind a word: " cat" begins a word, "s" goes on with one."""
    before = tokenizer(["a"])[0][:1] or [0]

    @cache
    def read(token_id: int) -> str:
        both = tokenizer.decode([*before, token_id], skip_special_tokens=False)
        return both[len(tokenizer.decode(before, skip_special_tokens=False)) :]

    return read


def filled(text: str, gap: Gap, surface: str) -> str:
    """The text with a token in its gap.

    Args:
        surface: of `reader`. A word that it begins stands behind the blank that is there, and gets
            one where it would run into a word; what goes on with a word stands right behind it.
    """
    before, after = text[: gap.start].rstrip(), text[gap.end :]
    if not surface.startswith(" "):
        return before + surface + after
    blank, word = text[len(before) : gap.start], surface[1:]
    if not blank and is_of_word(before[-1:]) and is_of_word(word[:1]):
        blank = " "
    return before + blank + word + after


def is_of_word(character: str) -> bool:
    """Whether words are made of it: a letter or digit, but no ideograph, which is a word itself."""
    return character.isalnum() and not re.match(IDEOGRAPH, character)
