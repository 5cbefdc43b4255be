"""Documents → the token ids of their sentences, by as many processes as there are cores.

Rust tokenizes on all cores by itself, but Python's share of the work (cleaning, parting into
sentences, copying ids) would wait for one.
"""

import hashlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
import tokenizers

from kbert.inputs.documents import cleaned
from kbert.inputs.sentence_pairs import sentences
from kbert.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class DocumentTokens:
    """What some documents became. Letters: N documents, S sentences, T tokens.

    Attributes:
        hashes: int64 (N,), of the documents' texts; 0 where there is none.
        sentences: int64 (N,), how many each has that hold a token.
        lengths: int64 (S,), tokens of each sentence.
        tokens: (T,), ids.
    """

    hashes: np.ndarray
    sentences: np.ndarray
    lengths: np.ndarray
    tokens: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """int64 (N,), tokens of each document."""
        document = np.repeat(np.arange(len(self.sentences)), self.sentences)
        return np.bincount(document, self.lengths, len(self.sentences)).astype(np.int64)

    def kept(self, chosen: np.ndarray) -> "DocumentTokens":
        """Those documents alone; `chosen` is bool (N,)."""
        of_sentences = np.repeat(chosen, self.sentences)
        return DocumentTokens(
            self.hashes[chosen],
            self.sentences[chosen],
            self.lengths[of_sentences],
            self.tokens[np.repeat(of_sentences, self.lengths)],
        )


def tokenized(texts: Sequence[str], rust: tokenizers.Tokenizer, clean: bool) -> DocumentTokens:
    """The sentences of documents as ids, without special tokens."""
    if clean:
        texts = [cleaned(text) for text in texts]
    split = [sentences(text) for text in texts]
    flat = list(chain.from_iterable(split))
    encodings = rust.encode_batch_fast(flat, add_special_tokens=False)
    ids = [encoding.ids for encoding in encodings]
    lengths = np.array([len(row) for row in ids], np.int64)
    number = np.repeat(np.arange(len(texts)), np.array([len(x) for x in split], np.int64))
    return DocumentTokens(
        np.array([_hash(text) for text in texts], np.int64),
        np.bincount(number, lengths > 0, len(texts)).astype(np.int64),
        lengths[lengths > 0],
        np.fromiter(chain.from_iterable(ids), id_type(rust), lengths.sum()),
    )


def id_type(rust: tokenizers.Tokenizer) -> np.dtype:
    """The smallest type that holds a vocabulary's ids."""
    return np.dtype(np.uint16 if rust.get_vocab_size() <= 1 << 16 else np.uint32)


def tokenized_in_order(
    batches: Iterable[tuple[Sequence[str], object]],
    tokenizer: Tokenizer,
    clean: bool,
    processes: int,
) -> Iterator[tuple[DocumentTokens, object]]:
    """Batches of documents tokenized, in their order; what comes with a batch stays with it.

    Args:
        processes: at work beside this one, which reads a few batches ahead; 1 for none.
    """
    if processes == 1:
        for texts, companion in batches:
            yield tokenized(texts, tokenizer.rust, clean), companion
        return
    # Not a fork of this process: Rust's threads do not survive one.
    context = multiprocessing.get_context("spawn")
    waiting: deque = deque()
    with ProcessPoolExecutor(
        processes, context, initializer=_begin, initargs=(tokenizer.rust.to_str(),)
    ) as pool:
        for texts, companion in batches:
            waiting.append((pool.submit(_work, texts, clean), companion))
            if len(waiting) > 2 * processes:
                done, companion = waiting.popleft()
                yield done.result(), companion
        for done, companion in waiting:
            yield done.result(), companion


def _begin(rust: str):
    global _rust
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked stops this one
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _rust = tokenizers.Tokenizer.from_str(rust)


def _work(texts: Sequence[str], clean: bool) -> DocumentTokens:
    return tokenized(texts, _rust, clean)


def _hash(text: str) -> int:
    if not text.strip():
        return 0
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
