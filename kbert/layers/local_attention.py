"""Attention within a window, which computes only what the window lets through."""

from keras import ops

from kbert.layers import kernels

# A text of at most so many windows is one block, which is then as fast.
WHOLE = 4


def local_attention(query, key, value, mask=None, *, window, scale, drop=None):
    """Attention of each query to the keys that stand at most `window` from it, at either side.

    The queries are cut into blocks of `window` tokens, and each block sees itself and its two
    neighbours (Beltagy et al. 2020, 3.1): T · 3 `window` scores in place of T². What is computed is
    `kernels.attention` with `masks.band`.

    Args:
        query, key, value: float (B, T, H, K).
        mask: bool (B or 1, 1, 1, T), True = a real token, or None.
        window: int, in tokens.
        scale, drop: as `kernels.plain_attention`; `drop` sees the scores of the blocks.

    Returns:
        float (B, T, H, K).

    Raises:
        ValueError: the mask differs between queries or heads.
    """
    if mask is not None and tuple(mask.shape[1:3]) != (1, 1):
        raise ValueError(
            "Attention within a window takes a mask of keys, (B, 1, 1, T); got "
            f"{tuple(mask.shape)}. Give `masks.padding(padding_mask)`."
        )
    batch, length = ops.shape(query)[:2]
    blocks = _Blocks(length, window)
    real = ops.ones((batch, length), "bool")
    if mask is not None:
        real = ops.logical_and(real, mask[:, 0, 0])
    seen = blocks.with_halo(real)[:, None, None]  # (B N, 1, 1, b + 2h)
    # Added, not masked: a graph that is traced on a short text, where the band lets all through,
    # must keep it for the long ones.
    bias = ops.where(ops.logical_and(blocks.band(), seen), 0.0, kernels.FORBIDDEN)
    output = kernels.attention(
        blocks.alone(query), blocks.with_halo(key), blocks.with_halo(value),
        bias=ops.cast(bias, query.dtype), scale=scale, drop=drop,
    )  # fmt: skip
    rows = ops.reshape(output, (batch, -1, *query.shape[2:]))
    return rows[:, :length]


class _Blocks:
    """How a text is cut: N blocks of b tokens, each seen with a halo of h, 0 or b, at either side.

    Sizes are numbers where the length is one, and tensors in a graph whose length is open.
    """

    def __init__(self, length, window):
        self.window = window
        self.is_open = not isinstance(length, int)
        whole = length <= WHOLE * window
        if self.is_open:
            self.size, self.halo = ops.where(whole, length, window), ops.where(whole, 0, window)
        else:
            self.size, self.halo = (length, 0) if whole else (window, window)
        self.number = (length + self.size - 1) // self.size
        self.rest = self.number * self.size - length

    def alone(self, x):
        """(B, T, …) -> (B N, b, …), zeros after the end."""
        return ops.reshape(self._padded(x, 0, self.rest), (-1, self.size, *x.shape[2:]))

    def with_halo(self, x):
        """(B, T, …) -> (B N, h + b + h, …): each block between its neighbours, zeros outside."""
        if not self.is_open and self.halo == 0:
            return x
        tail = x.shape[2:]
        x = self._padded(x, self.halo, self.rest + self.halo)
        x = ops.reshape(x, (ops.shape(x)[0], -1, self.size, *tail))
        if self.is_open:
            # The gradient of a gather is twice as fast as that of slices of unknown size.
            count = 1 + 2 * (self.halo // self.size)
            near = ops.arange(self.number)[:, None] + ops.arange(count)
            x = ops.take(x, near, axis=1)  # (B, N, 1 or 3, b, …)
        else:
            x = ops.concatenate([x[:, i : i + self.number] for i in range(3)], axis=2)
        return ops.reshape(x, (-1, self.size + 2 * self.halo, *tail))

    def band(self):
        """bool (b, h + b + h): whether a place of block and halo is near enough to a query."""
        query = ops.arange(self.size)[:, None]
        key = ops.arange(self.size + 2 * self.halo)[None, :] - self.halo
        return ops.abs(key - query) <= self.window

    def _padded(self, x, before, after):
        # Not by ops.pad, which looks at the numbers: a graph must take other lengths.
        def zeros(length):
            return ops.zeros((ops.shape(x)[0], length, *x.shape[2:]), x.dtype)

        if not self.is_open and before == after == 0:
            return x
        return ops.concatenate([zeros(before), x, zeros(after)], axis=1)
