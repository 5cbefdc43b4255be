"""Differences that are a library's own, and how to tell one from a fault of kbert's."""

import json
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import tokenizers
from tokenizers import normalizers

from tokenizer_check.comparison import Ids, Known, reads_as

# How often the torture set and real text have them, at most: offsets counted from elsewhere, marks.
MOST_OFFSETS = {
    "bert-base-uncased": (0, 88),
    "minilm": (0, 88),
    "learned-wordpiece": (0, 88),
    "albert": (65, 0),
    "xlnet": (65, 0),
    "t5-small": (65, 26),
    "learned-bpe": (2, 632),
    "learned-unigram": (3, 666),
}
MOST_IN_TWO_STEPS, MOST_NEWER = 8, 2


def known_differences(name: str, folder: Path, tokenizer) -> list[Known]:
    """Those of one tokenizer.

    Args:
        name: of `subjects.NAMES`.
        folder: of its files.
        tokenizer: kbert's.
    """
    return [*_of_transformers(name, folder), *_of_graph(name, tokenizer)]


def _of_transformers(name: str, folder: Path) -> list[Known]:
    """Where `transformers` reads files otherwise than another library, with which kbert agrees."""
    if name in ("albert", "xlnet"):
        rust = tokenizers.Tokenizer.from_str(published_json(name, folder / "spiece.model"))
        rust.add_special_tokens(["<unk>"])
        return [
            Known(
                "transformers 5 cuts words at user-defined pieces, has pieces such as '1,', and "
                "keeps the blank before a mask; kbert goes by the published tokenizer.json",
                "eager",
                reads_as(_ids(rust)),
            )
        ]
    if name == "t5-small":
        rust = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return [
            Known(
                "pieces that are equally likely: Rust and Python read the last digit of a score in "
                "tokenizer.json differently; kbert's ids are those of tokenizers itself",
                "eager",
                reads_as(_ids(rust)),
            )
        ]
    return []


def _of_graph(name: str, tokenizer) -> list[Known]:
    """Where the graph differs."""
    rust = tokenizer.rust

    def is_shifted(text, theirs, ours) -> bool:
        is_dropped = text and rust.normalizer and not rust.normalizer.normalize_str(text[0])
        return bool(is_dropped) and _ids_of(theirs) == _ids_of(ours)

    def has_marks(text, theirs, ours) -> bool:
        are_there = any(unicodedata.category(character)[0] == "M" for character in text)
        return are_there and _ids_of(theirs) == _ids_of(ours)

    shifted = "the first characters go: Rust counts all others from there, the graph as they stand"
    marks = "combining marks: Rust counts one of those that it orders, composes or drops"
    counts = MOST_OFFSETS.get(name, (0, 0))
    known = [
        Known(shifted, "offsets", is_shifted, counts[0]),
        Known(marks, "offsets", has_marks, counts[1]),
    ]
    if name in ("learned-bpe", "learned-unigram"):
        newer = "marks of Unicode 10 to 16: the order that TensorFlow Text's older edition has"
        known += [Known(newer, side, _is_newer, MOST_NEWER) for side in ("in graph", "offsets")]
    return [*known, *_in_two_steps(tokenizer)] if name == "learned-unigram" else known


def _is_newer(text, theirs, ours) -> bool:
    """Whether TensorFlow Text composes a text otherwise than Rust."""
    import tensorflow_text as tf_text

    composed = tf_text.normalize_utf8(text, "NFC").numpy().decode()
    return composed != normalizers.NFC().normalize_str(text)


def _in_two_steps(tokenizer) -> list[Known]:
    parts = json.loads(tokenizer.rust.to_str())
    steps = parts["normalizer"]["normalizers"]
    parts["normalizer"]["normalizers"] = [step for step in steps if step["type"] != "NFKC"]
    rust = _ids(tokenizers.Tokenizer.from_str(json.dumps(parts)))
    nfc, nfkc = normalizers.NFC(), normalizers.NFKC()

    def other(texts: list[str]) -> list[list[int]]:
        composed = (nfc.normalize_str(text) for text in texts)
        return rust(["".join(map(nfkc.normalize_str, text)) for text in composed])

    name = (
        "a mark behind a character that NFKC takes apart, `\ufb01\u0323`: the graph composes first"
    )
    of_ids = reads_as(other)
    return [
        Known(name, "in graph", of_ids, MOST_IN_TWO_STEPS),
        Known(
            name, "offsets", lambda text, theirs, ours: of_ids(text, [], _ids_of(ours)),
            MOST_IN_TWO_STEPS,
        ),
    ]  # fmt: skip


def _ids_of(offsets: list[tuple[int, int, int]]) -> list[int]:
    return [token_id for token_id, *_ in offsets]


def _ids(rust) -> Ids:
    rust.no_padding()
    rust.no_truncation()
    return lambda texts: [
        encoding.ids for encoding in rust.encode_batch_fast(texts, add_special_tokens=False)
    ]


def published_json(name: str, path: Path) -> str:
    """tokenizer.json as the hub has it, which an older converter of `transformers` wrote.

    The newer one makes user-defined pieces added tokens: "a-b" becomes a, -, ▁b, which is no
    sequence of pieces to SentencePiece, with which tests/text/test_sentencepiece.py compares kbert.
    And words were split at white space before they got their ▁.
    """
    import sentencepiece
    from transformers.convert_slow_tokenizer import AlbertConverter, XLNetConverter

    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    original = SimpleNamespace(
        vocab_file=str(path),
        keep_accents=False,
        do_lower_case=name == "albert",
        convert_tokens_to_ids=model.piece_to_id,
    )
    converter = {"albert": AlbertConverter, "xlnet": XLNetConverter}[name]
    parts = json.loads(converter(original).converted().to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["special"]]
    split = [{"type": "WhitespaceSplit"}, parts["pre_tokenizer"]]
    parts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": split}
    return json.dumps(parts)
