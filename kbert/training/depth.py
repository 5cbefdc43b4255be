"""What learns, and how fast, by its depth in the encoder."""

import math
import re

import keras

from kbert.errors import InputError
from kbert.layers.encoder import blocks

RANGE = re.compile(r"(\d+)(?:-(\d+))?")
EMBEDDINGS, ENCODER = "embeddings", "encoder"


def freeze(encoder: keras.Model, parts: str) -> list[str]:
    """Make layers of an encoder untrainable; call it before the model is compiled.

    Args:
        encoder: a model of `kbert.models`.
        parts: what stays as it is, with commas between: "embeddings" (all that stands before the
            first block), "encoder" (everything; the head alone learns), a block's number from 0, or
            a range of them ("0-7").

    Returns:
        The names of the frozen layers.

    Raises:
        InputError: a part is none of these, or there is no such block.
    """
    frozen = []
    for part in filter(None, map(str.strip, parts.split(","))):
        frozen += _layers_of(part, encoder)
    for layer in frozen:
        layer.trainable = False
    return list(dict.fromkeys(layer.name for layer in frozen))


def rates_by_depth(encoder: keras.Model, decay: float) -> dict[str, float]:
    """Shares of the learning rate that fall with the distance from the head (Clark et al. 2020, A).

    The last block, and what stands behind it, learns at `decay` times the head's rate, the block
    before at its square, and so on; the embeddings slowest. For `optimizer.adamw(rates=…)`.

    Args:
        encoder: a model of `kbert.models`.
        decay: above 0, up to 1.

    Returns:
        Name of a layer → its share.
    """
    return {name: decay**distance for name, distance in _distances(encoder).items()}


def starts_by_depth(encoder: keras.Model, blocks_an_epoch: int, steps: int) -> dict[str, int]:
    """Batches from which layers learn, the upper ones first (Howard and Ruder 2018, 3.3).

    In the first epoch the head learns alone, in each later one so many blocks more, from the last
    down; the embeddings count as one below the first. For `optimizer.adamw(starts=…)`.

    Args:
        encoder: a model of `kbert.models`.
        blocks_an_epoch: how many more learn in each epoch.
        steps: batches in an epoch.

    Returns:
        Name of a layer → how many batches it is left as it is.
    """
    distances = _distances(encoder).items()
    return {name: math.ceil(distance / blocks_an_epoch) * steps for name, distance in distances}


def parameters(model: keras.Model) -> str:
    """How many numbers a model has, and how many of them learn, in words."""
    number, learn = (
        sum(math.prod(variable.shape) for variable in variables)
        for variables in (model.weights, model.trainable_weights)
    )
    return f"{learn:,} of {number:,} parameters learn ({learn / number:.2%})."


def _distances(encoder) -> dict[str, int]:
    """How far layers with weights are from the head: the last block, and what is behind it, 1."""
    found = blocks(encoder)
    own = {layer: number for number, group in found.items() for layer in group}
    depth, depths = 0, {}
    for layer in _with_weights(encoder):
        depth = own[layer] + 1 if layer in own else depth
        depths[layer.name] = depth
    return {name: len(found) + 1 - depth for name, depth in depths.items()}


def _with_weights(encoder) -> list[keras.layers.Layer]:
    return [layer for layer in encoder.layers if layer.variables]


def _layers_of(part: str, encoder) -> list[keras.layers.Layer]:
    layers, found = _with_weights(encoder), blocks(encoder)
    if part == ENCODER:
        return layers
    if part == EMBEDDINGS:
        first = min(layers.index(layer) for group in found.values() for layer in group)
        return layers[:first]
    match = RANGE.fullmatch(part)
    if not match:
        raise InputError(
            f"freeze: expected {EMBEDDINGS}, {ENCODER}, a block's number or a range such as 0-7, "
            f"with commas between; came {part!r}."
        )
    numbers = range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers or any(number not in found for number in numbers):
        named = f"blocks 0 to {max(found)}" if len(found) > 1 else "block 0 alone"
        raise InputError(
            f"freeze: {part} names blocks that are not there: this encoder has {named} with "
            "weights of its own."
        )
    return [layer for number in numbers for layer in found[number]]
