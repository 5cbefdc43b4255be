"""LoRA: beside some kernels of an encoder, products of two thin matrices learn (Hu et al. 2021)."""

import keras

from kbert.errors import InputError
from kbert.layers.encoder import blocks


def add_lora(encoder: keras.Model, rank: int, targets: str, alpha: float | None = None) -> None:
    """Freeze an encoder, and add low-rank products that learn to some of its kernels.

    A kernel W (D, E) becomes W + alpha / rank · A B, with A (D, rank) random and B (rank, E) zero,
    so that the encoder begins as it is. `Dense.enable_lora` of Keras does it; what
    `kbert.checkpoint` saves has the products in the kernels.

    Args:
        encoder: a model of `kbert.models`.
        rank: of the products.
        targets: names of dense layers in the blocks, with commas between: "query,value".
        alpha: default `rank`.

    Raises:
        InputError: no block has a layer of that name.
    """
    layers = [
        dense for group in blocks(encoder).values() for block in group for dense in _in(block)
    ]
    wanted = {name.strip() for name in targets.split(",")}
    there = list(dict.fromkeys(dense.name for dense in layers))
    if missing := sorted(wanted - set(there)):
        raise InputError(
            f"lora_targets: expected dense layers of a block, {', '.join(there)}; came "
            f"{', '.join(map(repr, missing))}."
        )
    for variable in encoder.trainable_variables:
        variable.trainable = False
    for dense in layers:
        if dense.name in wanted:
            above, _, parent = dense.path.rpartition("/")[0].rpartition("/")
            with keras.name_scope(parent, override_parent=above):  # paths tell rates and layouts
                dense.enable_lora(rank, alpha)


def _in(block: keras.layers.Layer) -> list[keras.layers.Dense]:
    """The dense layers of a block; of one that shares its weights with others, once."""
    return [layer for layer in block._flatten_layers() if isinstance(layer, keras.layers.Dense)]
