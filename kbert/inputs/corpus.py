"""A corpus: documents as token ids on the disk, made once (`corpus_building.py`), read many times.

    corpus/corpus.json                 what it was made of, and how much it holds
    corpus/tokenizer.json …            the tokenizer that made it
    corpus/shard-00000/tokens.npy      ids of all sentences, one after another: uint16, or uint32
    corpus/shard-00000/sentences.npy   where each sentence ends in tokens, int64
    corpus/shard-00000/documents.npy   where each document ends in sentences, int64

Shards are read through the operating system's memory mapping: a corpus may be larger than memory.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kbert.errors import InputError
from kbert.text.tokenizer import Tokenizer

CORPUS = "corpus.json"
ARRAYS = ("tokens", "sentences", "documents")


@dataclass(frozen=True)
class Corpus:
    """The documents of a corpus, read where they lie.

    Attributes:
        folder: what `corpus_building.build` made.
        report: its corpus.json.
        shards: of each its arrays: tokens, and the ends of sentences and of documents.
    """

    folder: Path
    report: dict
    shards: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]

    @classmethod
    def open(cls, folder: str | Path, tokenizer: Tokenizer | None = None) -> "Corpus":
        """A corpus as it lies on the disk.

        Args:
            tokenizer: if given, must be the one that made it.

        Raises:
            InputError: the folder is no corpus, or of another tokenizer.
        """
        folder = Path(folder)
        try:
            report = json.loads((folder / CORPUS).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder}: expected a corpus, came none ({error}): `kbert corpus build` makes one."
            ) from error
        if tokenizer and fingerprint(tokenizer) != report["tokenizer"]:
            raise InputError(
                f"{folder} was built with another tokenizer (sha256 {report['tokenizer'][:12]}, "
                f"came {fingerprint(tokenizer)[:12]}): take the one in that folder, or build the "
                "corpus anew."
            )
        shards = tuple(
            tuple(np.load(shard / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
            for shard in sorted(folder.glob("shard-*"))
        )
        return cls(folder, report, shards)

    def __len__(self) -> int:
        """How many documents there are."""
        return sum(len(ends) for _, _, ends in self.shards)

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """The sentences of each document, token ids each."""
        for tokens, sentence_ends, document_ends in self.shards:
            begin = first = 0
            for last in document_ends:
                ends = sentence_ends[first:last]
                yield np.split(tokens[begin : ends[-1]], ends[:-1] - begin)
                begin, first = ends[-1], last


def fingerprint(tokenizer: Tokenizer) -> str:
    """What tells a tokenizer from another: the sha256 of all that it does."""
    return hashlib.sha256(tokenizer.rust.to_str().encode()).hexdigest()
