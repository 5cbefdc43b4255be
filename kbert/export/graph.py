"""What a served model computes, as one TensorFlow function with its weights in it once.

output       what the task's model gives
embedding    float32 (B, D), the mean of the encoder's sequence over the real tokens
attention    float32 (B, L, H, T, T), if it is asked for: L layers, H heads
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

from kbert.heads.pooling import PoolTokens
from kbert.inference import freeze
from kbert.layers.encoder import BLOCK

# A graph is one protocol buffer, which ends at 2 GiB: beyond this the weights stay variables.
LARGEST_FROZEN = 1_900_000_000
# Layers of an encoder that may stand behind its last block.
LAST = ("final_norm", "convolution")


def served_function(model: keras.Model, with_attention: bool = False) -> Callable:
    """Features by name → the tensors above by name; also the `tf.Module` of its variables.

    Returns:
        (function, holder): the function, and None or what must be saved with it.
    """
    import tensorflow as tf

    sequence, mask = sequence_of(model), model.input["padding_mask"]
    embedding = PoolTokens("mean", dtype="float32", name="served_embedding")(sequence, mask)
    both = keras.Model(model.input, {"output": model.output, "embedding": embedding})

    def outputs(features):
        found = dict(both(features, training=False))
        if with_attention:
            with heard_attention(model) as scores:
                model(features, training=False)
            found["attention"] = tf.stack([tf.cast(x, tf.float32) for x in scores], axis=1)
        return found

    size = sum(w.value.dtype.size * w.value.shape.num_elements() for w in model.weights)
    if size < LARGEST_FROZEN:
        return freeze(model, outputs), None
    return tf.function(lambda **features: outputs(features), autograph=False), both


def sequence_of(model: keras.Model):
    """What the encoder gives to its head, as a tensor (B, T, D) of the model's graph."""
    last = next(
        layer for layer in reversed(model.layers)
        if layer.name in LAST or BLOCK.fullmatch(layer.name)
    )  # fmt: skip
    return last._inbound_nodes[-1].output_tensors[0]


@contextmanager
def heard_attention(model: keras.Model) -> Iterator[list]:
    """A list to which all attention layers, while they are called, add their scores (B, H, T, T).

    In the order of the calls, which is that of the layers.
    """
    heard: list = []
    layers = [layer for layer in model._flatten_layers() if _gives_scores(layer)]
    for layer in layers:
        layer.call = _listening(layer.call, heard)
    try:
        yield heard
    finally:
        for layer in layers:
            del layer.call


def _gives_scores(layer) -> bool:
    return "return_scores" in inspect.signature(layer.call).parameters


def _listening(call, heard: list):
    def call_and_tell(*arguments, **settings):
        output, scores = call(*arguments, **{**settings, "return_scores": True})
        heard.append(scores)
        return output

    return call_and_tell
