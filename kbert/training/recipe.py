"""How to train: the recipe of a run, and what this backend and these devices can do of it."""

from dataclasses import dataclass
from pathlib import Path

import keras

from kbert.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How to train; written to settings.json.

    Attributes:
        epochs: passes over the training records.
        batch_size: rows in a batch over all devices together.
        token_budget: tokens in a batch with padding, instead of rows: short texts then come in
            larger batches; 0 for `batch_size` rows.
        learning_rate: the highest one.
        schedule: "linear", "cosine" or "constant" after the warm-up.
        warmup: share of all steps in which the rate rises.
        weight_decay: see `optimizer.adamw`.
        clip_norm: largest norm of all gradients together; 0 for no clipping.
        dropout: probability of dropping a value in the encoder; None as its checkpoint says.
        seed: of the order of the data, of dropout and of new weights.
        dtype: "float32", "mixed_bfloat16", "mixed_float16" (with a scaled loss; see
            `optimizer.with_loss_scaling`), or "auto": mixed bfloat16 where products of it are
            faster (a CPU with AMX, except on JAX; a GPU or TPU), float32 elsewhere.
        strategy, mesh: see `distribution.distribution`.
        rematerialise: whether a block's activations are computed again for its gradient, not kept:
            less memory, for a second forward pass; see `rematerialise.py`.
        deterministic: whether the same run gives the same bits; slower on a GPU.
        freeze: what does not learn, as "embeddings,0-7"; see `depth.freeze`.
        lora_rank: of the products that learn in place of the encoder's weights; 0 for the weights.
        lora_targets, lora_alpha: see `lora.add_lora`.
        unfreeze: blocks more that learn in each epoch, from the last down, the head alone in the
            first; 0 for all from the beginning. See `depth.starts_by_depth`.
        layer_decay: share of the learning rate that a block has of the next one's, the head's the
            whole; see `depth.rates_by_depth`.
        accumulate: batches whose gradients make one step of the optimizer, their mean.
        class_weights: "balanced", or "label=weight" with commas between; "" for 1 each. See
            `losses.weights_of`.
        label_smoothing: share of a label that all labels have in common; see `losses`.
        average: how much of the weights' moving average a step keeps, which is what is validated
            and saved; 0 for the weights themselves. See `optimizer.AdamW`.
        patience: epochs without a better one on the validation, after which training stops; 0
            for never.
        steps_per_execution: batches that Keras runs between two looks at the callbacks.
        jit: "on" or "off", XLA (on PyTorch its compiler); "auto": on JAX alone. On TensorFlow's CPU
            a step is faster without, and MirroredStrategy fails with it.
    """

    epochs: int = 3
    batch_size: int = 32
    token_budget: int = 0
    learning_rate: float = 3e-4
    schedule: str = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    dropout: float | None = None
    seed: int = 0
    dtype: str = "auto"
    strategy: str = "none"
    mesh: str | None = None
    rematerialise: bool = False
    deterministic: bool = False
    freeze: str = ""
    lora_rank: int = 0
    lora_targets: str = "query,value"
    lora_alpha: float | None = None
    unfreeze: int = 0
    layer_decay: float = 1.0
    accumulate: int = 1
    class_weights: str = ""
    label_smoothing: float = 0.0
    average: float = 0.0
    patience: int = 0
    steps_per_execution: int = 1
    jit: str = "auto"


def training_dtype(name: str) -> str:
    """The dtype policy that "auto" stands for on this machine; other names as they are."""
    if name != "auto":
        return name
    backend = keras.backend.backend()
    if backend == "torch":  # for which keras.distribution knows no devices
        devices = [str(keras.ops.zeros(()).device)]
    else:
        devices = keras.distribution.list_devices()
    if any(device.split(":")[0] != "cpu" for device in devices):
        return "mixed_bfloat16"
    cpu = Path("/proc/cpuinfo")
    has_amx = cpu.is_file() and "amx_bf16" in cpu.read_text()
    return "mixed_bfloat16" if has_amx and backend != "jax" else "float32"


def make_deterministic(wanted: bool):
    """Operations that give the same bits each time, where the backend has others by default."""
    if wanted and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif wanted and keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def check_recipe(recipe: Recipe, has_validation: bool):
    if recipe.jit == "on" and recipe.strategy == "mirrored":
        raise InputError("MirroredStrategy fails with XLA: take jit off, or auto.")
    if recipe.dtype == "mixed_float16" and recipe.strategy in ("mirrored", "tpu"):
        raise InputError(
            f"mixed_float16 with the strategy {recipe.strategy}: Keras looks for an overflow of "
            "the scaled gradients on one device alone. Take mixed_bfloat16, or data-parallel "
            "with KERAS_BACKEND=jax."
        )
    if recipe.steps_per_execution > 1 and keras.backend.backend() == "torch":
        raise InputError(
            f"steps_per_execution {recipe.steps_per_execution}: Keras runs steps one by one on "
            "PyTorch. Take 1 there."
        )
    if recipe.unfreeze and recipe.epochs < 2:
        raise InputError(
            f"unfreeze {recipe.unfreeze} lets the first blocks learn in the second epoch, and "
            "there is one: give more epochs, or freeze what is not to learn."
        )
    if recipe.lora_rank and recipe.freeze:
        raise InputError(
            f"lora_rank {recipe.lora_rank} leaves the encoder as it is but for its targets: leave "
            f"freeze {recipe.freeze!r} away."
        )
    if recipe.patience and not has_validation:
        raise InputError(
            f"patience {recipe.patience} waits for a better epoch on the validation, and there is "
            "none: give --validation."
        )


def check_batch(recipe: Recipe, num_devices: int):
    if recipe.token_budget and num_devices > 1:
        raise InputError(
            f"token_budget {recipe.token_budget} makes batches of any number of rows, which "
            f"{num_devices} devices cannot share equally. Give batch_size instead."
        )
    if recipe.batch_size % num_devices:
        less = recipe.batch_size // num_devices * num_devices
        fitting = f"{less} or {less + num_devices}" if less else num_devices
        raise InputError(
            f"batch_size {recipe.batch_size} does not divide by {num_devices} devices; "
            f"{fitting} would."
        )
