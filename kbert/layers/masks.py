"""Who may attend to whom: boolean masks, True = may attend, broadcastable to (B, H, T, S)."""

import keras
from keras import ops


def check(mask):
    """An attention mask as it is, if it is one.

    Raises:
        ValueError: it is not boolean.
    """
    dtype = "bool" if mask is None else keras.backend.standardize_dtype(mask.dtype)
    if dtype != "bool":
        raise ValueError(
            f"attention_mask must be boolean, True = may attend; got {dtype}. Cast it, or pass "
            "numbers to be added as `bias`."
        )
    return mask


def padding(padding_mask):
    """Every query may attend to every real token.

    Args:
        padding_mask: bool (B, S), True = a real token.

    Returns:
        bool (B, 1, 1, S).
    """
    return ops.expand_dims(ops.cast(padding_mask, "bool"), (1, 2))


def causal(query_length, key_length):
    """A query may attend to its own place and those before it (Vaswani et al. 2017, 3.2.3).

    The last query stands at the last key, as when keys of earlier steps are kept.

    Args:
        query_length, key_length: int or scalar int tensor, T and S in tokens.

    Returns:
        bool (1, 1, T, S).
    """
    queries = ops.arange(query_length)[:, None] + (key_length - query_length)
    return (ops.arange(key_length)[None, :] <= queries)[None, None]


def band(length, window):
    """A query may attend to the tokens that stand at most `window` from it (Beltagy et al. 2020).

    Args:
        length: int or scalar int tensor, T in tokens.
        window: int, in tokens, to either side.

    Returns:
        bool (1, 1, T, T).
    """
    place = ops.arange(length)
    return (ops.abs(place[None, :] - place[:, None]) <= window)[None, None]


def both(first, second):
    """What two masks allow together; `None` allows everything."""
    if first is None:
        return second
    if second is None:
        return first
    return ops.logical_and(first, second)
