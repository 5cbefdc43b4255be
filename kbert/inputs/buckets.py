"""Which rows go together in a batch, so that little of it is padding: NumPy alone.

A batch is padded to the shortest length of a small ladder (a bucket) that holds its rows. Little is
spent on padding, as the rows of a batch are about equally long, and XLA, which compiles a model
once for each shape it meets, compiles it a few times.
"""

from collections.abc import Callable, Sequence

import numpy as np

from kbert.errors import InputError

Batch = tuple[np.ndarray, int]
"""Indices of the rows of one batch, and the length in tokens to which they are padded."""


def bucket_lengths(max_length: int) -> list[int]:
    """Padded lengths: the powers of two from 8 and the steps halfway between, up to `max_length`.

    Each is at most 1.5 times the one before, so that less than a third of a row is padding (but in
    the shortest bucket). On Banking77's training set, 10,003 messages of 4 to 98 MiniLM tokens, in
    shuffled batches of 32:
                                                        padding   shapes
        no buckets, padded to the longest of the batch   65.7%     many
        powers of two                                    28.9%      6
        multiples of 8                                   19.1%     10
        powers of two and halfway (this ladder)          15.0%      9
        steps of a quarter (8, 12, 16, 20, 24, 28, …)    10.3%     13

    Raises:
        InputError: `max_length` is below 1.
    """
    if max_length < 1:
        raise InputError(f"Expected max_length of at least 1 token, came {max_length}: raise it.")
    powers = [2**n for n in range(3, max_length.bit_length())]
    steps = [step for power in powers for step in (power, power * 3 // 2)]
    return [step for step in steps if step < max_length] + [max_length]


def plan_batches(
    lengths: Sequence[int] | np.ndarray,
    *,
    buckets: Sequence[int],
    batch_size: int | None = None,
    token_budget: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
) -> list[Batch]:
    """Which rows go together: every row exactly once.

    Rows are dealt into the bucket that holds their length and leave it in full batches; what is
    left over moves up into the next longer bucket. So one batch at most is not full, and neither
    the number of batches nor their shapes depend on the epoch.

    Args:
        lengths: int (N,), tokens of each row.
        buckets: padded lengths, ascending, as `bucket_lengths` gives them.
        batch_size: rows in a batch; or else
        token_budget: tokens in a batch, padding counted: as many rows as fit, at least one, and a
            multiple of 8 from 8 on.
        shuffle: deal the rows, and order the batches, by chance. Otherwise from short to long,
            rows of one length in the order they came.
        seed, epoch: the same two give the same plan.

    Raises:
        InputError: a row is longer than the longest bucket; not exactly one of `batch_size` and
            `token_budget` is given, or it is below 1.
    """
    _check_sizes(batch_size, token_budget)
    lengths = np.asarray(lengths, dtype=np.int64)
    _check_lengths(lengths, buckets)
    if not shuffle:
        order = np.argsort(lengths, kind="stable")
        return _deal(order, lengths, buckets, batch_size, token_budget, mix=lambda rows: rows)
    chance = np.random.default_rng([seed, epoch])
    order = np.arange(len(lengths))
    batches = _deal(order, lengths, buckets, batch_size, token_budget, mix=chance.permutation)
    return [batches[i] for i in chance.permutation(len(batches))]


def rows_in_batch(padded_length: int, batch_size: int | None, token_budget: int | None) -> int:
    """How many rows make a full batch of this padded length: see `plan_batches`."""
    if batch_size is not None:
        return batch_size
    fitting = max(1, token_budget // padded_length)
    # A multiple of 8 fills the tiles of NVIDIA's tensor cores and of a TPU (8 × 128).
    return fitting if fitting < 8 else fitting - fitting % 8


def _deal(
    order: np.ndarray,
    lengths: np.ndarray,
    buckets: Sequence[int],
    batch_size: int | None,
    token_budget: int | None,
    mix: Callable[[np.ndarray], np.ndarray],
) -> list[Batch]:
    """Full batches bucket by bucket, each bucket's rows put through `mix`, and one of the rest."""
    bucket_of = np.searchsorted(buckets, lengths[order])
    batches: list[Batch] = []
    left_over, longest = order[:0], 0
    for bucket, padded_length in enumerate(buckets):
        members = order[bucket_of == bucket]
        if not len(members):
            continue  # what is left over waits for a bucket that has rows of its own
        members = mix(np.concatenate([left_over, members]))
        size = rows_in_batch(padded_length, batch_size, token_budget)
        full = len(members) - len(members) % size
        batches += [(rows, padded_length) for rows in members[:full].reshape(-1, size)]
        left_over, longest = members[full:], padded_length
    return [*batches, (left_over, longest)] if len(left_over) else batches


def _check_sizes(batch_size: int | None, token_budget: int | None):
    if (batch_size is None) == (token_budget is None):
        raise InputError(
            "Expected either batch_size (rows) or token_budget (tokens, padding counted), came "
            f"batch_size={batch_size} and token_budget={token_budget}: give one of them."
        )
    for name, size in (("batch_size", batch_size), ("token_budget", token_budget)):
        if size is not None and size < 1:
            raise InputError(f"Expected {name} of at least 1, came {size}: raise it.")


def _check_lengths(lengths: np.ndarray, buckets: Sequence[int]):
    if not len(buckets) or list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        raise InputError(
            f"Expected buckets as ascending lengths in tokens, came {list(buckets)}: sort them, "
            "each once."
        )
    too_long = np.flatnonzero(lengths > buckets[-1])
    if too_long.size:
        raise InputError(
            f"Expected rows of at most {buckets[-1]} tokens, the longest bucket, came "
            f"{too_long.size} longer ones (first: row {too_long[0]}, {lengths[too_long[0]]} "
            f"tokens): pack with max_length={buckets[-1]} or give a longer bucket."
        )
