"""Trains a tiny BERT on one device, then on two of the same CPU: see test_distribution.py.

python two_devices.py STRATEGY CHECKPOINT TRAIN_CSV FOLDER
"""

import os
import re
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras  # noqa: E402
import numpy as np  # noqa: E402

from kbert import checkpoint, read_records  # noqa: E402
from kbert.tasks.text_classification import TextClassification  # noqa: E402
from kbert.training import finetune  # noqa: E402
from kbert.training.distribution import LAYOUT, distribution  # noqa: E402


class Losses(keras.callbacks.Callback):
    """The loss at every step: the mean since the epoch began."""

    def on_train_begin(self, logs=None):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def split_cpu():
    """Two logical devices; XLA_FLAGS does it for JAX."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, parts)


def train(strategy, source, records):
    """The loss at every step, and the weights at the end."""
    task = TextClassification.from_records(records, max_length=11, dropout=0.0)
    # So low a limit that every step is clipped; of 320 rows the last batch of 42 is not full.
    recipe = finetune.Recipe(
        epochs=3, batch_size=42, learning_rate=3e-3, clip_norm=0.1, strategy=strategy, average=0.7
    )
    keras.utils.set_random_seed(recipe.seed)
    with distribution(strategy) as num_devices:
        assert num_devices == (2 if strategy in ("mirrored", "data-parallel") else 1)
        loaded = checkpoint.load(source, dtype="float32")
        dataset = finetune._dataset(task, records, loaded.tokenizer, recipe)
        rate = finetune._rate(recipe, len(dataset))
        model = finetune._compiled(task, loaded.encoder, task.loss(), recipe, rate)
        watch = Losses()
        model.fit(dataset, epochs=recipe.epochs, callbacks=[watch], shuffle=False, verbose=0)
    check_parts(model, strategy)
    weights = {v.path: keras.ops.convert_to_numpy(v.value) for v in model.weights}
    pairs = model.optimizer.averages()
    weights |= {f"average/{v.path}": keras.ops.convert_to_numpy(a.value) for v, a in pairs}
    return {"losses": watch.losses, **weights}


def check_parts(model, strategy):
    """What `model-parallel` cuts lies on two devices, a half each; all else is whole."""
    if keras.backend.backend() != "jax":
        return
    for variable in model.weights:
        part = variable.value.addressable_shards[0].data.size / variable.value.size
        is_cut = any(re.fullmatch(pattern, variable.path) for pattern in LAYOUT)
        halves = strategy == "model-parallel" and is_cut
        assert part == (0.5 if halves else 1), variable.path


def main(strategy, source, train_file, folder):
    split_cpu()
    records = read_records(train_file, ("text", "label"))
    for name in ("none", strategy):
        np.savez(Path(folder, f"{name}.npz"), **train(name, source, records))


main(*sys.argv[1:])
