"""Learning a vocabulary from 50 MB of text: kbert beside bare `tokenizers`."""

import gzip
import hashlib
import json
import time
from pathlib import Path

from benchmarks import material
from benchmarks.systems import Settings, System
from benchmarks.tables import best, number, ratio, table

TITLE = "Learning. Seconds for 30,000 pieces of WordPiece from 50 MB of film reviews"
ROUNDS = 3
TEXT = "50 MB of reviews"  # the row that writes the text
PIECES = 30_000


def systems(settings: Settings) -> list[System]:
    return [
        System(TEXT, write_text, repeats=False),
        System("kbert", with_kbert),
        System("tokenizers", with_tokenizers),
    ]


def report(measured) -> str:
    bare = best(measured["tokenizers"], "seconds", min)
    rows = []
    for name in ("kbert", "tokenizers"):
        seconds = best(measured[name], "seconds", min)
        vocabularies = {turn["vocabulary"] for turn in measured[name] if "vocabulary" in turn}
        rows.append(
            [name, number(seconds, 1), ratio(bare, seconds), len(vocabularies), len(measured[name])]
        )
    head = ("", "seconds", "speed beside tokenizers'", "different vocabularies", "turns")
    return (
        f"{table(head, rows)}\n\nFrom the file to the written folder, in lower case without "
        "accents. Wanted: the speed of tokenizers within 10%, and one vocabulary."
    )


def write_text(settings: Settings) -> dict:
    """Reviews, one a line, into the file that the others read."""
    most = settings.size(50_000_000, 1_000_000)
    size = 0
    source = material.shared_data() / "corpus" / "en_reviews" / "imdb_unsup.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as lines, _text(settings).open("wb") as text:
        for line in lines:
            size += text.write(f"{json.loads(line)['text']}\n".encode())
            if size >= most:
                break
    return {"megabytes": size / 1e6}


def with_kbert(settings: Settings) -> dict:
    from kbert.text.learn import learn

    folder = Path(settings.folder, "learned-kbert")
    began = time.perf_counter()
    learn(
        [_text(settings)], folder, "wordpiece", PIECES, lowercase=True, strip_accents=True,
        overwrite=True,
    )  # fmt: skip
    return {"seconds": time.perf_counter() - began, "vocabulary": _digest(folder)}


def with_tokenizers(settings: Settings) -> dict:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    folder = Path(settings.folder, "learned-tokenizers")
    folder.mkdir(exist_ok=True)
    began = time.perf_counter()
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=PIECES, special_tokens=special, show_progress=False
    )
    tokenizer.train([str(_text(settings))], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return {"seconds": time.perf_counter() - began, "vocabulary": _digest(folder)}


def _text(settings: Settings) -> Path:
    return Path(settings.folder, "reviews.txt")


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
