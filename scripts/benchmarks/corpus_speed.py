"""Building a corpus: tokens per second, beside the Rust library alone."""

import gzip
import json
import resource
import shutil
import time
from itertools import islice
from pathlib import Path

from benchmarks import material
from benchmarks.systems import Settings, System, progress
from benchmarks.tables import best, number, ratio, table

TITLE = "A corpus of reviews: kbert corpus build beside `tokenizers` alone"
ALONE = "tokenizers, documents as they stand"


def systems(settings: Settings) -> list[System]:
    return [
        System(ALONE, alone, "torch"),
        System("kbert corpus build", built, "torch"),
        System("kbert corpus build, four times as much", built, "torch", {"times": 4}),
        System("kbert corpus build, text as it stands", built, "torch", {"plain": True}),
    ]


def report(measured) -> str:
    rates = {name: best(turns, "rate") for name, turns in measured.items()}
    rows = [
        [name, number(rate), ratio(rate, rates.get(ALONE)), number(best(turns, "memory", min))]
        for (name, rate), turns in zip(rates.items(), measured.values(), strict=True)
    ]
    head = ("system", "tokens/s", "to tokenizers", "memory, MiB")
    return (
        f"{table(head, rows)}\n\n"
        "Reading, cleaning, parting into sentences, looking for duplicates and writing included; "
        "of `tokenizers` reading and encode_batch_fast alone, its ids as lists. Wanted: 0.9, and "
        "memory that does not grow."
    )


def reviews(settings: Settings) -> list[str]:
    file = material.shared_data() / "corpus" / "en_reviews" / "imdb_unsup.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        chosen = islice(lines, settings.size(12_000, 99))
        return [json.loads(line)["text"] for line in chosen]


def tokenizer():
    from kbert.text.tokenizer import Tokenizer

    return Tokenizer.from_folder(material.minilm())


def alone(settings: Settings) -> dict:
    rust, texts, tokens = tokenizer().rust, reviews(settings), 0
    rust.encode_batch_fast(texts[:99], add_special_tokens=False)
    began = time.perf_counter()
    for start in range(0, len(texts), 512):
        found = rust.encode_batch_fast(texts[start : start + 512], add_special_tokens=False)
        tokens += sum(len(encoding.ids) for encoding in found)
    seconds = time.perf_counter() - began
    progress(f"  {tokens:,} tokens in {seconds:.1f} s")
    return {"rate": tokens / seconds, "memory": _peak()}


def built(settings: Settings, times: int = 1, plain: bool = False) -> dict:
    from kbert.inputs.corpus_building import CorpusSettings, build

    texts = reviews(settings)
    file, output = Path(settings.folder, "reviews.jsonl"), Path(settings.folder, "corpus")
    with file.open("w", encoding="utf-8") as lines:
        for turn in range(times):
            lines.writelines(json.dumps({"text": f"{turn} {text}"}) + "\n" for text in texts)
    del texts
    loaded = tokenizer()
    loaded(["a text"] * 99)
    chosen = CorpusSettings(clean=not plain, deduplicate=not plain, shard_tokens=2_000_000)
    began = time.perf_counter()
    told = build([file], loaded, output, chosen)
    seconds = time.perf_counter() - began
    shutil.rmtree(output)
    progress(f"  {told['tokens']:,} tokens in {seconds:.1f} s")
    return {"rate": told["tokens"] / seconds, "memory": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
