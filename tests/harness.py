"""What every layer must do, one function each, and what the tests need of the backend at hand.

`inputs` is everywhere a dict, name → array with the batch first and, if there is one, the length
second; a layer's model is built with both left open. `call(layer, **inputs)` says how a layer is
called on them.
"""

from functools import lru_cache

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()

if BACKEND == "jax":
    import jax

    # The tests compile a thousand small functions and run each a few times.
    jax.config.update("jax_disable_most_optimizations", True)

# How a function of tensors is run here: as it is written, as a TensorFlow graph (whose optimizer
# fuses operations), through XLA. PyTorch has neither; on JAX a function is run jitted or slowly.
WAYS = {"tensorflow": ("eager", "graph", "xla"), "jax": ("xla",), "torch": ("eager",)}[BACKEND]


def numbers(*shape, seed=0, scale=1.0):
    """Standard normal float32 numbers, times `scale`."""
    return scale * np.random.default_rng(seed).standard_normal(shape, "float32")


def to_numpy(structure):
    """Tensors → arrays; floats as float32, so that bfloat16 can be compared."""

    def array(tensor):
        tensor = ops.convert_to_tensor(tensor)
        is_float = "float" in keras.backend.standardize_dtype(tensor.dtype)
        return ops.convert_to_numpy(ops.cast(tensor, "float32") if is_float else tensor)

    return keras.tree.map_structure(array, structure)


def on_all(layer, **inputs):
    """The default `call`: every input under its own name."""
    return layer(**inputs)


def as_model(layer, inputs, call=on_all):
    """The functional model of one layer, batch size and length open."""
    symbols = {
        name: keras.Input(
            (None, *array.shape[2:])[: array.ndim - 1], dtype=str(array.dtype), name=name
        )
        for name, array in inputs.items()
    }
    return keras.Model(symbols, call(layer, **symbols))


def run(model, inputs, training=False):
    """What a model gives for arrays: float32 arrays. On JAX in one jitted call."""
    tensors = {name: ops.convert_to_tensor(array) for name, array in inputs.items()}
    if BACKEND != "jax":
        return to_numpy(model(tensors, training=training))
    variables = model.trainable_variables, model.non_trainable_variables
    values = [[variable.value for variable in kind] for kind in variables]
    return to_numpy(_jitted(model, training)(values, tensors))


@lru_cache
def _jitted(model, training):
    def call(values, tensors):
        return model.stateless_call(*values, tensors, training=training)[0]

    return jax.jit(call)


def randomize(model, scale=0.3, seed=1):
    """Give every weight other numbers, so that no zero bias and no gamma of one hides a fault."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(weight + scale * draw.standard_normal(weight.shape, "float32"))


# Checks


def check_layer(make, inputs, tmp_path, call=on_all):
    """A layer saves, trains, computes in bfloat16 and compiles.

    Args:
        make: function of a dtype policy -> a new layer.
        inputs, call: see the head of this file.
        tmp_path: an empty folder.
    """
    layer = make("float32")
    model = as_model(layer, inputs, call)
    randomize(model)
    output = run(model, inputs)
    check_round_trip(model, inputs, output, tmp_path)
    check_xla(model, inputs, output)
    check_bfloat16(model, as_model(make("mixed_bfloat16"), inputs, call), inputs, output)
    if model.trainable_weights:
        check_training(model, inputs, numbers(*output.shape, seed=2))


def check_round_trip(model, inputs, output, tmp_path):
    """`.keras` brings back the outputs, the names and the weights."""
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [weight.path for weight in loaded.weights] == [weight.path for weight in model.weights]
    for after, before in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(after), to_numpy(before), before.path)
    assert_near(run(loaded, inputs), output, 1e-6)


def check_xla(model, inputs, output):
    """XLA compiles the model for the shapes that `inputs` have.

    On JAX every `run` shows it; on PyTorch there is nothing to show.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensors = {name: ops.convert_to_tensor(array) for name, array in inputs.items()}
        compiled = tf.function(model, jit_compile=True)
        assert_near(compiled(tensors), output, 1e-5)


def check_bfloat16(model, mixed, inputs, output):
    """Under mixed_bfloat16 the weights are float32, the output is bfloat16 and near float32's."""
    for weight, wide in zip(mixed.weights, model.weights, strict=True):
        assert weight.dtype == "float32", weight.path
        weight.assign(wide)
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
    assert keras.backend.standardize_dtype(mixed.output.dtype) == "bfloat16"
    assert_near(run(mixed, inputs), output, 0.05)


def check_training(model, inputs, target, steps=7):
    """`model.fit` changes every trainable weight and lowers the loss."""
    before = [to_numpy(weight) for weight in model.trainable_weights]
    model.compile(keras.optimizers.Adam(0.01), "mse")
    data = {name: np.asarray(array) for name, array in inputs.items()}
    losses = model.fit(data, target, len(target), epochs=steps, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.isfinite(to_numpy(weight)).all(), weight.path
        assert not np.array_equal(to_numpy(weight), old), f"{weight.path} was not trained"


def check_lora(model, inputs, dense_layers, tmp_path):
    """LoRA through Keras's own Dense: starts as the model, trains beside it, is saved merged."""
    before = run(model, inputs)
    kernels = [to_numpy(dense.kernel) for dense in dense_layers]
    for dense in dense_layers:
        dense.enable_lora(2)
    assert_near(run(model, inputs), before, 1e-6)
    check_training(model, inputs, numbers(*before.shape, seed=2), steps=3)
    for dense, kernel in zip(dense_layers, kernels, strict=True):
        np.testing.assert_array_equal(to_numpy(dense._kernel), kernel)
        assert not np.array_equal(to_numpy(dense.kernel), kernel)
    model.save(tmp_path / "lora.keras")
    loaded = keras.models.load_model(tmp_path / "lora.keras", compile=False)
    assert_near(run(loaded, inputs), run(model, inputs), 1e-5)


def check_int8(model, inputs, dense_layers):
    """Keras's own quantisation reaches every dense layer and keeps the outputs near."""
    before = run(model, inputs)
    model.quantize("int8")
    for dense in dense_layers:
        assert keras.backend.standardize_dtype(dense._kernel.dtype) == "int8", dense.path
    assert_near(run(model, inputs), before, 0.05)


def assert_near(got, expected, share):
    """The largest difference is at most `share` of the largest expected number, or of 1."""
    (got,), (expected,) = (keras.tree.flatten(to_numpy(tensor)) for tensor in (got, expected))
    assert got.shape == expected.shape
    assert np.isfinite(got).all()
    allowed = share * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=allowed)


# Gradients


def value_and_gradients(function, arrays, cotangent, *, constants=(), dtype="float32", way=WAYS[0]):
    """A function's value, and the gradients of sum(cotangent · value) by each of `arrays`.

    Args:
        function: the tensors of `arrays`, then those of `constants` -> a tensor.
        arrays: float arrays; each goes in as a tensor of `dtype`.
        cotangent: float, the shape of the value.
        constants: arrays; each goes in as it is.
        way: one of `WAYS`.

    Returns:
        value, list of gradients: float32 arrays.
    """
    tensors = [ops.convert_to_tensor(array, dtype) for array in arrays]
    constants = [ops.convert_to_tensor(array) for array in constants]
    differentiate = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[BACKEND]
    cotangent = ops.convert_to_tensor(cotangent, "float32")
    value, gradients = differentiate(function, way)(tensors, constants, cotangent)
    assert keras.backend.standardize_dtype(value.dtype) == dtype
    return to_numpy(value), to_numpy(list(gradients))


def _weighed(value, cotangent):
    return ops.sum(ops.cast(value, "float32") * cotangent)


def _on_tensorflow(function, way):
    import tensorflow as tf

    def differentiate(tensors, constants, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors, *constants)
            loss = _weighed(value, cotangent)
        return value, tape.gradient(loss, tensors)

    return differentiate if way == "eager" else tf.function(differentiate, jit_compile=way == "xla")


@lru_cache  # One function is compiled once for tensors of one shape.
def _on_jax(function, way):
    def differentiate(tensors, constants, cotangent):
        def loss(tensors):
            value = function(*tensors, *constants)
            return _weighed(value, cotangent), value

        (_, value), gradients = jax.value_and_grad(loss, has_aux=True)(tensors)
        return value, gradients

    return jax.jit(differentiate)


def _on_torch(function, way):
    import torch

    def differentiate(tensors, constants, cotangent):
        tensors = [tensor.requires_grad_() for tensor in tensors]
        value = function(*tensors, *constants)
        return value.detach(), torch.autograd.grad(_weighed(value, cotangent), tensors)

    return differentiate
