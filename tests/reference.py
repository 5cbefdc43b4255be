"""The papers' formulas in NumPy and float64, one text and one head at a time."""

import math

import numpy as np
from harness import to_numpy


def weights(layer):
    """Kernel and bias of a dense layer, gamma and beta of a normalisation."""
    first, second = (to_numpy(weight).astype("float64") for weight in layer.weights)
    return first, second


def dense(layer, x):
    kernel, bias = weights(layer)
    return x @ kernel + bias


def layer_norm(layer, x):
    gamma, beta = weights(layer)
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + layer.epsilon)
    return gamma * centred / deviation + beta


def gelu(x):
    return x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


def feed_forward(layer, x, activation=gelu):
    return dense(layer.outer, activation(dense(layer.inner, x)))


def softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def attention(layer, x, memory=None, mask=None, bias=None):
    """Multi-head attention; `mask` and `bias` broadcast to (B, H, T, S). Returns (B, T, D)."""
    memory = x if memory is None else memory
    shape = (len(x), layer.num_heads, x.shape[1], memory.shape[1])
    mask = np.broadcast_to(True if mask is None else mask, shape)
    bias = np.broadcast_to(0.0 if bias is None else bias, shape)
    joined = np.zeros((*x.shape[:2], layer.num_heads * layer.head_width))
    for b, h, t in np.ndindex(shape[:3]):
        head = slice(h * layer.head_width, (h + 1) * layer.head_width)
        query = dense(layer.query, x[b, t].astype("float64"))[head]
        keys = dense(layer.key, memory[b].astype("float64"))[:, head]
        values = dense(layer.value, memory[b].astype("float64"))[:, head]
        allowed = mask[b, h, t]
        scores = softmax((layer.scale * keys @ query + bias[b, h, t])[allowed])
        joined[b, t, head] = scores @ values[allowed]
    return dense(layer.output_dense, joined)


def post_norm(residual, x, sublayer):
    return layer_norm(residual.norm, x + sublayer(x))


def pre_norm(residual, x, sublayer):
    return x + sublayer(layer_norm(residual.norm, x))
