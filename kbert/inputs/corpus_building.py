"""Documents → a corpus folder (`corpus.py`), on all cores, in constant memory.

It is made as `<output>.partial`, a shard at a time, each written beside and renamed: a kill leaves
whole shards, behind which the same command goes on, to the same bytes.
"""

import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kbert.errors import InputError
from kbert.inputs.corpus import ARRAYS, CORPUS, fingerprint
from kbert.inputs.document_tokens import DocumentTokens, tokenized_in_order
from kbert.inputs.documents import PARTS, documents, files_of
from kbert.text.tokenizer import Tokenizer

BEGUN, SEEN, UNFINISHED, POSITION = "begun.json", "seen.sqlite", "unfinished", "position.json"
AT_ONCE = 512  # documents that are tokenized together
SMALL_BYTES = 4 << 20  # for less, other processes would take longer to start
LENGTH = "length under "  # counted by powers of two


@dataclass(frozen=True)
class CorpusSettings:
    """How a corpus is made.

    Attributes:
        part: of plain text, what ends a document: one of `documents.PARTS`.
        column: of records, the column with their text.
        clean: without HTML and control characters; see `documents.cleaned`.
        deduplicate: a document that has come before is left out.
        shard_tokens: tokens after which a shard ends, with its last document.
    """

    part: str = "blank-line"
    column: str = "text"
    clean: bool = True
    deduplicate: bool = True
    shard_tokens: int = 50_000_000

    def __post_init__(self):
        if self.part not in PARTS:
            raise InputError(f"part: expected one of {', '.join(PARTS)}, came {self.part!r}.")


def build(
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    output: str | Path,
    settings: CorpusSettings | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
) -> dict:
    """Tokenize documents on all cores into a corpus folder.

    Args:
        paths: files, or folders of files; see `documents.files_of`.
        tokenizer: makes the ids, without special tokens.
        output: the folder; must not exist.
        resume: go on behind the last whole shard of a corpus that was broken off.
        progress: whether to show a bar on standard error.

    Returns:
        The report, as in corpus.json: documents, sentences, tokens, share of [UNK], …

    Raises:
        InputError: a file cannot be read, there is no document, the folder exists, or the one that
            was broken off was begun with other files, settings or tokenizer.
    """
    settings, output = settings or CorpusSettings(), Path(output)
    files = files_of(paths)
    work = output.with_name(output.name + ".partial")
    told = {
        "files": [{"name": str(file), "bytes": file.stat().st_size} for file in files],
        "settings": asdict(settings),
        "tokenizer": fingerprint(tokenizer),
    }
    _begin(work, output, told, resume)
    try:
        with _Seen(work / SEEN) as seen:
            counts = _add_shards(work, files, tokenizer, settings, seen, progress)
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"{work}: the corpus cannot be written ({error}). Whole shards stay: make room, then "
            "go on with --resume."
        ) from error
    if not counts["documents"]:
        shutil.rmtree(work)
        raise InputError(f"{', '.join(map(str, paths))}: expected documents, all texts are empty.")
    report = {**told, **_report(counts)}
    tokenizer.save(work)
    _write_json(work / CORPUS, report)
    os.rename(work, output)
    for name in (SEEN, BEGUN):
        (output / name).unlink()
    return report


class _Seen:
    """The documents that came so far, by a hash of 8 bytes; on the disk, so that memory is flat."""

    def __init__(self, file: Path):
        self.database = sqlite3.connect(file)
        self.database.execute(
            "CREATE TABLE IF NOT EXISTS seen (hash INTEGER PRIMARY KEY, shard INTEGER)"
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.database.close()

    def forget_from(self, shard: int):
        """Those of shards that are not whole."""
        self.database.execute("DELETE FROM seen WHERE shard >= ?", (shard,))
        self.database.commit()

    def is_new(self, text_hash: int, shard: int) -> bool:
        row = (text_hash, shard)
        found = self.database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", row)
        return found.rowcount == 1


def _begin(work: Path, output: Path, told: dict, resume: bool) -> None:
    if output.exists():
        raise InputError(f"{output} exists. Choose another folder, or take it away.")
    if (work / BEGUN).is_file():
        if not resume:
            raise InputError(
                f"{work} holds a corpus that was broken off: go on with it (--resume), or take it "
                "away."
            )
        before = json.loads((work / BEGUN).read_text("utf-8"))
        if different := [name for name in told if before.get(name) != told[name]]:
            raise InputError(
                f"{work} was begun with other {' and '.join(different)}, so it cannot go on: give "
                "those it had, or take it away."
            )
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    _write_json(work / BEGUN, told)


def _add_shards(work, files, tokenizer, settings: CorpusSettings, seen, progress) -> Counter:
    """All shards that are not there yet; what all together hold."""
    whole = sorted(work.glob("shard-*"))
    position = {"file": 0, "documents": 0, "counts": {}}
    if whole:
        position = json.loads((whole[-1] / POSITION).read_text("utf-8"))
    seen.forget_from(len(whole))
    maker = _ShardMaker(work, tokenizer, settings, seen, len(whole), Counter(position["counts"]))
    sizes = [file.stat().st_size for file in files]
    processes = 1 if sum(sizes) < SMALL_BYTES else len(os.sched_getaffinity(0))
    batches = _batches(files, settings, position)
    bar = tqdm(total=sum(sizes), unit="B", unit_scale=True, disable=not progress, desc="corpus")
    with bar:
        for found, end in tokenized_in_order(batches, tokenizer, settings.clean, processes):
            maker.counts["undecodable"] += end.pop("undecodable")
            maker.add(found, end)
            bar.set_postfix_str(f"{maker.counts['tokens']:,} tokens", refresh=False)
            bar.update(sum(sizes[: end["file"]]) - bar.n)
    maker.finish({"file": len(files), "documents": 0})
    return maker.counts


def _batches(files: Sequence[Path], settings: CorpusSettings, start: dict) -> Iterator[tuple]:
    """The documents behind a position, some at a time, each time with where they end."""
    begun = start["documents"]
    for number in range(start["file"], len(files)):
        undecodable = Counter()
        found = documents(files[number], settings.part, settings.column, undecodable)
        for _ in islice(found, begun):
            pass
        undecodable.clear()  # what is counted already
        while texts := list(islice(found, AT_ONCE)):
            begun += len(texts)
            end = {"file": number, "documents": begun, "undecodable": undecodable.total()}
            undecodable.clear()
            yield texts, end
        begun = 0


class _ShardMaker:
    """Takes the tokens of documents, and writes a shard whenever there are enough."""

    def __init__(self, work: Path, tokenizer, settings, seen: _Seen, number: int, counts: Counter):
        self.work, self.settings, self.seen = work, settings, seen
        self.number, self.counts = number, counts
        unknown = tokenizer.special_tokens.get("unk_token")
        self.unknown = -1 if unknown is None else tokenizer.rust.token_to_id(unknown)
        self.clear()

    def clear(self):
        self.found: list[DocumentTokens] = []
        self.num_tokens = 0

    def add(self, found: DocumentTokens, position: dict) -> None:
        """Add documents; a shard that has enough ends behind them, at `position`."""
        has_tokens = found.sentences > 0
        chosen = has_tokens.copy()
        if self.settings.deduplicate:
            for number in np.flatnonzero(has_tokens):
                chosen[number] = self.seen.is_new(int(found.hashes[number]), self.number)
        found = found.kept(chosen)
        self.counts["documents"] += int(chosen.sum())
        self.counts["empty"] += int((~has_tokens).sum())
        self.counts["duplicates"] += int((has_tokens & ~chosen).sum())
        self.counts["sentences"] += len(found.lengths)
        self.counts["tokens"] += len(found.tokens)
        self.counts["unknown"] += int((found.tokens == self.unknown).sum())
        for size in found.sizes.tolist():
            self.counts[f"{LENGTH}{1 << size.bit_length()}"] += 1
        self.found.append(found)
        self.num_tokens += len(found.tokens)
        if self.num_tokens >= self.settings.shard_tokens:
            self.finish(position)

    def finish(self, position: dict) -> None:
        """Write what there is as a shard, if there is anything."""
        if not self.num_tokens:
            return
        beside = self.work / UNFINISHED
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        arrays = (
            np.concatenate([found.tokens for found in self.found]),
            np.cumsum(np.concatenate([found.lengths for found in self.found])),
            np.cumsum(np.concatenate([found.sentences for found in self.found])),
        )
        for name, array in zip(ARRAYS, arrays, strict=True):
            np.save(beside / f"{name}.npy", array)
        _write_json(beside / POSITION, {**position, "counts": self.counts})
        self.seen.database.commit()
        os.rename(beside, self.work / f"shard-{self.number:05}")
        self.number += 1
        self.clear()


def _report(counts: Counter) -> dict:
    """What a corpus holds, for its corpus.json."""
    lengths = {
        int(key.removeprefix(LENGTH)): n for key, n in counts.items() if key.startswith(LENGTH)
    }
    return {
        "documents": counts["documents"],
        "sentences": counts["sentences"],
        "tokens": counts["tokens"],
        "unknown": counts["unknown"] / max(counts["tokens"], 1),
        "duplicates": counts["duplicates"],
        "empty": counts["empty"],
        "undecodable": counts["undecodable"],
        "documents_by_length": {f"under {key} tokens": lengths[key] for key in sorted(lengths)},
    }


def _write_json(file: Path, content) -> None:
    """Write beside, then rename."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    os.replace(beside, file)
