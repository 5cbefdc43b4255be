"""Packed rows → padded batches, in the order that `buckets.py` plans.

    batched_dataset     a tf.data.Dataset for model.fit on every backend
    with_integer_masks  the same for model.fit under a tf.distribute.Strategy
    sorted_batches      for predictions, without TensorFlow; in_input_order undoes its sorting

Letters: N examples, B examples in a batch, T tokens in a padded row, C numbers in a target. An
example is one row, or a list of rows that belong together (the choices of a question): those of a
batch come as B times as many rows, one example's after another's.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kbert.errors import InputError
from kbert.inputs.buckets import Batch, bucket_lengths, plan_batches, rows_in_batch
from kbert.inputs.packer import Packer, Row

if TYPE_CHECKING:
    import tensorflow as tf

REMAINDERS = ("smaller", "fill", "drop")
IGNORED = -100  # a token's target that is not learned, as in transformers
# The number of a row and of an epoch → the row as it is then, and a target for each of its tokens.
Draw = Callable[[int, int], tuple[Row, np.ndarray]]


def batched_dataset(
    packer: Packer,
    rows: Sequence[Row | list[Row]],
    targets: np.ndarray | Sequence[np.ndarray] | None = None,
    *,
    draw: Draw | None = None,
    batch_size: int | None = None,
    token_budget: int | None = None,
    buckets: Sequence[int] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    first_epoch: int = 0,
    first_batch: int = 0,
    remainder: str = "smaller",
    count: Callable[[int], None] | None = None,
) -> tf.data.Dataset:
    """Packed rows as `tf.data` batches for `model.fit` on TensorFlow, JAX or PyTorch.

    Every pass over the dataset is an epoch with an order of its own, `first_epoch` the first (to
    go on with an interrupted run). A pass broken off before its last batch does not count.

    Args:
        packer, buckets: as in `sorted_batches`. Other settings: as in `plan_batches`.
        rows: N of them, from `packer.pack`.
        targets: numbers, (N,) or (N, C); or a list of one array for each row, int (its tokens,):
            a number for every token, or IGNORED.
        draw: in place of targets, for rows that are other ones in each epoch (masks drawn anew):
            function of the number of a row and of an epoch → that row then, as long as in `rows`,
            and its targets, int: a number for every token, or for each of its places if the packer
            has `places`, a length → how many places a row of that length is padded to.
        first_batch: of the first epoch, how many batches are left out (those already trained on);
            each pass then is that one.
        remainder: what becomes of the one batch that is not full. "smaller": it stays so. "drop":
            left out. "fill": rows are repeated with weight 0, for devices that want one shape or
            equal shares; use Keras's `weighted_metrics`, as plain ones count the repeated rows.
        count: is given the number of tokens of each batch that is made, without padding.

    Returns:
        Of `(features, targets)`, or `(features, targets, sample_weight)` to fill, or `features`
        without targets or `draw`. Features are `packer.pad`'s, (B, T); sample_weight is float32
        (B,). With targets of tokens, or drawn ones, always the second: targets int32 (B, T), or
        (B, places), and sample_weight float32 of that shape, 0 where they are ignored; a loss that
        divides by the weights (`reduction="mean_with_sample_weight"`) is then the mean over the
        tokens that are learned.

    Raises:
        InputError: no rows, none left to train on, targets that do not fit, an unknown setting.
    """
    if targets is not None and not _of_tokens(targets):
        targets = np.asarray(targets)
    _check_examples(rows, targets, remainder, draw)
    buckets = bucket_lengths(packer.max_length) if buckets is None else buckets
    sizes = {"batch_size": batch_size, "token_budget": token_budget}
    plan = partial(
        plan_batches, _lengths(rows), buckets=buckets, shuffle=shuffle, seed=seed, **sizes
    )
    capacity = partial(rows_in_batch, **sizes)
    return _Passes(
        packer, rows, targets, plan, capacity, remainder, first_epoch, draw, first_batch, count
    ).dataset()


def with_integer_masks(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with `padding_mask` as int8, for `model.fit` under a `tf.distribute.Strategy`.

    Keras 3.15 there takes the mean of a first batch over the devices, to build its metrics, and
    neither booleans nor unequal shares have one: use `remainder="fill"` too, and a batch size that
    the devices divide. A functional model casts the mask back to its own bool.
    """
    import tensorflow as tf

    def cast(features, *rest):
        features = {**features, "padding_mask": tf.cast(features["padding_mask"], tf.int8)}
        return (features, *rest) if rest else features

    return dataset.map(cast)


def sorted_batches(
    packer: Packer,
    rows: Sequence[Row | list[Row]],
    *,
    batch_size: int | None = None,
    token_budget: int | None = None,
    buckets: Sequence[int] | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Packed rows from short to long, for predictions: see `in_input_order`. No TensorFlow.

    Args:
        packer: pads the rows.
        rows: N of them, from `packer.pack`.
        batch_size, token_budget: as in `plan_batches`.
        buckets: padded lengths, ascending; if not given, `bucket_lengths(packer.max_length)`.

    Yields:
        `(indices, features)`: int (B,), where the rows stand in the input, and what `packer.pad`
        makes of them.
    """
    buckets = bucket_lengths(packer.max_length) if buckets is None else buckets
    sizes = {"batch_size": batch_size, "token_budget": token_budget}
    for indices, padded_length in plan_batches(_lengths(rows), buckets=buckets, **sizes):
        yield indices, packer.pad(_flat(rows, indices), padded_length)


def in_input_order(indices: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> np.ndarray:
    """What a model answered to `sorted_batches`, put back into the order of the input.

    Args:
        indices: those of every batch, int (B,) each.
        answers: those to every batch, (B, …) each.

    Returns:
        (N, …): the answer to row n is at n.
    """
    sorted_answers = np.concatenate(answers)
    result = np.empty_like(sorted_answers)
    result[np.concatenate(indices)] = sorted_answers
    return result


@dataclass
class _Passes:
    """Makes the batches of one pass over the rows after another."""

    packer: Packer
    rows: Sequence[Row]
    targets: np.ndarray | None
    plan: Callable[..., list[Batch]]
    capacity: Callable[[int], int]
    remainder: str
    epoch: int
    draw: Draw | None = None
    first_batch: int = 0
    count: Callable[[int], None] | None = None

    @property
    def has_token_targets(self) -> bool:
        return self.draw is not None or _of_tokens(self.targets)

    def dataset(self) -> tf.data.Dataset:
        """The passes as a dataset of known cardinality that fetches ahead."""
        tf = _tensorflow()
        num_batches = len(self.planned(self.epoch)) - self.first_batch
        dataset = tf.data.Dataset.from_generator(self.one_pass, output_signature=self.spec(tf))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
        # Keras takes one batch to build its state, then starts anew. Fetching ahead, by us or by
        # tf.data's tuning, must not make the last batch meanwhile: that would end the pass.
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.prefetch(max(0, min(2, num_batches - 2))).with_options(options)

    def planned(self, epoch: int) -> list[Batch]:
        batches = self.plan(epoch=epoch)
        if self.remainder == "drop":
            batches = [batch for batch in batches if len(batch[0]) == self.capacity(batch[1])]
        if not batches:
            raise InputError(
                f"All {len(self.rows)} rows fit in one batch that is not full, which "
                'remainder="drop" leaves out: take a smaller batch, or remainder="smaller".'
            )
        return batches

    def one_pass(self) -> Iterator:
        epoch = self.epoch
        batches = self.planned(epoch)
        for number, (indices, padded_length) in enumerate(batches, 1):
            if number <= self.first_batch:
                continue
            if number == len(batches) and not self.first_batch:
                self.epoch = epoch + 1
            yield self.element(epoch, indices, padded_length)

    def element(self, epoch: int, indices: np.ndarray, padded_length: int):
        num_real = len(indices)
        if self.count:
            self.count(sum(len(ids) for ids, _ in _flat(self.rows, indices)))
        if self.remainder == "fill":
            indices = np.resize(indices, self.capacity(padded_length))  # from the first row again
        if self.draw is None:
            rows, targets = _flat(self.rows, indices), self.targets
            targets = [targets[i] for i in indices] if self.has_token_targets else targets
        else:
            rows, targets = zip(*(self.draw(int(i), epoch) for i in indices), strict=True)
        element = [self.packer.pad(rows, padded_length)]
        is_real = (np.arange(len(indices)) < num_real).astype(np.float32)
        if self.has_token_targets:
            element += self.of_tokens(targets, is_real, padded_length)
        elif self.targets is not None:
            element.append(targets[indices])
            element += [is_real] * (self.remainder == "fill")
        return tuple(element) if len(element) > 1 else element[0]

    def of_tokens(self, targets, is_real, padded_length):
        """Targets of tokens, padded, and their weights: (B, T) each; or of places."""
        places = getattr(self.packer, "places", None)
        width = places(padded_length) if places else padded_length
        padded = np.full((len(targets), width), IGNORED, np.int32)
        for row, numbers in enumerate(targets):
            padded[row, : len(numbers)] = numbers
        weights = (padded != IGNORED) * is_real[:, np.newaxis]
        return [np.where(padded == IGNORED, 0, padded), weights.astype(np.float32)]

    def spec(self, tf):
        """What `element` gives, of any batch size and length."""
        features = self.packer.pad([], 0)
        specs = [{name: tf.TensorSpec((None, None), features[name].dtype) for name in features}]
        if self.has_token_targets:
            specs += [tf.TensorSpec((None, None), dtype) for dtype in (tf.int32, tf.float32)]
        elif self.targets is not None:
            specs.append(tf.TensorSpec((None, *self.targets.shape[1:]), self.targets.dtype))
            specs += [tf.TensorSpec((None,), tf.float32)] * (self.remainder == "fill")
        return tuple(specs) if len(specs) > 1 else specs[0]


def _of_tokens(targets) -> bool:
    """Whether targets are one array for each row: a number for every token."""
    return isinstance(targets, list) and isinstance(targets[0], np.ndarray)


def _lengths(rows: Sequence[Row | list[Row]]) -> np.ndarray:
    """The length of each row; of rows that belong together, the longest."""
    lengths = [
        max(len(ids) for ids, _ in row) if isinstance(row, list) else len(row[0]) for row in rows
    ]
    return np.array(lengths, dtype=np.int64)


def _flat(rows: Sequence[Row | list[Row]], indices: np.ndarray) -> list[Row]:
    chosen = [rows[i] for i in indices]
    return [row for x in chosen for row in (x if isinstance(x, list) else [x])]


def _check_examples(rows: Sequence[Row | list[Row]], targets, remainder: str, draw=None):
    if remainder not in REMAINDERS:
        raise InputError(f"Expected remainder to be one of {REMAINDERS}, came {remainder!r}.")
    if not len(rows):
        raise InputError("Expected rows to batch, came none: check what the file was read into.")
    if targets is None:
        if remainder == "fill" and draw is None:
            raise InputError(
                'Expected targets with remainder="fill", which weighs them, came none: give '
                'targets, or take remainder="smaller".'
            )
        return
    if _of_tokens(targets):
        pairs = zip(targets, rows, strict=False)
        wrong = [n for n, (numbers, (ids, _)) in enumerate(pairs) if len(numbers) != len(ids)]
        if wrong or len(targets) != len(rows):
            raise InputError(
                f"Expected a target for each token of each of {len(rows)} rows, came "
                f"{len(targets)} lists; {len(wrong)} of another length (first: row "
                f"{wrong[0] if wrong else len(targets)})."
            )
        return
    if targets.dtype.kind not in "biuf":
        raise InputError(
            f"Expected targets that are numbers, came {targets.dtype}: give each label its number."
        )
    if targets.shape[:1] != (len(rows),):
        raise InputError(
            f"Expected one target for each of {len(rows)} rows, came an array of shape "
            f"{targets.shape}: its first axis must be the rows."
        )


def _tensorflow():
    """TensorFlow, told to leave the GPUs alone unless Keras runs on it.

    Its first operation takes nearly all memory of every GPU that it sees, and JAX or PyTorch would
    find none left. `tf.data` needs none.
    """
    import tensorflow as tf

    # Keras knows its backend, wherever that was set; it is not imported to be asked.
    keras = sys.modules.get("keras")
    backend = keras.config.backend() if keras else os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        with contextlib.suppress(RuntimeError):  # TensorFlow already runs: too late to hide them
            tf.config.set_visible_devices([], "GPU")
    return tf
