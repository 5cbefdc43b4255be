"""SavedModels so small that loading takes no time, with the signatures of shared/serving."""

import os
from pathlib import Path

import tensorflow as tf

LABELS = ("card_arrival", "cancel_transfer", "top_up")


class Tiny(tf.Module):
    """Three probabilities of a mean over letters or tokens: of nothing, NaN, as a careless graph.

    `version` is what it adds to a label, where answers shall tell who gave them.
    """

    def __init__(self, version=""):
        super().__init__()
        self.labels = tf.constant([label + version for label in LABELS])
        self.slopes = tf.Variable([[0.03, -0.02, 0.011]])

    def answers(self, mean):
        probabilities = tf.nn.softmax(mean[:, None] * self.slopes)
        best = tf.argmax(probabilities, -1)
        score = tf.reduce_max(probabilities, -1)
        label = tf.gather(self.labels, best)
        return {"label": label, "probabilities": probabilities, "score": score}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serving_default(self, text):
        lengths = tf.cast(tf.strings.length(text), tf.float32)
        lengths = tf.reshape(lengths, (tf.shape(text)[0], -1))
        return self.answers(tf.reduce_mean(lengths * lengths / lengths, -1))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")])
    def tokens(self, token_ids):
        return self.answers(tf.reduce_mean(tf.cast(token_ids, tf.float32), -1) / 1000)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        value = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        classes = tf.tile(self.labels[None], (tf.shape(inputs)[0], 1))
        return {"classes": classes, "scores": self.answers(value)["probabilities"]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        value = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        return {"outputs": 2 * value}


class Kinds(tf.Module):
    """One output of each kind, of a pair of inputs."""

    SPECS = [tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.int64, name="b")]

    @tf.function(input_signature=SPECS)
    def serving_default(self, a, b):
        words = tf.strings.as_string(b)
        return {"half": a / 2, "even": b % 2 == 0, "whole": b, "raw_bytes": words}

    @tf.function(input_signature=SPECS[:1])
    def bfloat16(self, a):
        return {"x": tf.cast(a, tf.bfloat16)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.bool, name="flags")])
    def scalar(self, flags):
        return {"any": tf.reduce_any(flags)}


def write(folder: Path, version: int, module, names=("serving_default", "tokens")) -> Path:
    """A version, beside and then renamed as `kbert.export` does."""
    beside = folder / f".exporting-{version}"
    signatures = {name: getattr(module, name) for name in names}
    tf.saved_model.save(module, str(beside), signatures=signatures)
    os.rename(beside, folder / str(version))
    return folder / str(version)


class Counting(tf.Module):
    """Tells the how manieth request it is."""

    def __init__(self):
        super().__init__()
        self.number = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serving_default(self, text):
        return {"number": tf.fill(tf.shape(text), self.number.assign_add(1))}
