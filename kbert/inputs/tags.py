"""Tags of words in their schemes, and the entities that they mark.

    words     Barack  Obama   nasceu  no  Havaí
    IOB1      I-PER   I-PER   O       O   I-LOC     B- only where a neighbour has the same type
    IOB2      B-PER   I-PER   O       O   B-LOC     B- begins every entity
    BIOES     B-PER   E-PER   O       O   S-LOC     E- ends it, S- stands alone

All three are read by one rule, that of conlleval and seqeval. So a scheme is how entities are
written, and tags break it where it would write others.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from kbert.errors import InputError

SCHEMES = ("IOB2", "IOB1", "BIOES")
NAMED = 5  # tags in an error about many


class Entity(NamedTuple):
    """The words [start, end) of a sentence and the type of what they name."""

    type: str
    start: int
    end: int


@lru_cache(maxsize=1024)
def split_tag(tag: str) -> tuple[str, str]:
    """("B", "PER") of "B-PER", ("O", "") of "O"; what has no prefix is inside of its own type."""
    prefix, _, kind = tag.partition("-")
    if prefix in ("B", "I", "E", "S") and kind:
        return prefix, kind
    return ("O", "") if tag == "O" else ("I", tag)


def entities(tags: Iterable[str]) -> list[Entity]:
    """The entities of one sentence, by conlleval's rule, which takes every sequence of tags.

    An entity begins with B- or S-, after E- or S-, and where the type is not that of the word
    before; it ends before the next one or an O.
    """
    found, open_since = [], None
    before, type_before = "O", ""
    for place, tag in enumerate(tags):
        prefix, kind = split_tag(tag)
        begins = prefix != "O" and (
            prefix in "BS" or before in ("O", "E", "S") or kind != type_before
        )
        if open_since is not None and (begins or prefix == "O"):
            found.append(Entity(type_before, open_since, place))
            open_since = None
        if begins:
            open_since = place
        before, type_before = prefix, kind
    if open_since is not None:
        found.append(Entity(type_before, open_since, place + 1))
    return found


def written(marked: Iterable[Entity], num_words: int, scheme: str = "IOB2") -> list[str]:
    """The tags of a sentence's entities, which are in their order and share no word."""
    tags, last = ["O"] * num_words, Entity("", 0, 0)
    for entity in marked:
        kind, start, end = entity
        prefixes = ["I"] * (end - start)
        if scheme == "BIOES":
            prefixes[0], prefixes[-1] = "B", "E"
            prefixes = ["S"] if end - start == 1 else prefixes
        elif scheme == "IOB2" or (last.type, last.end) == (kind, start):
            prefixes[0] = "B"
        tags[start:end] = [f"{prefix}-{kind}" for prefix in prefixes]
        last = entity
    return tags


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Tags of any scheme → IOB2."""
    return written(entities(tags), len(tags))


def from_iob2(tags: Sequence[str], scheme: str) -> list[str]:
    """Tags in IOB2 → another scheme."""
    return written(entities(tags), len(tags), scheme)


def breaks(tags: Sequence[str], scheme: str) -> list[int]:
    """The words whose tags a scheme would not write for the entities of the sentence.

    In IOB1 a B- that need not be one is none of them: it says what I- would say, and
    CoNLL-2003's own training file has two.
    """
    due = from_iob2(tags, scheme)
    places = [place for place, tag in enumerate(tags) if tag != due[place]]
    if scheme != "IOB1":
        return places
    return [place for place in places if tags[place] != f"B{due[place][1:]}"]


def scheme_of(sentences: Sequence[Sequence[str]]) -> str:
    """The scheme that most tags keep. Whole sentences with an entity keep one alone."""
    differ = dict.fromkeys(SCHEMES, 0)
    for tags in sentences:
        if marked := entities(tags):
            for scheme in SCHEMES:
                due = written(marked, len(tags), scheme)
                differ[scheme] += sum(map(str.__ne__, tags, due))
    return min(SCHEMES, key=differ.get)


def as_iob2(
    sentences: Sequence[Sequence[str]],
    where: Callable[[int, int], str],
    repair: bool = False,
) -> list[list[str]]:
    """The tags of a file in IOB2, from whichever scheme they are in.

    Args:
        sentences: the tags of each.
        where: the numbers of a sentence and of a word → where that stands, in words.
        repair: take tags that break their scheme as conlleval does.

    Raises:
        InputError: tags break their scheme.
    """
    scheme = scheme_of(sentences)
    broken = [
        (number, place) for number, tags in enumerate(sentences) for place in breaks(tags, scheme)
    ]
    if broken and not repair:
        raise InputError(_broken(sentences, broken, scheme, where))
    return [to_iob2(tags) for tags in sentences]


def _broken(sentences, broken, scheme: str, where) -> str:
    def described(number: int, place: int) -> str:
        before = repr(sentences[number][place - 1]) if place else "nothing"
        return f"{where(number, place)}: {sentences[number][place]!r} after {before}"

    named = "; ".join(described(*at) for at in broken[:NAMED])
    return (
        f"expected tags in {scheme}, the scheme that most of them keep (IOB1, IOB2 and BIOES are "
        f"read: O, or B-, I-, E-, S- and a type), came {len(broken)} that "
        f"break{'s' * (len(broken) == 1)} it: {named}{'; …' if len(broken) > NAMED else ''}. Mend "
        "the file, or read such tags as conlleval does, where they begin an entity (--repair)."
    )
