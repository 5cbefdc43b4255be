"""Answers: a model as a function that its backend runs fast, over sorted batches."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import keras
import numpy as np

from kbert.errors import InputError
from kbert.inputs.batches import sorted_batches
from kbert.inputs.gaps import PLACES
from kbert.inputs.packer import warn_of_cut

# Inputs that are sorted by length together: memory stays constant however many come.
WINDOW = 8192


class Predictor:
    """A model with its task and tokenizer, ready to answer with the weights it has now.

    Args:
        model: features → outputs.
        task: makes rows of what is asked, and answers of outputs (`kbert.tasks`).
        tokenizer: text → token ids.
        batch_size: rows that are computed together.
    """

    def __init__(self, model: keras.Model, task, tokenizer, batch_size: int = 64):
        self.task = task
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.function = inference_function(model)
        self.vocab_size = model.get_layer("token_embedding").input_dim

    def __call__(self, inputs: Iterable[Any]) -> Iterator[dict]:
        """One answer an input, in their order; read and answered window by window.

        Args:
            inputs: texts, or records with the task's `inputs`.
        """
        inputs, number, cut = iter(inputs), 0, 0
        while window := list(islice(inputs, WINDOW)):
            prepared = self.task.prepare(window, self.tokenizer)
            number, cut = number + len(window), cut + prepared.cut
            merged = self.task.merged(self.outputs(prepared.rows), prepared)
            yield from self.task.answers(merged, prepared)
        warn_of_cut(cut, number, self.task.max_length)

    def logits(self, inputs: Sequence[Any]):
        """What the task makes of the model's outputs, one an input: for classes (N, C)."""
        prepared = self.task.prepare(inputs, self.tokenizer)
        warn_of_cut(prepared.cut, len(inputs), self.task.max_length)
        return self.task.merged(self.outputs(prepared.rows), prepared)

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        """The task's figures on records, or on what it makes of them (masks)."""
        prepared = getattr(self.task, "examples", self.task.prepare)(records, self.tokenizer)
        warn_of_cut(prepared.cut, len(records), self.task.max_length)
        return self.task.scores(self.task.merged(self.outputs(prepared.rows), prepared), records)

    def outputs(self, rows: Sequence) -> list:
        """Packed rows → what the model gives for each, in their order; computed short to long.

        Where the model answers for tokens, a row's output has the length of its batch. Where that
        is more than can be kept (a number for each word of the vocabulary), the task's `reduced`
        says what is.
        """
        reduced = getattr(self.task, "reduced", None)
        packer = self.task.packer(self.tokenizer)
        # XLA compiles each length, so JAX gets the few of the ladder; the others take any.
        any_length = range(1, packer.max_length + 1)
        buckets = None if keras.backend.backend() == "jax" else any_length
        found: list = [None] * len(rows)
        for indices, features in sorted_batches(
            packer, rows, batch_size=self.batch_size, buckets=buckets
        ):
            self._check_ids(features["token_ids"])
            for index, output in zip(indices, self.function(features), strict=True):
                found[index] = reduced(output, rows[index]) if reduced else output
        return found

    def _check_ids(self, ids: np.ndarray):
        """Raises an InputError for an id that the model has no embedding of.

        TensorFlow would tell of its index, PyTorch that there is one; JAX would give NaN, and all
        would take one below 0 for one from the end.
        """
        vocab_size = self.vocab_size
        outside = ids[(ids < 0) | (ids >= vocab_size)]
        if outside.size:
            token = self.tokenizer.rust.id_to_token(int(outside[0])) if outside[0] >= 0 else None
            raise InputError(
                f"expected token ids from 0 to {vocab_size - 1}, came {outside[0]}"
                f"{f' ({token!r})' if token else ''}: the model's vocabulary has {vocab_size} "
                "tokens. Take the tokenizer of its own folder, as it is there."
            )


def inference_function(model: keras.Model) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The model as a function from NumPy features to NumPy logits, compiled by its backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow_function(model)
    if backend == "torch":
        return _torch_function(model)
    return lambda features: np.asarray(model.predict_on_batch(features))


def _tensorflow_function(model):
    import tensorflow as tf

    frozen = freeze(model)

    def function(features):
        return frozen(**{key: tf.constant(value) for key, value in features.items()}).numpy()

    return function


def freeze(model: keras.Model, function=None):
    """A model as one TensorFlow function with its weights as constants, batch and length open.

    oneDNN brings a matrix into its own layout before it multiplies; of a constant it keeps the
    result, of a variable it cannot. That is half the time of a forward pass on a CPU.

    Args:
        model: functional, its inputs a dict of (B, T) tensors, or (B, M).
        function: what is computed, features → tensors in any nest; default the model's outputs.
            A weight that it uses more than once stands in the graph once.

    Returns:
        A `tf.function` that takes the inputs by name and gives the outputs.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    function = function or (lambda features: model(features, training=False))
    specs = {
        key: tf.TensorSpec([None, None], tensor.dtype, name=key)
        for key, tensor in sorted(model.input.items())
    }

    def call(**features):
        return function(features)

    whole = tf.function(call, autograph=False).get_concrete_function(**specs)
    constant = convert_variables_to_constants_v2(whole)
    order = [tensor.name.split(":")[0] for tensor in constant.inputs]
    names = [tensor.name.split(":")[0] for tensor in whole.inputs[: len(order)]]
    keys = dict(zip(names, sorted(specs), strict=True))

    @tf.function(autograph=False, input_signature=None)
    def frozen(**features):
        outputs = constant(*(features[keys[name]] for name in order))
        return tf.nest.pack_sequence_as(whole.structured_outputs, outputs)

    frozen.get_concrete_function(**specs)
    return frozen


def _torch_function(model):
    import torch

    keys = sorted(model.input)
    # The layers of Keras cost Python some 17 ms a pass: the traced graph runs without them. One
    # graph for batches without padding, where attention leaves the mask out, and one for others.
    graphs = {}

    class Eager(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model  # so that the graph shares its weights

        def forward(self, *tensors):
            return self.model(dict(zip(keys, tensors, strict=True)), training=False)

    eager = Eager()

    @torch.inference_mode()
    def function(features):
        tensors = [keras.ops.convert_to_tensor(features[key]) for key in keys]
        full = bool(features["padding_mask"].all())
        if full not in graphs:
            graphs[full] = _traced(
                eager, tensors, lambda rows: [_other(key, features, rows) for key in keys]
            )
        return graphs[full](*tensors).float().cpu().numpy()

    return function


def _other(key: str, features, rows: int):
    """The first rows of a feature, as a batch of other sizes has them: shorter by a token."""
    first = features[key][:rows]
    if key != PLACES:
        return keras.ops.convert_to_tensor(first[:, :-1])
    last = features["padding_mask"].shape[1] - 2
    return keras.ops.convert_to_tensor(np.minimum(np.concatenate([first, first], 1), max(last, 0)))


def _traced(eager, tensors, others):
    """`eager` as a graph of PyTorch, if that graph serves other sizes too.

    `others` makes a batch of other sizes, of as many rows as belong together.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes that Keras only checks
        graph = torch.jit.trace(eager, tuple(tensors), check_trace=False)
    try:
        rows = len(tensors[0]) // len(graph(*tensors))  # that belong together, as choices do
        other = others(rows)
        is_same = torch.allclose(graph(*other), eager(*other), rtol=1e-2, atol=1e-2)
    except (RuntimeError, IndexError):  # sizes that do not fit
        is_same = False
    return graph if is_same else eager
