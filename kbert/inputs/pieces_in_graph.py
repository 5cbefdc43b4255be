"""A batch of any size through a model in bounded memory, as TensorFlow operations.

One long text is thousands of windows; all at once they would want gigabytes.
"""

from collections.abc import Callable

import tensorflow as tf

# Tokens that a model computes together: 128 rows of 128. More are no faster on a CPU.
MOST_TOKENS = 16_384


def in_pieces(function: Callable, dtypes, step=None, together: int = 1) -> Callable:
    """`function`, computed for some rows after others.

    Args:
        function: features by name, (B, …) each → a tensor (B', …) or several, of the rows in their
            order. Beyond rows, all pieces must have one shape.
        dtypes: of what it gives, a dtype or a nest of them.
        step: features → rows in a piece; default as many as have MOST_TOKENS.
        together: rows that make one example and are never parted.

    Returns:
        A function like it. Where all rows fit in one piece it costs some microseconds.
    """
    flat = tf.nest.flatten(dtypes)

    def call(**features):
        rows = tf.shape(features["token_ids"])[0]
        size = (step or _rows_of_most_tokens)(features)
        size = tf.maximum(size // together, 1) * together
        number = tf.maximum((rows + size - 1) // size, 1)  # without rows there is one, empty

        shapes = []

        def piece(i, *arrays):
            part = {name: x[i * size : (i + 1) * size] for name, x in features.items()}
            found = tf.nest.flatten(function(**part))
            shapes[:] = [[None, *x.shape[1:]] for x in found]
            return i + 1, *(
                array.write(i, tf.cast(x, dtype))
                for array, x, dtype in zip(arrays, found, flat, strict=True)
            )

        arrays = [tf.TensorArray(dtype, number, infer_shape=False) for dtype in flat]
        _, *arrays = tf.while_loop(
            lambda i, *_: i < number, piece, (0, *arrays), parallel_iterations=1
        )
        whole = [array.concat() for array in arrays]
        for x, shape in zip(whole, shapes, strict=True):
            x.set_shape(shape)
        return tf.nest.pack_sequence_as(dtypes, whole)

    return call


def _rows_of_most_tokens(features):
    return MOST_TOKENS // tf.maximum(tf.shape(features["token_ids"])[1], 1)
