"""A tokenized text as a table to look at; several tokenizers side by side."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from kbert.text.form import NO_TOKEN
from kbert.text.tokenizer import Tokenizer

COLUMNS = ("position", "piece", "id", "segment", "mask", "characters")
TO_THE_RIGHT = {"position", "id", "segment", "mask"}


def table(tokenizer: Tokenizer, texts: Sequence[str], packer=None) -> str:
    """What a model is given for a text or several: a line for each token.

    The last column gives the place in its text and the characters that a token covers.

    Args:
        texts: one, two or more, that are packed into one row.
        packer: a `kbert.inputs.packer.Packer` that cuts them to its length, and to whose length
            the row is padded; without it nothing is cut or padded.

    Raises:
        InputError: the packer leaves no room for the special tokens.
    """
    encodings = tokenizer.encode(texts)
    kept = [len(encoding.ids) for encoding in encodings]
    if packer:
        kept = packer.kept(kept)
    cut = [encoding.ids[:length] for encoding, length in zip(encodings, kept, strict=True)]
    ids, segments = tokenizer.form.join(cut)
    covered = []
    for text, token in tokenizer.form.origins(kept):
        if text == NO_TOKEN:
            covered.append("")
            continue
        start, end = encodings[text].offsets[token]
        covered.append(f"{start}:{end} {visible(texts[text][start:end])}")
    mask = [1] * len(ids)
    padding = (packer.max_length if packer else len(ids)) - len(ids)
    ids += [packer.pad_id] * padding if packer else []
    rows = zip(
        range(len(ids)), (visible(tokenizer.vocab[token_id]) for token_id in ids), ids,
        segments + [0] * padding, mask + [0] * padding, covered + [""] * padding, strict=True,
    )  # fmt: skip
    return _aligned(COLUMNS, rows, TO_THE_RIGHT)


def comparison(tokenizers: Mapping[str, Tokenizer], texts: Iterable[str]) -> str:
    """The pieces that several tokenizers make of texts.

    Args:
        tokenizers: name → tokenizer, in the order to show.

    Returns:
        For each text, a line with it and one for each tokenizer: its name, the number of its
        pieces, and the pieces with blanks between them.
    """
    parts = []
    for text in texts:
        rows = []
        for name, tokenizer in tokenizers.items():
            (ids,) = tokenizer([text])
            pieces = (visible(tokenizer.vocab[token_id]) for token_id in ids)
            rows.append((name, len(ids), " ".join(pieces)))
        parts.append(_aligned((visible(text), "pieces", ""), rows, {"pieces"}))
    return "\n\n".join(parts)


def visible(text: str) -> str:
    """Text that can stand in a line: what does not print is written as Python writes it."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    # A mark without a letter would go onto the character before the text.
    return "\N{DOTTED CIRCLE}" + shown if shown and unicodedata.combining(shown[0]) else shown


def width(text: str) -> int:
    """The columns that a text takes on a terminal: two for wide characters, none for marks."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2 if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )  # fmt: skip


def _aligned(head: Sequence[str], rows: Iterable[Sequence], to_the_right: set[str]) -> str:
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]

    def cell(text, number):
        blanks = " " * (widths[number] - width(text))
        return blanks + text if head[number] in to_the_right else text + blanks

    return "\n".join(
        "  ".join(cell(text, number) for number, text in enumerate(line)).rstrip() for line in lines
    )
