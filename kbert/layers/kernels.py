"""The few operations that a backend does faster its own way, each beside its plain form.

The plain form (`plain_*`) is written in `keras.ops` and is what the operation means; a test holds
every faster form and its gradients against it, and `scripts/benchmark.py` has a row that earns each
its place. This file alone in `layers/` and `models/` may import a backend, and does so lazily.
"""

import math

import keras
from keras import ops


def layer_normalization(x, gamma, beta, epsilon):
    """gamma · (x - mean) / sqrt(variance + epsilon) + beta over the last axis (Ba et al. 2016).

    Args:
        x: float (…, D).
        gamma: float (D,).
        beta: float (D,), or None for 0.
        epsilon: float, added to the variance.

    Returns:
        float (…, D), dtype of `x`. Mean and variance are taken in float32.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        return _torch_layer_normalization(x, gamma, beta, epsilon)
    if backend == "tensorflow" and _tensorflow_runs_one_dnn():
        return _tensorflow_layer_normalization(x, gamma, beta, epsilon)
    return plain_layer_normalization(x, gamma, beta, epsilon)


def plain_layer_normalization(x, gamma, beta, epsilon):
    """See `layer_normalization`."""
    wide = ops.cast(x, "float32")
    centred = wide - ops.mean(wide, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    normal = centred * ops.rsqrt(variance + epsilon)
    scaled = normal * ops.cast(gamma, "float32")
    return ops.cast(scaled if beta is None else scaled + ops.cast(beta, "float32"), x.dtype)


def _torch_layer_normalization(x, gamma, beta, epsilon):
    from torch.nn.functional import layer_norm

    gamma, beta = (
        None if w is None else ops.convert_to_tensor(w).to(x.dtype) for w in (gamma, beta)
    )
    return layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


def _tensorflow_layer_normalization(x, gamma, beta, epsilon):
    # Each row of x is a channel of one image, so batch normalisation in training mode is layer
    # normalisation. TensorFlow's graph optimizer knows exactly this pattern and makes one oneDNN
    # layer normalisation of it (grappler/optimizers/remapper.cc, FindMklLayerNorm): over three
    # times the speed of the plain form on a CPU, if the shapes are open and no gradient is taken.
    import tensorflow as tf

    shape = tf.shape(x)
    rows = tf.reduce_prod(shape[:-1])
    nothing = tf.constant([], tf.float32)
    normal = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, [1, rows, x.shape[-1], 1]),
        scale=tf.fill([rows], 1.0),
        offset=tf.fill([rows], 0.0),
        mean=nothing,
        variance=nothing,
        epsilon=epsilon,
        data_format="NCHW",
        is_training=True,
    ).y
    # The pattern ends in a sum. One with zeros would be taken out of the graph before the pattern
    # is looked for; the smallest number is lost in any other.
    beta = tf.fill([x.shape[-1]], x.dtype.as_numpy_dtype(1.2e-38)) if beta is None else beta
    return tf.reshape(normal, shape) * tf.cast(gamma, x.dtype) + tf.cast(beta, x.dtype)


def gelu(x, training=False):
    """x · Φ(x) with the exact Gaussian distribution function Φ (Hendrycks and Gimpel 2016).

    Args:
        x: float (…).
        training: whether gradients will be taken.

    Returns:
        float (…), dtype of `x`.
    """
    if training and keras.backend.backend() == "tensorflow":
        return _tensorflow_gelu_for_training(x)
    if keras.backend.backend() == "jax":
        return _jax_gelu(x)
    # TensorFlow's graph optimizer makes one operation of product, bias and this very form.
    return plain_gelu(x)


def plain_gelu(x):
    """See `gelu`."""
    return ops.gelu(x, approximate=False)


def _jax_gelu(x):
    # JAX's own takes the complementary error function, three times the time of this on a CPU.
    wide = ops.cast(x, "float32")
    return ops.cast(wide * (0.5 + 0.5 * ops.erf(wide * math.sqrt(0.5))), x.dtype)


def _tensorflow_gelu_for_training(x):
    # TensorFlow's erf is vectorised in float32 only. The derivative, Φ(x) + x φ(x), is made with
    # the value, so that one tensor in the dtype of x is kept for the way back and not five.
    import tensorflow as tf

    @tf.custom_gradient
    def value(x):
        wide = tf.cast(x, tf.float32)
        distribution = 0.5 + 0.5 * tf.math.erf(wide * math.sqrt(0.5))
        density = tf.exp(-0.5 * wide * wide) * (1.0 / math.sqrt(2.0 * math.pi))
        derivative = tf.cast(distribution + wide * density, x.dtype)
        return tf.cast(wide * distribution, x.dtype), lambda upstream: upstream * derivative

    return value(x)


def dropout(x, rate, seed):
    """Drops each value with probability `rate` and divides the others by 1 - `rate`.

    Args:
        x: float (…).
        rate: float from 0 up to 1; TensorFlow's form rounds it to 1/65536.
        seed: a `keras.random.SeedGenerator`.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_dropout(x, rate, seed)
    return plain_dropout(x, rate, seed)


def plain_dropout(x, rate, seed):
    """See `dropout`."""
    return keras.random.dropout(x, rate, seed=seed)


def _tensorflow_dropout(x, rate, seed):
    # 16 random bits a value and one comparison, where TensorFlow makes a float of 32.
    import tensorflow as tf

    size = tf.size(x)
    pair = tf.cast(seed.next(), tf.int64)
    words = tf.random.stateless_uniform([(size + 1) // 2], pair, None, None, tf.uint32)
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    threshold = tf.constant(min(round(rate * 65536), 65535), tf.uint16)
    kept = tf.reshape(halves >= threshold, tf.shape(x))
    return x * (tf.cast(kept, x.dtype) * tf.constant(1.0 / (1.0 - rate), x.dtype))


def attention(query, key, value, mask=None, bias=None, *, scale, drop=None):
    """Scaled dot-product attention by the backend's fastest form, without the scores.

    Arguments as `plain_attention`; returns its output, float (B, T, H, K). PyTorch's and JAX's
    fused kernels take no dropout of ours: with `drop` their plain form runs.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow_attention(query, key, value, mask, bias, scale, drop)
    if backend == "torch" and drop is None:
        return _torch_attention(query, key, value, mask, bias, scale)
    if backend == "jax" and drop is None:
        return _jax_attention(query, key, value, mask, bias, scale)
    return plain_attention(query, key, value, mask, bias, scale=scale, drop=drop)[0]


def plain_attention(query, key, value, mask=None, bias=None, *, scale, drop=None):
    """Weighted sum of values (Vaswani et al. 2017, eq. 1): softmax(scale · QKᵀ + bias) V.

    K here is the paper's d_k; `scale` is K**-0.5 there, 1.0 in T5, (3K)**-0.5 in DeBERTa.

    Args:
        query: float (B, T, H, K).
        key, value: float (B, S, H, K).
        mask: bool, broadcastable to (B, H, T, S); True = may attend. A query that may attend to
            nothing gets the mean of all values: finite, and for nobody to read.
        bias: float, broadcastable to (B, H, T, S), added before the softmax.
        scale: float, no unit.
        drop: function (B, H, T, S) -> (B, H, T, S) applied to the scores (dropout), or None.

    Returns:
        output, float (B, T, H, K), dtype of `query`; scores, float (B, H, T, S), rows sum to 1.
    """
    logits = ops.einsum("bthk,bshk->bhts", query, key)
    logits = ops.cast(logits, "float32") * scale
    if bias is not None:
        logits = logits + ops.cast(bias, "float32")
    if mask is not None:
        logits = ops.where(mask, logits, FORBIDDEN)
    scores = ops.cast(ops.softmax(logits, axis=-1), query.dtype)
    weights = scores if drop is None else drop(scores)
    return ops.einsum("bhts,bshk->bthk", weights, value), scores


# Lower than any real logit in any float type kbert computes in, and finite, so that a row with
# nothing to attend to is a mean and not NaN.
FORBIDDEN = -1e30


def _tensorflow_attention(query, key, value, mask, bias, scale, drop):
    # Products of heads-first matrices with an added mask: oneDNN takes product, scale and sum as
    # one operation, and no pass over the logits is left but the softmax.
    import tensorflow as tf

    query, key, value = (tf.transpose(x, [0, 2, 1, 3]) for x in (query, key, value))
    logits = tf.matmul(query, key, transpose_b=True) * tf.cast(scale, query.dtype)
    if bias is not None:
        logits += _for_one_dnn(tf.cast(bias, logits.dtype), query.shape[1])
    if mask is not None:
        # Half the lowest number: a logit added to it stays finite.
        added = tf.where(mask, tf.zeros([], logits.dtype), logits.dtype.min / 2)
        logits += _for_one_dnn(added, query.shape[1])
    scores = tf.cast(tf.nn.softmax(tf.cast(logits, tf.float32)), query.dtype)
    weights = scores if drop is None else drop(scores)
    return tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])


def _for_one_dnn(added, num_heads):
    # What is the same for all texts and heads, as a causal mask, oneDNN adds 200 times as slowly.
    import tensorflow as tf

    if added.shape.rank == 4 and added.shape[:2] == [1, 1] and added.shape[2] != 1:
        return tf.repeat(added, num_heads, axis=1)
    return added


def _torch_attention(query, key, value, mask, bias, scale):
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if mask is not None and _allows_all(mask):
        mask = None
    added = None if bias is None else bias.to(query.dtype)
    if mask is not None:
        lowest = torch.finfo(query.dtype).min
        shape = torch.zeros((), dtype=query.dtype, device=query.device) if added is None else added
        added = torch.where(mask, shape, lowest)
    heads_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    output = scaled_dot_product_attention(*heads_first, attn_mask=added, scale=scale)
    return output.transpose(1, 2)


def _allows_all(mask):
    # The fused kernel is faster without a mask. On a CPU it costs little to look; from elsewhere
    # the answer would have to be waited for.
    import torch

    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())


def _jax_attention(query, key, value, mask, bias, scale):
    import jax

    return jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=scale)


def _tensorflow_runs_one_dnn():
    # Not within XLA: it takes the variance of batch normalisation as the mean of squares less the
    # square of the mean, and so loses that of rows far from 0.
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    devices = {device.device_type for device in tf.config.list_logical_devices()}
    return devices == {"CPU"} and not GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
