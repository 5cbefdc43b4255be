"""Kill a training run with SIGKILL at random moments and resume it: are the weights the same bits?

    python scripts/check_resume.py --kills 50              KERAS_BACKEND chooses the backend

A run that nothing stops is made first. Then the same run is begun, killed at a random moment
(while it starts, trains, saves, measures or ends) and gone on with, again and again until it
finishes; then anew, until it has been killed as often as asked. The state is saved every other
step, so that many kills fall into a saving. One kill in five comes at any moment since the start,
the others once the run has saved a state, as starting takes most of the time.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINING = (
    "finetune", "text-classification", "--max-length", "16", "--batch-size", "16", "--epochs", "3",
    "--learning-rate", "0.003", "--dtype", "float32", "--save-steps", "2", "--deterministic",
    "--text", "text", "--label", "category", "--resume",
)  # fmt: skip
ROWS = 320
HALF = {"model.safetensors.part", "config.json.part", "outdated"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), wanted.kills, random.Random(wanted.seed))


def check(folder: Path, wanted: int, chance: random.Random):
    files = material(folder)
    began = time.monotonic()
    process = start(files, folder / "whole")
    saved = new_state(process, folder / "whole")
    process.wait()
    ended = time.monotonic()
    seconds, training = ended - began, ended - saved
    expected = learned(folder / "whole")
    kills, where, largest, finished = 0, {}, 0, 0
    while kills < wanted or not finished:
        output = folder / "killed"
        shutil.rmtree(output, ignore_errors=True)
        while not output.exists():
            process = start(files, output)
            if kills < wanted:
                if chance.random() < 0.2:
                    moment = chance.uniform(0.0, seconds)
                else:
                    new_state(process, output)
                    moment = chance.uniform(0.0, training)
                was_killed = kill(process, moment)
                kills += was_killed
                if was_killed:
                    found = at(output)
                    where[found] = where.get(found, 0) + 1
                    largest = max(largest, size(output.with_name("killed.partial")))
            else:
                process.wait()
            if process.returncode not in (0, -signal.SIGKILL):
                sys.exit(f"a run ended with exit code {process.returncode} after {kills} kills")
            print(f"\r{kills} kills, {finished} runs finished", end="", file=sys.stderr)
        if learned(output) != expected:
            sys.exit(f"\nafter {kills} kills the weights differ")
        finished += 1
    print(f"\n{kills} kills in {finished} runs that all ended with the uninterrupted run's bits.")
    found = ", ".join(f"{number} {moment}" for moment, number in where.items())
    print(f"A run takes {seconds:.0f} s, {training:.1f} of them since its first state.")
    print(f"Killed: {found}.")
    print(
        f"Largest partial folder {largest / 2**20:.2f} MiB; weights "
        f"{size(folder / 'whole' / 'model.safetensors') / 2**20:.2f} MiB."
    )


def material(folder: Path) -> list[str]:
    """A tiny checkpoint and a few rows of Banking77, as arguments."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import tiny

    from scripts.benchmarks.material import minilm

    tiny.write_checkpoint(folder / "tiny", Path(minilm()) / "vocab.txt", num_layers=1)
    rows = (ROOT / "kbert" / "datasets" / "banking77" / "test.csv").read_text("utf-8")
    head, *rows = rows.splitlines(keepends=True)
    random.Random(0).shuffle(rows)
    (folder / "train.csv").write_text("".join([head, *rows[:ROWS]]), "utf-8")
    return [
        "--train", str(folder / "train.csv"), "--validation", str(folder / "train.csv"),
        "--checkpoint", str(folder / "tiny"),
    ]  # fmt: skip


def start(files: list[str], output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "kbert.cli", *TRAINING, *files, "--output", str(output)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, **quiet)


def new_state(process: subprocess.Popen, output: Path) -> float:
    """Wait until the run saves another state than was there, or ends; when that was."""
    folder = output.with_name(output.name + ".partial") / "state"
    before = names_in(folder)
    while process.poll() is None and names_in(folder) <= before:
        time.sleep(0.002)
    return time.monotonic()


def names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:  # not yet, or no more
        return set()


def kill(process: subprocess.Popen, moment: float) -> bool:
    """Whether the process was killed so many seconds from now; else it had ended."""
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait() == -signal.SIGKILL


def at(output: Path) -> str:
    """What the run was doing when it was killed, by what lies in its folder."""
    partial = output.with_name(output.name + ".partial")
    if output.exists():
        return "at the end"
    if not (partial / "state").is_dir():
        return "before the first state"
    names = {path.name for path in partial.rglob("*")}
    if "unfinished" in names:
        return "while a state was saved"
    return "while the model was saved" if names & HALF else "between"


def learned(output: Path) -> bytes:
    return (output / "model.safetensors").read_bytes()


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
