"""How a model wants its texts: which special tokens stand before, between and after them.

    BERT, ALBERT   [CLS] a [SEP]        [CLS] a [SEP] b [SEP]        segments 0 … 0 1 … 1
    RoBERTa        <s> a </s>           <s> a </s> </s> b </s>       segments all 0
    T5             a </s>               a </s> b </s>                segments all 0
    XLNet          a <sep> <cls>        a <sep> b <sep> <cls>        segments 0 … 0 1 … 1 2
    GPT-2          a                    a b

XLNet was trained with its padding on the left. Its positions are relative and padding is masked, so
that padding on the right, as everywhere in kbert, gives the same; but the token to pool is then the
last real one of a row, not the row's last column.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import tokenizers

from kbert.errors import InputError

NO_TOKEN = -1  # what `Form.origins` gives for a special token


@dataclass(frozen=True)
class Form:
    """The special tokens around one text, two, or more, as ids; and the segment numbers.

    Args:
        prefix: ids before the first text.
        between: ids after a text that another follows; they belong to the text before them.
        suffix: ids after the last text.
        segments: the segment ids of the first text and of every later one, each with the special
            tokens that belong to it.
        last_segment: that of a row's last special token where it is no text's (XLNet's <cls>).
    """

    prefix: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    segments: tuple[int, int] = (0, 1)
    last_segment: int | None = None

    @classmethod
    def from_rust(cls, rust: tokenizers.Tokenizer) -> "Form":
        """The form that a Rust tokenizer's post-processor gives, whatever kind that is of.

        It is read from what the post-processor makes of a pair, and then compared with what it
        makes of a single text.

        Args:
            rust: without padding and truncation.

        Raises:
            InputError: a single text and a pair get special tokens that are not of one form.
        """
        text = _probe(rust)
        single, pair = rust.encode(text), rust.encode(text, text)
        ids = rust.encode(text, add_special_tokens=False).ids
        prefix, first, between, second, suffix = _parts(pair.special_tokens_mask, len(ids))
        form = cls(
            *(tuple(pair.ids[part]) for part in (prefix, between, suffix)),
            segments=(pair.type_ids[first.start], pair.type_ids[second.start]),
        )
        if form.suffix and pair.type_ids[-1] != form.segments[1]:
            form = replace(form, last_segment=pair.type_ids[-1])
        for texts, encoding in (([ids], single), ([ids, ids], pair)):
            if form.join(texts) != (encoding.ids, encoding.type_ids):
                raise InputError(
                    "Expected a post-processor that puts special tokens before the first text, "
                    "between texts and after the last, the same for one text as for two; came "
                    f"{' '.join(single.tokens)!r} with segments {single.type_ids} for one text "
                    f"and {' '.join(pair.tokens)!r} with {pair.type_ids} for two. Set "
                    "rust.post_processor to a tokenizers.processors.TemplateProcessing that does."
                )
        return form

    def num_special(self, num_texts: int = 1) -> int:
        """How many special tokens stand around that many texts."""
        return len(self.prefix) + len(self.between) * (num_texts - 1) + len(self.suffix)

    def join(self, texts: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        """One row: the token ids of one text or more among the special ones, nothing cut.

        Returns:
            `(token_ids, segment_ids)`, equally long.
        """
        token_ids, segment_ids = list(self.prefix), [self.segments[0]] * len(self.prefix)
        last = len(texts) - 1
        for number, ids in enumerate(texts):
            after = self.between if number < last else self.suffix
            token_ids += ids
            token_ids += after
            segment_ids += [self.segments[number > 0]] * (len(ids) + len(after))
        if self.suffix and self.last_segment is not None:
            segment_ids[-1] = self.last_segment
        return token_ids, segment_ids

    def origins(self, lengths: Sequence[int]) -> list[tuple[int, int]]:
        """Where each column of a joined row comes from.

        Args:
            lengths: the numbers of tokens of the texts, as they stand in the row (after cutting).

        Returns:
            A (text, token) for every column: the number of the text, and of the token in it; both
            -1 for a special token.
        """
        special = (NO_TOKEN, NO_TOKEN)

        def columns() -> Iterator:
            yield [special] * len(self.prefix)
            for text, length in enumerate(lengths):
                yield ((text, token) for token in range(length))
                is_last = text == len(lengths) - 1
                yield [special] * len(self.suffix if is_last else self.between)

        return list(chain.from_iterable(columns()))


def _probe(rust: tokenizers.Tokenizer) -> str:
    """A text that is a token or more: `a`, or what the vocabulary has in its place."""
    added = {token.content for token in rust.get_added_tokens_decoder().values()}
    for text in chain("a", (token for token in rust.get_vocab() if token not in added)):
        if rust.encode(text, add_special_tokens=False).ids:
            return text
    raise InputError("Expected a vocabulary with tokens for some text, came one with none.")


def _parts(special: Sequence[int], length: int) -> list[slice]:
    """The slices of prefix, first text, between, second text and suffix in a packed pair."""
    first = special.index(0)
    second = special.index(0, first + length)
    edges = [0, first, first + length, second, second + length, len(special)]
    return [slice(start, end) for start, end in pairwise(edges)]
