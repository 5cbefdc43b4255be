"""Two tokenizers on the same texts: what differs, of which kind, how often."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

Ids = Callable[[list[str]], list[list[int]]]
"""Texts to ids, without special tokens."""


@dataclass(frozen=True)
class Known:
    """A difference that is a library's own, and cannot be mended here.

    Args:
        name: what differs, and why.
        side: "eager" (against transformers) or "in graph" (against eager).
        other: another reading of the same files by a library; a difference is this one where
            kbert's ids are exactly the other's.
    """

    name: str
    side: str
    other: Ids


@dataclass
class Tally:
    """What was compared for one tokenizer on one side."""

    tokenizer: str
    side: str
    known: Sequence[Known] = ()
    strings: int = 0
    seconds: float = 0.0
    kinds: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=dict)
    unexplained: int = 0

    def add(self, kind: str, texts: list, expected: list[list[int]], came: list[list[int]]) -> None:
        """Compares the ids of texts, all of one kind; `expected` are the reference's."""
        self.strings += len(texts)
        if expected == came:
            return
        for text, theirs, ours in zip(texts, expected, came, strict=True):
            if theirs != ours:
                self._differs(kind, text, theirs, ours)

    def _differs(self, kind: str, text, theirs: list[int], ours: list[int]) -> None:
        explained = [k for k in self.known if k.side == self.side and k.other([text]) == [ours]]
        self.unexplained += not explained
        kind = f"known: {explained[0].name}" if explained else f"UNEXPLAINED, {kind}"
        self.kinds[kind] += 1
        if kind not in self.examples:
            self.examples[kind] = example(text, theirs, ours)

    @property
    def mismatches(self) -> int:
        return self.kinds.total()

    def lines(self) -> Iterable[str]:
        """The rows of the table."""
        yield (
            f"{self.tokenizer:20} {self.side:9} {self.strings:>10,} {self.mismatches:>10,} "
            f"{self.seconds:>8.1f} s"
        )
        for kind, count in self.kinds.most_common():
            yield f"    {count:,} × {kind}; first: {self.examples[kind]}"


HEADER = f"{'tokenizer':20} {'side':9} {'strings':>10} {'mismatches':>10} {'time':>10}"


def example(text, theirs: list[int], ours: list[int]) -> str:
    """The place where two lists of ids part, with the text, shortened."""
    place = next(
        (i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b),
        min(len(theirs), len(ours)),
    )
    around = slice(max(0, place - 2), place + 4)
    shown = ascii(text)
    shown = shown if len(shown) <= 120 else f"{shown[:120]}… ({len(text)} long)"
    return f"{shown}: expected …{theirs[around]}…, came …{ours[around]}… (from id {around.start})"


def ragged_to_lists(ragged) -> list[list[int]]:
    """A `tf.RaggedTensor` (B, None) as lists, faster than its own `to_list`."""
    values, splits = ragged.values.numpy().tolist(), ragged.row_splits.numpy().tolist()
    return [values[a:b] for a, b in zip(splits, splits[1:], strict=False)]


def utf8(texts: list[str]) -> np.ndarray:
    """Strings as the bytes that TensorFlow takes."""
    return np.array([text.encode() for text in texts], object)
