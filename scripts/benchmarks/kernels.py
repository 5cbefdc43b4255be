"""Every fast form of `kbert/layers/kernels.py`, and the optimizer, against its plain form."""

from benchmarks import material
from benchmarks.systems import BACKENDS, Settings, System, fastest_in_turns, progress
from benchmarks.tables import table

TITLE = "Kernels: the backend's form against the plain one in keras.ops, milliseconds"
ROUNDS = 1  # the two forms take turns within one process
B, T, H, K, F = 64, 64, 12, 32, 1536  # MiniLM's sizes
D = H * K
FORMS = ("fast", "plain")


def systems(settings: Settings) -> list[System]:
    return [
        System(f"{backend}, {dtype}", measure, backend, {"dtype": dtype})
        for dtype in ("float32", "bfloat16")
        for backend in BACKENDS
    ]


def report(measured) -> str:
    rows = []
    for name, (turn,) in measured.items():
        for kernel, forms in turn.get("kernels", {}).items():
            seconds = [forms.get(form, {}).get("seconds") for form in FORMS]
            shown = [None if s is None else f"{1000 * s:.2f}" for s in seconds]
            gain = f"{seconds[1] / seconds[0]:.2f}" if all(seconds) else _errors(forms)
            rows.append([kernel, name, *shown, gain])
    rows.sort(key=lambda row: row[0])  # all backends of a kernel together
    return (
        f"{table(('kernel', 'backend, dtype', *FORMS, 'plain / fast'), rows)}\n\n"
        f"{B} texts of {T} tokens, MiniLM's widths; as tf.function without XLA, batch and length "
        "open, jax.jit, PyTorch's eager mode. About 1: the plain form runs, or the fast one earns "
        "nothing there. AdamW: a step over MiniLM's 22.7 M float32 weights, kbert's against "
        "Keras's, norm clipped at 1.0."
    )


def _errors(forms) -> str:
    errors = {form: result["error"][:60] for form, result in forms.items() if "error" in result}
    return " / ".join(f"FAILED {form}: {error}" for form, error in errors.items())


def measure(settings: Settings, dtype: str) -> dict:
    results = {}
    for name, (forms, shapes, ways) in _kernels().items():
        for way in ways:
            progress(f"  {name}, {way}")
            tensors = [_numbers(shape, seed, dtype) for seed, shape in enumerate(shapes)]
            calls = {form: _ready(f, tensors, way) for form, f in zip(FORMS, forms, strict=True)}
            results[f"{name}, {way}"] = _in_turns(settings, calls)
    if dtype == "float32":
        progress("  AdamW")
        calls = {form: _optimizer_step(form == "fast") for form in FORMS}
        results["AdamW, one step"] = _in_turns(settings, calls)
    return {"kernels": results}


def _in_turns(settings: Settings, calls) -> dict:
    return fastest_in_turns(calls, settings.size(5, 1), least=0.0 if settings.quick else 0.3)


def _kernels() -> dict:
    """name → (fast, plain), the shapes they take, the ways they are run."""
    import keras

    from kbert.layers import kernels, masks

    seed = keras.random.SeedGenerator(0)
    lengths = keras.ops.reshape(keras.ops.arange(B) % (T // 2) + T // 2, (B, 1, 1, 1))
    mask = keras.ops.reshape(keras.ops.arange(T), (1, 1, 1, T)) < lengths

    def causal(form):
        mask = masks.causal(T, T)
        return lambda q, k, v: form(q, k, v, mask, scale=K**-0.5)

    def norms(form):
        return lambda x, gamma, beta: form(x, gamma, beta, 1e-12)

    def attentions(form, drop=None):
        return lambda q, k, v: form(q, k, v, mask, scale=K**-0.5, drop=drop)

    def plain_attention(*args, **kwargs):
        return kernels.plain_attention(*args, **kwargs)[0]

    def drop(scores):
        return kernels.dropout(scores, 0.1, seed)

    def dropouts(form):
        return lambda x: form(x, 0.1, seed)

    both, training = ("forward", "with gradient"), ("with gradient",)
    heads = [(B, T, H, K)] * 3
    attention = kernels.attention, plain_attention
    return {
        "layer_normalization": (
            [norms(kernels.layer_normalization), norms(kernels.plain_layer_normalization)],
            [(B, T, D), (D,), (D,)],
            both,
        ),
        "gelu": (
            [lambda x: kernels.gelu(x, training=True), kernels.plain_gelu], [(B, T, F)], training
        ),
        "dropout": (
            [dropouts(kernels.dropout), dropouts(kernels.plain_dropout)], [(B, T, D)], training
        ),
        "attention": ([attentions(form) for form in attention], heads, both),
        "attention, causal": ([causal(form) for form in attention], heads, both),
        "attention, dropout": ([attentions(form, drop) for form in attention], heads, training),
    }  # fmt: skip


def _numbers(shape, seed, dtype):
    import numpy as np
    from keras import ops

    draw = np.random.default_rng(seed)
    return ops.convert_to_tensor(draw.standard_normal(shape, "float32"), dtype)


def _ready(function, tensors, way):
    """A call without arguments: the function on the tensors, compiled as the backend does it."""
    import keras

    prepare = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    return prepare(function, tensors, way == "with gradient")


def _tensorflow(function, tensors, with_gradient):
    import tensorflow as tf

    # Batch and length open, as in every model of kbert: the graph optimizer finds other patterns
    # where it knows them.
    specs = [
        tf.TensorSpec([None, None, *t.shape[2:]] if len(t.shape) > 1 else t.shape, t.dtype)
        for t in tensors
    ]

    @tf.function(input_signature=specs)
    def run(*tensors):
        if not with_gradient:
            return function(*tensors)
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return value, tape.gradient(value, tensors, output_gradients=tensors[0])

    return lambda: run(*tensors)


def _jax(function, tensors, with_gradient):
    import jax
    import keras

    def stateless(*tensors):
        with keras.StatelessScope():  # dropout's seed stays a number
            return function(*tensors)

    def run(*tensors):
        if not with_gradient:
            return stateless(*tensors)
        value, backward = jax.vjp(stateless, *tensors)
        return value, backward(tensors[0])

    compiled = jax.jit(run)
    return lambda: jax.block_until_ready(compiled(*tensors))


def _torch(function, tensors, with_gradient):
    import torch

    def forward():
        with torch.inference_mode():
            function(*tensors)

    def gradient():
        torch.autograd.grad(function(*tensors), tensors, tensors[0])

    if not with_gradient:
        return forward
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    return gradient


def _optimizer_step(is_ours: bool):
    """A call that takes one step of AdamW over MiniLM's weights with made-up gradients."""
    import keras
    import numpy as np

    import kbert

    model = kbert.load(material.minilm(), dtype="float32").encoder
    settings = {"weight_decay": 0.01, "global_clipnorm": 1.0}
    if is_ours:
        optimizer = kbert.adamw(1e-5, weight_decay=0.01, clip_norm=1.0)
    else:
        optimizer = keras.optimizers.AdamW(1e-5, epsilon=1e-6, **settings)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    variables = model.trainable_variables
    optimizer.build(variables)
    draw = np.random.default_rng(0)
    gradients = [
        keras.ops.convert_to_tensor(draw.standard_normal(v.shape, "float32")) for v in variables
    ]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step():
            optimizer.apply(gradients, variables)

        return step
    if backend == "torch":
        import torch

        @torch.no_grad()
        def step():
            optimizer.apply(gradients, variables)

        return step
    return _jax_step(optimizer, gradients, variables)


def _jax_step(optimizer, gradients, variables):
    import jax

    # Weights and moments are handed over, as `fit` does it: nothing is copied.
    compiled = jax.jit(optimizer.stateless_apply, donate_argnums=(0, 2))
    state = [
        [jax.numpy.copy(variable.value) for variable in group]
        for group in (optimizer.variables, variables)
    ]

    def step():
        trained, moments = compiled(state[0], gradients, state[1])
        state[:] = moments, trained
        jax.block_until_ready(trained)

    return step
