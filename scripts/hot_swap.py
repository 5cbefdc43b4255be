"""Swap versions under load: is a request lost, is any answer of two versions?

    python scripts/hot_swap.py [--requests 10000] [--clients 8] [--versions 3]

Requests go to the embedded engine (`kbert serve --engine embedded`) from several clients, while
version after version is exported over the one that is served. Each version is a classifier of one
sure label, its own number, so that every row of an answer says which version it is of; of a request
of several rows, all must say the same, and no later request may be answered by an earlier version.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import material  # noqa: E402
from benchmarks.tables import number, table  # noqa: E402

ROWS = 3  # texts a request
PORT = 8571


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--versions", type=int, default=3, help="exported while requests come")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "saved_models")
        exported = Exporter(models / "swapped")
        exported()
        with served(models) as url:
            load = Load(url, wanted.requests, wanted.clients)
            swaps = swap(load, exported, url, wanted)
            load.swapped.set()
            load.wait()
    print(report(load, swaps, wanted))
    sys.exit(bool(load.failed or load.mixed or load.backward))


class Exporter:
    """Writes version after version of a tiny BERT that answers its version's number."""

    def __init__(self, folder: Path):
        import kbert
        from kbert.models.bert import BertConfig, bert

        self.folder, self.export = folder, kbert.export
        self.tokenizer = kbert.load(material.minilm()).tokenizer
        config = BertConfig(
            self.tokenizer.vocab_size, num_layers=2, width=32, num_heads=2, inner_width=64,
            max_length=64,
        )  # fmt: skip
        self.task = kbert.TextClassification(tuple(map(str, range(100))), max_length=64)
        self.model = self.task.model(bert(config, "float32"))
        self.bias = self.model.weights[-1]
        self.version = 0

    def __call__(self) -> int:
        import numpy as np

        self.version += 1
        self.bias.assign(100.0 * (np.arange(100) == self.version))
        written = self.export(self.model, self.task, self.tokenizer, self.folder)
        assert written.name == str(self.version), written
        return self.version


class served:
    """The command, as a user starts it, while the block runs: its address."""

    def __init__(self, models: Path):
        self.command = [sys.executable, "-m", "kbert.cli", "serve", str(models)]
        self.command += ["--engine", "embedded", "--rest-port", str(PORT)]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.startswith("REST "):
                return f"http://127.0.0.1:{PORT}"
        raise SystemExit("the server did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Load:
    """Clients that ask until all requests are done, and all swaps; what they were answered."""

    def __init__(self, url: str, requests: int, clients: int):
        self.url, self.requests, self.asked = url, requests, 0
        self.lock, self.swapped = threading.Lock(), threading.Event()
        self.texts = [record["text"] for record in material.banking("test")]
        self.answered, self.failed, self.mixed, self.backward = Counter(), Counter(), 0, 0
        self.seconds = []
        self.threads = [threading.Thread(target=self.ask) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        from kbert.serving import Client

        # One attempt: a request that only a second one answers counts as lost.
        with Client(self.url, attempts=1, deadline=600) as client:
            newest = 0
            while (turn := self.next()) is not None:
                texts = [self.texts[(ROWS * turn + i) % len(self.texts)] for i in range(ROWS)]
                began = time.perf_counter()
                try:
                    versions = {int(row["label"]) for row in client.predict("swapped", texts)}
                except Exception as error:
                    with self.lock:
                        self.failed[f"{type(error).__name__}: {error}"[:200]] += 1
                    continue
                with self.lock:
                    self.seconds.append(time.perf_counter() - began)
                    self.answered.update(versions)
                    self.mixed += len(versions) > 1
                    self.backward += min(versions) < newest
                newest = max(versions)

    def next(self) -> int | None:
        with self.lock:
            if self.asked >= self.requests and self.swapped.is_set():
                return None
            self.asked += 1
            return self.asked

    def wait(self):
        for thread in self.threads:
            thread.join()


def swap(load: Load, exported: Exporter, url: str, wanted) -> list[tuple[int, float, float]]:
    """Exports a version each time another share of the requests is done; when it was answered."""
    from kbert.serving import Client

    swaps = []
    share = wanted.requests // (wanted.versions + 1)
    with Client(url) as client:
        for turn in range(1, wanted.versions + 1):
            while load.asked < turn * share:
                time.sleep(0.01)
            began = time.perf_counter()
            version = exported()
            written = time.perf_counter()
            while client.status("swapped").get(version) != "AVAILABLE":
                time.sleep(0.02)
            swaps.append((version, written - began, time.perf_counter() - written))
    return swaps


def report(load: Load, swaps, wanted) -> str:
    seconds = sorted(load.seconds)
    delays = {q: 1000 * seconds[int(q * (len(seconds) - 1))] for q in (0.5, 0.99, 1.0)}
    rows = [
        ["requests", number(load.asked)],
        ["clients", number(wanted.clients)],
        ["failed", number(sum(load.failed.values()))],
        ["answered by two versions", number(load.mixed)],
        ["answered by an earlier version than before", number(load.backward)],
        ["p50, ms", number(delays[0.5], 1)],
        ["p99, ms", number(delays[0.99], 1)],
        ["longest, ms", number(delays[1.0], 1)],
    ]
    written = {version: (export, up) for version, export, up in swaps}
    versions = [
        [version, number(count), *(number(x, 2) for x in written.get(version, (None, None)))]
        for version, count in sorted(load.answered.items())
    ]
    head = ("version", "requests answered", "export, s", "then available after, s")
    errors = "".join(f"\n{count} × {error}" for error, count in load.failed.items())
    return f"{table(('what', 'number'), rows)}\n\n{table(head, versions)}{errors}"


if __name__ == "__main__":
    main()
