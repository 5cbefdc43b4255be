"""Does every strategy train the model that one device trains? Loss by loss, and the weights.

    python scripts/compare_strategies.py [--steps 200] [--only data-parallel …] [--curves FILE]

A small BERT learns Banking77 by `kbert.finetune` (float32, dropout off, the last batch of an epoch
not full), each system in a process of its own, on devices that are parts of this machine's CPU. The
table compares each with one device of its backend: the largest relative difference of the loss over
all steps, of a figure of an epoch or its validation, and of a weight. Exit code 1 if a loss differs
by more than 1e-4.
"""

import argparse
import csv
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BATCH, ROWS, CHECKED, STEPS = 40, 1_990, 205, 50  # the last batch has 30 rows
LIMIT = 1e-4
# A key's bias changes no score (softmax): its gradient is rounding, which Adam blows up.
WITHOUT_MEANING = "attention/key/bias"


@dataclass(frozen=True)
class System:
    """What trains: a strategy on so many devices, in so many processes.

    Attributes:
        devices: of each process.
    """

    backend: str
    strategy: str = "none"
    devices: int = 1
    mesh: str | None = None
    processes: int = 1

    @property
    def name(self) -> str:
        mesh = f" {self.mesh}" if self.mesh else ""
        return f"{self.backend}: {self.strategy}{mesh}"


SYSTEMS = (
    System("tensorflow"),
    System("tensorflow", "mirrored", 2),
    System("tensorflow", "mirrored", 4),
    System("jax"),
    System("jax", "data-parallel", 2),
    System("jax", "data-parallel", 4),
    System("jax", "data-parallel", 8),
    System("jax", "model-parallel", 8, "2x4"),
    System("jax", "model-parallel", 8, "4x2"),
    System("jax", "data-parallel", 1, processes=2),
    System("jax", "data-parallel", 2, processes=2),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[], help="words of a system's name")
    parser.add_argument("--curves", help="a CSV to write: the loss of every system at every step")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.child:
        number, folder, process = wanted.child
        train(SYSTEMS[int(number)], Path(folder), wanted.steps, int(process))
        return
    chosen = [s for s in SYSTEMS if not wanted.only or any(w in s.name for w in wanted.only)]
    backends = {s.backend for s in chosen}
    chosen = [s for s in SYSTEMS if s in chosen or s == System(s.backend) and s.backend in backends]
    with tempfile.TemporaryDirectory() as folder:
        material(Path(folder))
        found = {system: measured(system, Path(folder), wanted.steps) for system in chosen}
    if wanted.curves:
        write_curves(Path(wanted.curves), found)
    sys.exit(not show(found))


def material(folder: Path) -> None:
    """A small BERT whose heads, widths and vocabulary eight devices can share, and the texts."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import tiny

    from scripts.benchmarks.material import banking, minilm

    sizes = {"width": 64, "num_heads": 8, "inner_width": 128, "num_layers": 2}
    dropout = {"dropout": 0.0, "attention_dropout": 0.0}
    tiny.write_checkpoint(folder / "tiny", Path(minilm()) / "vocab.txt", **sizes, **dropout)
    records = banking("train")
    random.Random(0).shuffle(records)
    tiny.write_csv(folder / "train.csv", records[:ROWS])
    tiny.write_csv(folder / "validation.csv", records[ROWS : ROWS + CHECKED])


def measured(system: System, folder: Path, steps: int) -> dict:
    """Run a system in its processes; what its first one noted."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "KERAS_BACKEND": system.backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={system.devices}",
    }
    if system.processes > 1:
        addresses = ",".join(f"127.0.0.1:{free_port()}" for _ in range(system.processes))
        environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = addresses
        environment["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(system.processes)
    command = [sys.executable, __file__, "--steps", str(steps), "--child"]
    command += [str(SYSTEMS.index(system)), str(folder)]
    processes = [
        subprocess.Popen(
            [*command, str(process)],
            env={**environment, "KERAS_DISTRIBUTION_PROCESS_ID": str(process)},
        )
        for process in range(system.processes)
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"{system.name} in {system.processes} processes failed")
    with np.load(folder / "noted.npz") as file:
        noted = dict(file)
    return {"figures": json.loads(str(noted.pop("figures"))), **noted}


def train(system: System, folder: Path, steps: int, process: int) -> None:
    """The work of one process: `kbert.finetune`, with the losses and weights noted."""
    import keras

    import kbert
    from kbert.training import callbacks
    from kbert.training.recipe import Recipe

    split_cpu(system)
    losses, weights = [], {}

    class Note(callbacks.StopOnNaN):
        """Keras tells the mean of the losses since the epoch began; of it, the last one."""

        def on_train_batch_end(self, batch, logs=None):
            mean = float(logs["loss"])
            losses.append(mean if batch == 0 else (batch + 1) * mean - batch * self.mean)
            self.mean = mean
            super().on_train_batch_end(batch, logs)

        def on_train_end(self, logs=None):
            found = {v.path: keras.ops.convert_to_numpy(v.value) for v in self.model.weights}
            weights.update(found)

    callbacks.StopOnNaN = Note
    columns = ("text", "category")
    sets = [kbert.read_records(folder / f"{n}.csv", columns) for n in ("train", "validation")]
    task = kbert.TextClassification.from_records(
        sets[0] + sets[1], text="text", label="category", max_length=32, dropout=0.0
    )
    recipe = Recipe(
        epochs=-(-steps // STEPS), batch_size=BATCH, learning_rate=1e-3, dtype="float32",
        strategy=system.strategy, mesh=system.mesh,
    )  # fmt: skip
    output = folder / f"run-{SYSTEMS.index(system)}"
    run = kbert.finetune(
        task, sets[0], None, folder / "tiny", output, recipe, validation=sets[1], verbose=0
    )
    if process == 0:
        figures = json.dumps(run.history)
        np.savez(folder / "noted.npz", losses=losses, figures=figures, **weights)


def split_cpu(system: System) -> None:
    """So many logical devices; XLA_FLAGS does it for JAX."""
    if system.backend == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * system.devices
        tf.config.set_logical_device_configuration(cpu, parts)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def show(found: dict) -> bool:
    """Print the table; whether all losses are within the limit."""
    from scripts.benchmarks.tables import table

    alone = {s.backend: noted for s, noted in found.items() if s.strategy == "none"}
    rows, good = [], True
    for system, noted in found.items():
        expected = alone[system.backend]
        loss = np.max(np.abs(noted["losses"] / expected["losses"] - 1))
        good &= bool(loss <= LIMIT)
        rows.append(
            (system.name, system.processes, system.devices, len(noted["losses"]))
            + (f"{noted['losses'][0]:.4f}", f"{noted['losses'][-1]:.4f}")
            + (f"{loss:.1e}", f"{of_figures(noted, expected):.1e}")
            + (f"{of_weights(noted, expected):.1e}",)
        )
    head = ("system", "processes", "devices each", "steps", "first loss", "last loss")
    print(table((*head, "loss differs", "figures differ", "weight differs"), rows))
    return good


def of_figures(noted: dict, expected: dict) -> float:
    """The largest relative difference of a figure of an epoch, the loss and the validation's."""
    pairs = zip(noted["figures"], expected["figures"], strict=True)
    names = [name for name in expected["figures"][0] if name != "seconds"]
    return max(abs(a[n] - b[n]) / max(abs(b[n]), 1e-9) for a, b in pairs for n in names)


def of_weights(noted: dict, expected: dict) -> float:
    """The largest difference of a weight, in shares of its variable's largest one."""
    names = [n for n in expected if "/" in n and not n.endswith(WITHOUT_MEANING)]
    return max(np.max(np.abs(noted[n] - expected[n])) / np.max(np.abs(expected[n])) for n in names)


def write_curves(file: Path, found: dict) -> None:
    names = [f"{s.name} ({s.processes} x {s.devices})" for s in found]
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["step", *names])
        losses = zip(*(noted["losses"] for noted in found.values()), strict=True)
        writer.writerows([step, *values] for step, values in enumerate(losses, 1))


if __name__ == "__main__":
    main()
