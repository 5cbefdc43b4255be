"""AdamW against the paper's loop in NumPy, and against Keras's own."""

import keras
import numpy as np
import pytest
from harness import BACKEND, to_numpy

from kbert.layers.normalization import LayerNormalization
from kbert.training.optimizer import AdamW, adamw
from kbert.training.schedules import WarmupDecay

STEPS, V, D, C = 20, 11, 5, 3
RATE = WarmupDecay(0.02, STEPS, 3)


def model_of(vocab_size=V):
    """Token ids (B, 7) -> logits (B, 3), through an embedding, a norm and a dense layer."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((7,), dtype="int32")
    x = keras.layers.Embedding(vocab_size, D, name="embedding")(inputs)
    x = LayerNormalization(name="norm")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(C, name="dense")(x))


def batches():
    """Ids that come several times in a batch, some of the vocabulary never."""
    draw = np.random.default_rng(2)
    return draw.integers(0, V - 2, (STEPS, 13, 7)), draw.integers(0, C, (STEPS, 13))


def train(model, optimizer, ids, targets):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=BACKEND == "jax")
    x, y = ids.reshape(-1, 7), targets.reshape(-1)
    model.fit(x, y, batch_size=ids.shape[1], shuffle=False, verbose=0)
    return [to_numpy(weight) for weight in model.trainable_weights]


def test_two_accumulated_batches_are_one_of_twice_the_size():
    ids, targets = batches()
    pairs = ids.reshape(STEPS // 2, 26, 7), targets.reshape(STEPS // 2, 26)
    expected = train(model_of(), adamw(0.02, 0.1), *pairs)
    got = train(model_of(), adamw(0.02, 0.1, accumulate=2), ids, targets)
    for array, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(array, other, rtol=0, atol=2e-5)


def gradients_in_numpy(weights, ids, targets):
    """By the chain rule; the embedding's is dense, repeated ids summed."""
    embedding, gamma, beta, kernel, bias = weights
    x = embedding[ids]  # (B, T, D)
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    normal = (x - x.mean(-1, keepdims=True)) / deviation
    flat = (normal * gamma + beta).reshape(len(ids), -1)
    logits = flat @ kernel + bias
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    scores[np.arange(len(ids)), targets] -= 1
    upstream = scores / len(ids)
    g = (upstream @ kernel.T).reshape(x.shape)
    of_normal = g * gamma
    centred = of_normal - of_normal.mean(-1, keepdims=True)
    of_x = (centred - normal * (of_normal * normal).mean(-1, keepdims=True)) / deviation
    of_embedding = np.zeros_like(embedding)
    np.add.at(of_embedding, ids, of_x)
    parts = (of_embedding, (g * normal).sum((0, 1)), g.sum((0, 1)))
    return [*parts, flat.T @ upstream, upstream.sum(0)]


def train_in_numpy(weights, ids, targets, weight_decay, clip_norm, epsilon, shares=(1,) * 5):
    """Loshchilov and Hutter 2019, algorithm 2, in float64; how often it clipped."""
    weights = [weight.astype("float64") for weight in weights]
    moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
    decays = [weight_decay, 0.0, 0.0, weight_decay, 0.0]
    clipped = 0
    for step, batch in enumerate(zip(ids, targets, strict=True)):
        grads = gradients_in_numpy(weights, *batch)
        norm = np.sqrt(sum((grad**2).sum() for grad in grads))
        clipped += norm > clip_norm
        scale = min(1.0, clip_norm / norm)
        rate = 0.02 * (step / 3 if step < 3 else 1 - (step - 3) / 17)
        for weight, grad, (m, v), decay, share in zip(
            weights, grads, moments, decays, shares, strict=True
        ):
            m += 0.1 * (grad * scale - m)
            v += 0.001 * ((grad * scale) ** 2 - v)
            weight *= 1 - rate * share * decay
            correction = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            weight -= rate * share * correction * m / (np.sqrt(v) + epsilon)
    return weights, clipped


def test_twenty_steps_are_those_of_the_paper():
    model, (ids, targets) = model_of(), batches()
    before = [to_numpy(weight) for weight in model.trainable_weights]
    optimizer = adamw(RATE, weight_decay=0.3, clip_norm=0.4)
    expected, clipped = train_in_numpy(before, ids, targets, 0.3, 0.4, optimizer.epsilon)
    assert clipped > 5
    got = train(model, optimizer, ids, targets)
    assert int(to_numpy(optimizer.iterations)) == STEPS
    for weight, array, value in zip(model.trainable_weights, got, expected, strict=True):
        np.testing.assert_allclose(array, value, rtol=0, atol=2e-5, err_msg=weight.path)


@pytest.mark.parametrize("fast", [True, False])
def test_layers_learn_at_their_own_rates(fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(AdamW, "_is_plain", lambda self: False)
    model, (ids, targets) = model_of(), batches()
    before = [to_numpy(weight) for weight in model.trainable_weights]
    optimizer = adamw(RATE, weight_decay=0.3, rates={"embedding": 0.25, "dense": 2.0})
    shares = (0.25, 1, 1, 2, 2)
    expected, _ = train_in_numpy(before, ids, targets, 0.3, 1.0, optimizer.epsilon, shares)
    got = train(model, optimizer, ids, targets)
    for weight, array, value in zip(model.trainable_weights, got, expected, strict=True):
        np.testing.assert_allclose(array, value, rtol=0, atol=4e-5, err_msg=weight.path)


@pytest.mark.parametrize(
    "settings", [{"global_clipnorm": 0.4}, {}, {"clipnorm": 0.1, "amsgrad": True}]
)
def test_it_is_the_adamw_of_keras(settings):
    """Where no gradient is sparse; with settings that the fast forms leave to Keras, too."""
    draw = np.random.default_rng(3)
    x = draw.standard_normal((STEPS * 13, 7)).astype("float32")
    y = draw.integers(0, C, STEPS * 13)
    trained = []
    for kind in (AdamW, keras.optimizers.AdamW):
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(D, "tanh"), keras.layers.Dense(C)]
        model = keras.Sequential([keras.Input((7,)), *layers])
        optimizer = kind(RATE, weight_decay=0.3, **settings)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        trained.append(train(model, optimizer, x, y))
    for ours, theirs in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)


def test_biases_and_norms_do_not_decay():
    model = model_of()
    optimizer = adamw(0.1)
    optimizer.build(model.trainable_variables)
    decays = {v.path: bool(optimizer._decay(v)) for v in model.trainable_variables}
    assert decays == {
        "embedding/embeddings": True, "norm/gamma": False, "norm/beta": False,
        "dense/kernel": True, "dense/bias": False,
    }  # fmt: skip


def test_training_goes_on_from_a_saved_model(tmp_path):
    """Weights, moments, step, schedule and the list of what does not decay come back."""
    model, (ids, targets) = model_of(), batches()
    train(model, adamw(RATE, 0.3, 0.4), ids[:7], targets[:7])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is AdamW
    x, y = ids[7:].reshape(-1, 7), targets[7:].reshape(-1)
    for goes_on in (model, loaded):
        goes_on.fit(x, y, batch_size=13, shuffle=False, verbose=0)
    for after, before in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_allclose(to_numpy(after), to_numpy(before), atol=1e-6)
    moments = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
    for after, before in moments:
        np.testing.assert_allclose(to_numpy(after), to_numpy(before), atol=1e-6)
    assert not loaded.optimizer._decay(loaded.get_layer("dense").bias)
    assert loaded.optimizer._decay(loaded.get_layer("dense").kernel)
