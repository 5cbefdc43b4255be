"""How often XLA compiles the training step of each architecture: at most once for each length.

    python scripts/compilations.py [--backends tensorflow jax] [--only bert …]

A tiny model of each architecture (its heads, dropout and AdamW as in a real one) trains two epochs
of `model.fit` with `jit_compile` on texts of random lengths, in batches as `kbert finetune` makes
them; XLA writes down every program that it compiles. Exit code 1 if there are more of the step than
lengths to which batches are padded.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {
    "bert": "BertConfig", "roberta": "RobertaConfig", "distilbert": "DistilBertConfig",
    "albert": "AlbertConfig", "electra": "ElectraConfig", "deberta": "DebertaConfig",
    "modernbert": "ModernBertConfig", "mobilebert": "MobileBertConfig",
}  # fmt: skip
SIZES = {"num_layers": 2, "width": 24, "num_heads": 2, "inner_width": 29, "max_length": 64}
OWN_SIZES = {
    "albert": {"embedding_width": 11},
    "electra": {"embedding_width": 11},
    "mobilebert": {"embedding_width": 11, "bottleneck_width": 14},
}
VOCAB, ROWS, BATCH, LENGTHS = 101, 90, 16, (8, 12, 16)
STEP = ("train_step", "one_step_on_data")  # what the step is called on JAX, TensorFlow


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--only", nargs="*", default=list(CONFIGS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.child:
        train(wanted.child)
        return
    sys.path[:0] = [str(ROOT)]
    from scripts.benchmarks.tables import table

    rows = []
    for name in wanted.only:
        found = [compilations(name, backend) for backend in wanted.backends]
        rows.append((name, len(LENGTHS), *found))
        print(rows[-1], file=sys.stderr, flush=True)
    print(table(("architecture", "lengths", *wanted.backends), rows))
    sys.exit(not all(0 < number <= len(LENGTHS) for row in rows for number in row[2:]))


def compilations(name: str, backend: str) -> int:
    """Programs that XLA made of an architecture's training step, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "XLA_FLAGS": f"--xla_dump_to={folder} --xla_dump_hlo_as_text",
        }
        command = [sys.executable, __file__, "--child", name]
        subprocess.run(command, env=environment, check=True)
        files = [file.name for file in Path(folder).glob("module_*before_optimizations.txt")]
    return sum(any(step in file for step in STEP) for file in files)


def train(name: str) -> None:
    """Two epochs over batches of every length, each in several batches."""
    import numpy as np

    from kbert.heads.classification import classification
    from kbert.inputs.batches import batched_dataset
    from kbert.inputs.packer import Packer
    from kbert.text.form import Form
    from kbert.training.optimizer import adamw

    architecture = import_module(f"kbert.models.{name}")
    config = getattr(architecture, CONFIGS[name])(VOCAB, **SIZES | OWN_SIZES.get(name, {}))
    encoder = architecture.encoder(config, "float32")
    model = classification(encoder, 3)
    model.compile(adamw(1e-3), "mse", jit_compile=True)
    draw = np.random.default_rng(0)
    rows = [
        (draw.integers(1, VOCAB, length).tolist(), [0] * length)
        for length in draw.integers(LENGTHS[0] // 2, LENGTHS[-1] + 1, ROWS)
    ]
    packer = Packer(Form(), 0, LENGTHS[-1], with_segments="segment_ids" in encoder.input)
    dataset = batched_dataset(
        packer, rows, draw.normal(size=(ROWS, 3)), batch_size=BATCH, remainder="fill"
    )
    seen = {features["token_ids"].shape[1] for features, *_ in dataset.as_numpy_iterator()}
    assert seen == set(LENGTHS), seen
    model.fit(dataset, epochs=2, shuffle=False, verbose=0)


if __name__ == "__main__":
    main()
