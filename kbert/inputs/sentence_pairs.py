"""Pairs of sentences from running text, for a model to tell whether they belong together.

next_sentences     half of the pairs follow each other in the text, of half the second is from
                   another document (Devlin et al. 2019, 3.1)
sentence_orders    all follow each other, half are exchanged (Lan et al. 2020, 3.1)
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kbert.errors import InputError

# Where a sentence ends: at white space between .!?… (and a quotation mark) and what is no small
# letter; and after the marks of Chinese and Japanese. The marks come first: a search for them is
# fast, one that looks back at each place is not.
END = re.compile(r"""[.!?…]["'”’»)\]]?(\s+)(?![\sa-zß-öø-ÿ])|[。！？]()""")


class Pair(NamedTuple):
    """Two sentences, and whether they are as the text has them."""

    first: str
    second: str
    is_real: bool


def sentences(text: str) -> list[str]:
    """The sentences of a text, by its punctuation alone: "Mr. Smith" is cut in two."""
    found, begin = [], 0
    for end in END.finditer(text):
        found.append(text[begin : end.start(end.lastindex)])
        begin = end.end()
    return [sentence for sentence in map(str.strip, [*found, text[begin:]]) if sentence]


def documents(lines: Iterable[str]) -> list[list[str]]:
    """The sentences of each document.

    Args:
        lines: of a text in which blank lines part the documents; without any, a line is a document.
    """
    lines = [line.strip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    is_parted, found = "" in lines, [[]]
    for line in lines:
        if not line or not is_parted:
            found.append([])
        found[-1] += sentences(line)
    return [document for document in found if document]


def next_sentences(texts: Sequence[Sequence[str]], seed: int = 0) -> list[Pair]:
    """A pair for every two sentences that follow each other; of half of them the second is another.

    Args:
        texts: documents, the sentences of each.
        seed: of all draws.

    Raises:
        InputError: there are no two documents, or no two sentences in one.
    """
    if len(texts) < 2:
        raise InputError(
            f"expected two documents or more, whose sentences are drawn for the others, came "
            f"{len(texts)}: put a blank line between documents, or one on each line."
        )
    chance = np.random.default_rng(seed)
    pairs = []
    for (number, first, second), is_real in _halved(texts, chance):
        if not is_real:
            other = int(chance.integers(len(texts) - 1))
            drawn = texts[other + (other >= number)]
            second = drawn[int(chance.integers(len(drawn)))]
        pairs.append(Pair(first, second, is_real))
    return pairs


def sentence_orders(texts: Sequence[Sequence[str]], seed: int = 0) -> list[Pair]:
    """A pair for every two sentences that follow each other; half of them are exchanged.

    Args:
        texts: documents, the sentences of each.
        seed: of all draws.

    Raises:
        InputError: there are no two sentences in one document.
    """
    chance = np.random.default_rng(seed)
    return [
        Pair(first, second, True) if is_real else Pair(second, first, False)
        for (_, first, second), is_real in _halved(texts, chance)
    ]


def _halved(texts, chance):
    """Every two neighbours with the number of their document, and whether they shall be real."""
    found = [(n, *two) for n, document in enumerate(texts) for two in pairwise(document)]
    if not found:
        raise InputError(
            f"expected documents of two sentences or more, came {len(texts)} of one at most: a "
            "document's sentences follow each other on a line, or on lines without a blank one "
            "between."
        )
    is_real = chance.permutation(len(found)) % 2 == 0
    return zip(found, is_real.tolist(), strict=True)
