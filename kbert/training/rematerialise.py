"""Gradient checkpointing: memory for time (Chen et al. 2016, arXiv 1604.06174)."""

import keras

from kbert.layers.encoder import blocks


def rematerialise(encoder: keras.Model) -> None:
    """Let each block keep its input alone in training, and compute itself again for its gradient.

    Loss and gradients stay what they are, dropout too. Call it before the model is compiled.

    Args:
        encoder: a model of `kbert.models`.
    """
    for group in blocks(encoder).values():
        for block in group:
            # No `keras.RematScope`: it lets TensorFlow draw dropout anew for the gradient, and
            # a seed drawn within would not leave JAX's trace.
            block.call = _twice(block)


def _twice(block: keras.layers.Layer):
    """The block's `call`, which in training is a pure function of float tensors, made twice."""
    once = block.call

    def call(*args, training=None, **given):
        if not training:
            return once(*args, training=training, **given)
        tensors = keras.tree.flatten((args, given))
        # What has a gradient is handed in; TensorFlow can hand in nothing else.
        places = [i for i, x in enumerate(tensors) if _is_float(x)]
        weights = block.weights
        known = {id(variable) for variable in weights}
        seeds = [variable for variable in block.variables if id(variable) not in known]
        drawn = [seed.value * 1 for seed in seeds]  # as they are now, not when they are read

        def pure(*handed):
            mapping = list(zip([*weights, *seeds], [*handed[: len(weights)], *drawn], strict=True))
            full = list(tensors)
            for place, x in zip(places, handed[len(weights) :], strict=True):
                full[place] = x
            args_, given_ = keras.tree.pack_sequence_as((args, given), full)
            with keras.StatelessScope(state_mapping=mapping) as scope:
                y = once(*args_, training=training, **given_)
            return y, *[scope.get_current_value(seed) for seed in seeds]

        values = [keras.ops.convert_to_tensor(variable) for variable in weights]
        y, *after = keras.remat(pure)(*values, *(tensors[i] for i in places))
        for seed, value in zip(seeds, after, strict=True):
            seed.assign(value)
        return y

    return call


def _is_float(x) -> bool:
    return (
        keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        if hasattr(x, "dtype")
        else False
    )
