"""Two tokenizers on the same texts: what differs, of which kind, how often."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

Ids = Callable[[list[str]], list[list[int]]]
"""Texts to ids, without special tokens."""


@dataclass(frozen=True)
class Known:
    """A difference that is a library's own, and cannot be mended here.

    Args:
        name: what differs, and why.
        side: "eager" (against transformers), "in graph" or "offsets" (against eager).
        explains: of a text, the reference's ids and kbert's, whether this is the difference.
        most: how often it may be found in one run, or None where `explains` leaves no doubt.
    """

    name: str
    side: str
    explains: Callable[[str, list, list], bool]
    most: int | None = None


def reads_as(other: Ids) -> Callable[[str, list, list], bool]:
    """For `Known.explains`: kbert's ids are those of another reading of the same files."""
    return lambda text, theirs, ours: other([text]) == [ours]


@dataclass
class Tally:
    """What was compared for one tokenizer on one side.

    `unexplained` counts the differences that are not known ones, or are more than known.
    """

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
        mine = (known for known in self.known if known.side == self.side)
        known = next((known for known in mine if known.explains(text, theirs, ours)), None)
        if known is None:
            kind = f"UNEXPLAINED, {kind}"
        elif known.most is None:
            kind = f"known: {known.name}"
        else:
            kind = f"known, at most {known.most:,}: {known.name}"
        self.kinds[kind] += 1
        is_too_many = known is not None and known.most is not None and self.kinds[kind] > known.most
        self.unexplained += known is None or is_too_many
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
