"""What learns, and how fast, by its depth in the encoder."""

import re

import keras

from kbert.errors import InputError

BLOCK = re.compile(r"block_(\d+)")
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
    layers, blocks = _parts(encoder)
    frozen = []
    for part in filter(None, map(str.strip, parts.split(","))):
        frozen += _layers_of(part, layers, blocks)
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
    layers, blocks = _parts(encoder)
    depth, depths = 0, {}
    for layer in layers:
        if layer in blocks.values():
            depth += 1
        depths[layer.name] = depth
    return {name: decay ** (len(blocks) + 1 - depth) for name, depth in depths.items()}


def _parts(encoder):
    """The layers with weights in their order, and those that are blocks by number."""
    layers = [layer for layer in encoder.layers if layer.variables]
    return layers, {
        int(found[1]): layer for layer in layers if (found := BLOCK.fullmatch(layer.name))
    }


def _layers_of(part: str, layers, blocks) -> list[keras.layers.Layer]:
    if part == ENCODER:
        return layers
    if part == EMBEDDINGS:
        first = min(layers.index(block) for block in blocks.values())
        return layers[:first]
    found = RANGE.fullmatch(part)
    if not found:
        raise InputError(
            f"freeze: expected {EMBEDDINGS}, {ENCODER}, a block's number or a range such as 0-7, "
            f"with commas between; came {part!r}."
        )
    numbers = range(int(found[1]), int(found[2] or found[1]) + 1)
    missing = [number for number in numbers if number not in blocks]
    if missing or not numbers:
        named = f"blocks 0 to {max(blocks)}" if len(blocks) > 1 else "block 0 alone"
        raise InputError(
            f"freeze: {part} names blocks that are not there: this encoder has {named} with "
            "weights of its own."
        )
    return [blocks[number] for number in numbers]
