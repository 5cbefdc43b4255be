"""A block that is computed again for its gradient trains as one whose activations are kept."""

import keras
import numpy as np
import pytest
from harness import BACKEND, to_numpy

from kbert.heads.classification import classification
from kbert.models.albert import AlbertConfig, albert
from kbert.models.bert import BertConfig, bert
from kbert.models.deberta import DebertaConfig, deberta
from kbert.models.modernbert import ModernBertConfig, modernbert
from kbert.training.optimizer import adamw
from kbert.training.rematerialise import rematerialise

SIZES = {"num_layers": 2, "width": 12, "num_heads": 3, "inner_width": 17, "max_length": 11}
# Of each kind of block one: plain; shared by all layers; with relative positions handed to it; with
# a rotation, gated, and before normalisation.
ENCODERS = {
    "bert": lambda: bert(BertConfig(19, dropout=0.2, **SIZES), "float32"),
    "albert": lambda: albert(AlbertConfig(19, embedding_width=5, dropout=0.2, **SIZES), "float32"),
    "deberta": lambda: deberta(DebertaConfig(19, dropout=0.2, **SIZES), "float32"),
    "modernbert": lambda: modernbert(ModernBertConfig(19, **SIZES), "float32"),
}


def trained(name, again):
    """The losses of three steps, and all variables after them."""
    keras.utils.set_random_seed(5)
    encoder = ENCODERS[name]()
    if again:
        rematerialise(encoder)
    model = classification(encoder, 3, dropout=0.1)
    model.compile(adamw(0.01), "mse", jit_compile=BACKEND == "jax")
    draw = np.random.default_rng(2)
    inputs = {
        "token_ids": draw.integers(1, 19, (5, 7), "int32"),
        "segment_ids": np.zeros((5, 7), "int32"),
        "padding_mask": np.arange(7) < draw.integers(3, 8, (5, 1)),
    }
    inputs = {key: inputs[key] for key in encoder.input}
    targets = draw.normal(size=(5, 3)).astype("float32")
    losses = [float(model.train_on_batch(inputs, targets)) for _ in range(3)]
    return losses, [to_numpy(v) for v in model.variables]


@pytest.mark.parametrize("name", ENCODERS)
def test_losses_weights_and_dropout_stay_what_they_are(name):
    (losses, variables), (again, their_variables) = trained(name, False), trained(name, True)
    assert losses[2] != losses[0]
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for ours, theirs in zip(variables, their_variables, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=2e-4)


def test_a_block_is_computed_again_for_its_gradient():
    encoder = ENCODERS["bert"]()
    made = []
    feed_forward = encoder.get_layer("block_1").feed_forward
    once = feed_forward.call
    feed_forward.call = lambda *args, **given: made.append(1) or once(*args, **given)
    rematerialise(encoder)
    if BACKEND == "jax":
        assert "remat" in str(gradient_of_jax(encoder))
        return
    model = classification(encoder, 3)
    model.compile(adamw(0.01), "mse", run_eagerly=True)
    inputs = {
        "token_ids": np.ones((2, 3), "int32"),
        "segment_ids": np.zeros((2, 3), "int32"),
        "padding_mask": np.ones((2, 3), bool),
    }
    model.train_on_batch(inputs, np.ones((2, 3), "float32"))
    made.clear()
    model.train_on_batch(inputs, np.ones((2, 3), "float32"))
    assert len(made) == 2
    made.clear()
    model.predict_on_batch(inputs)
    assert len(made) == 1


def gradient_of_jax(encoder):
    """The program of the gradient, as JAX writes it."""
    import jax

    inputs = [np.ones((2, 3), "int32"), np.zeros((2, 3), "int32"), np.ones((2, 3), bool)]
    inputs = dict(zip(("token_ids", "segment_ids", "padding_mask"), inputs, strict=True))

    def loss(weights):
        others = [v.value for v in encoder.non_trainable_variables]
        return encoder.stateless_call(weights, others, inputs, training=True)[0]["sequence"].sum()

    return jax.make_jaxpr(jax.grad(loss))([v.value for v in encoder.trainable_variables])
