"""Peak memory of one training step, with and without checkpointing and fused attention.

    python scripts/benchmark_memory.py [--backends tensorflow jax torch] [--layers 12]

BERT-base with a classifier and AdamW, float32, dropout off (with it no backend's fused attention
runs), batches of 8 rows of 512 tokens. Each row is a process of its own; its peak resident memory
is that of the operating system, libraries and weights included.
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("tensorflow", "jax", "torch")
BATCH, TOKENS = 8, 512
KEPT, AGAIN = "kept", "computed again"
FUSED, PLAIN = "kernels.attention", "plain"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", nargs="+", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.child:
        train(wanted.layers, *wanted.child)
        return
    sys.path[:0] = [str(ROOT)]
    from scripts.benchmarks.tables import table

    rows = []
    for backend in wanted.backends:
        for attention in (FUSED, PLAIN):
            for blocks in (KEPT, AGAIN):
                peak = measured(backend, wanted.layers, attention, blocks)
                rows.append((backend, attention, blocks, f"{peak / 2**10:,.2f}"))
                print(rows[-1], file=sys.stderr, flush=True)
    print(table(("backend", "attention", "blocks' activations", "peak GiB"), rows))


def measured(backend: str, layers: int, attention: str, blocks: str) -> float:
    """MiB."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu",
    }  # fmt: skip
    command = [sys.executable, __file__, "--layers", str(layers), "--child", attention, blocks]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def train(layers: int, attention: str, blocks: str) -> None:
    import keras
    import numpy as np

    from kbert.heads.classification import classification
    from kbert.layers import kernels
    from kbert.models.bert import BertConfig, bert
    from kbert.training.optimizer import adamw
    from kbert.training.rematerialise import rematerialise

    if attention == PLAIN:
        kernels.attention = lambda *given, **how: kernels.plain_attention(*given, **how)[0]
    config = BertConfig(num_layers=layers, dropout=0.0, attention_dropout=0.0)
    encoder = bert(config, "float32")
    if blocks == AGAIN:
        rematerialise(encoder)
    model = classification(encoder, 2, dropout=0.0)
    model.compile(adamw(1e-5), "mse", jit_compile=keras.backend.backend() == "jax")
    inputs = {
        "token_ids": np.ones((BATCH, TOKENS), "int32"),
        "segment_ids": np.zeros((BATCH, TOKENS), "int32"),
        "padding_mask": np.arange(TOKENS) < np.full((BATCH, 1), TOKENS - 3),
    }
    model.train_on_batch(inputs, np.zeros((BATCH, 2), "float32"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


if __name__ == "__main__":
    main()
