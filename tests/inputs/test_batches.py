"""Plans counted row by row; datasets run as Keras runs them; padding measured on Banking77."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import kbert
from kbert.errors import InputError
from kbert.inputs.batches import (
    IGNORED,
    batched_dataset,
    in_input_order,
    sorted_batches,
    with_integer_masks,
)
from kbert.inputs.buckets import bucket_lengths, plan_batches
from kbert.inputs.packer import Packer
from kbert.text.form import Form

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PACKER = Packer(Form((2,), (3,), (3,)), pad_id=0, max_length=53)
NUM_ROWS = 211


@pytest.fixture(scope="module")
def lengths():
    return np.random.default_rng(7).integers(2, 54, NUM_ROWS)


@pytest.fixture(scope="module")
def rows(lengths):
    """Row n has the token 100 + n after its [CLS], if it has room for one."""
    return [PACKER.pack([100 + n] * (length - 2)) for n, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def banking77_lengths(minilm_dir):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_dir / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    path = Path(kbert.__file__).parent / "datasets" / "banking77" / "train.csv"
    with open(path, newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    return np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(texts)])


def padding_share(lengths, plan):
    return 1 - lengths.sum() / sum(len(indices) * length for indices, length in plan)


def shapes(plan):
    return {(len(indices), length) for indices, length in plan}


def indices_of(plan):
    return np.concatenate([indices for indices, _ in plan])


def taken(dataset):
    """One pass as NumPy arrays."""
    return list(dataset.as_numpy_iterator())


# Buckets and plans


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (1, [1]),
        (7, [7]),
        (8, [8]),
        (9, [8, 9]),
        (13, [8, 12, 13]),
        (64, [8, 12, 16, 24, 32, 48, 64]),
        (512, [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]),
        (8191, [*(s for n in range(3, 13) for s in (2**n, 3 * 2 ** (n - 1))), 8191]),
    ],
)
def test_buckets_grow_by_half_at_most_and_end_at_max_length(max_length, expected):
    assert bucket_lengths(max_length) == expected


def test_a_maximum_below_one_token_is_refused():
    with pytest.raises(InputError, match="max_length of at least 1 token, came 0: raise it"):
        bucket_lengths(0)


SIZES = [{"batch_size": 13}, {"token_budget": 499}, {"batch_size": 1}, {"token_budget": 1}]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_is_planned_once_in_a_bucket_that_holds_it(lengths, sizes, shuffle):
    plan = plan_batches(lengths, buckets=bucket_lengths(53), shuffle=shuffle, seed=3, **sizes)
    assert sorted(indices_of(plan)) == list(range(NUM_ROWS))
    for indices, padded_length in plan:
        assert lengths[indices].max() <= padded_length
        assert padded_length in bucket_lengths(53)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_fixed_size_gives_as_many_batches_as_can_be(lengths, shuffle):
    plan = plan_batches(lengths, buckets=bucket_lengths(53), batch_size=13, shuffle=shuffle)
    assert sorted(len(indices) for indices, _ in plan) == [211 % 13] + [13] * (211 // 13)


@pytest.mark.parametrize("sizes", SIZES)
def test_neither_the_number_of_batches_nor_their_shapes_depend_on_the_epoch(lengths, sizes):
    plans = [
        plan_batches(lengths, buckets=bucket_lengths(53), shuffle=True, epoch=epoch, **sizes)
        for epoch in range(5)
    ]
    assert len({len(plan) for plan in plans}) == 1
    assert all(shapes(plan) == shapes(plans[0]) for plan in plans)
    assert len(shapes(plans[0])) <= len(bucket_lengths(53)) + 1


def test_a_token_budget_is_kept_in_multiples_of_eight_rows(lengths):
    plan = plan_batches(lengths, buckets=[7, 31, 53], token_budget=499, shuffle=True)
    assert {length: max(n for n, at in shapes(plan) if at == length) for length in (31, 53)} == {
        31: 16,  # 499 // 31
        53: 8,  # 499 // 53 = 9
    }
    assert all(len(indices) * length <= 499 for indices, length in plan)
    assert max(len(i) for i, _ in plan_batches([53] * 17, buckets=[53], token_budget=371)) == 7


def test_one_seed_gives_one_order_and_each_epoch_another(lengths):
    def order(**changed):
        settings = {"batch_size": 13, "shuffle": True, "seed": 5, "epoch": 0, **changed}
        return indices_of(plan_batches(lengths, buckets=bucket_lengths(53), **settings)).tolist()

    assert order() == order()
    assert order() != order(epoch=1)
    assert order() != order(seed=6)
    assert order(seed=5, epoch=1) != order(seed=6, epoch=0)


def test_shuffled_rows_meet_new_neighbours_and_batches_come_in_any_order(lengths):
    def plan(epoch):
        settings = {"batch_size": 13, "shuffle": True, "epoch": epoch}
        return plan_batches(lengths, buckets=bucket_lengths(53), **settings)

    neighbours = [{frozenset(indices.tolist()) for indices, _ in plan(epoch)} for epoch in (0, 1)]
    assert not neighbours[0] & neighbours[1]
    padded_lengths = [length for _, length in plan(0)]
    assert padded_lengths != sorted(padded_lengths)
    assert padded_lengths != [length for _, length in plan(1)]


def test_rows_left_over_are_mixed_into_the_next_bucket():
    # 12 short rows are left over among 40 longer ones: in one batch they would stay together.
    plan = plan_batches([5] * 12 + [11] * 40, buckets=[7, 13], batch_size=13, shuffle=True)
    assert sum((indices < 12).any() for indices, _ in plan) > 2


def test_rows_in_order_go_from_short_to_long_and_equals_stay_in_order(lengths):
    plan = plan_batches(lengths, buckets=bucket_lengths(53), batch_size=13)
    assert indices_of(plan).tolist() == np.argsort(lengths, kind="stable").tolist()
    padded_lengths = [length for _, length in plan]
    assert padded_lengths == sorted(padded_lengths)


def test_no_rows_make_no_batches():
    assert plan_batches([], buckets=[7], batch_size=13) == []
    assert plan_batches([], buckets=[7], batch_size=13, shuffle=True) == []


@pytest.mark.parametrize("sizes", [{}, {"batch_size": 13, "token_budget": 499}])
def test_exactly_one_size_is_demanded(sizes):
    with pytest.raises(InputError, match=r"either batch_size \(rows\) or token_budget .* give one"):
        plan_batches([5], buckets=[7], **sizes)


@pytest.mark.parametrize("name", ["batch_size", "token_budget"])
def test_a_size_below_one_is_refused(name):
    with pytest.raises(InputError, match=f"Expected {name} of at least 1, came 0: raise it"):
        plan_batches([5], buckets=[7], **{name: 0})


def test_a_row_longer_than_every_bucket_is_named():
    with pytest.raises(
        InputError, match=r"came 2 longer ones \(first: row 1, 11 tokens\): pack with max_length=7"
    ):
        plan_batches([5, 11, 3, 13], buckets=[5, 7], batch_size=2)


@pytest.mark.parametrize("buckets", [[], [7, 5], [5, 5], [0, 5]])
def test_buckets_that_do_not_ascend_are_refused(buckets):
    with pytest.raises(InputError, match="Expected buckets as ascending lengths in tokens, came"):
        plan_batches([5], buckets=buckets, batch_size=2)


@pytest.mark.parametrize(
    ("sizes", "bound"), [({"batch_size": 32}, 0.16), ({"token_budget": 2048}, 0.16)]
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_little_of_banking77_is_padding(banking77_lengths, sizes, bound, shuffle):
    plan = plan_batches(banking77_lengths, buckets=bucket_lengths(128), shuffle=shuffle, **sizes)
    share = padding_share(banking77_lengths, plan)
    print(f"{sizes}: {share:.1%} padding, {len(plan)} batches, {len(shapes(plan))} shapes")
    assert 0.10 < share < bound
    order = np.random.default_rng(0).permutation(len(banking77_lengths))
    unsorted = [order[start : start + 32] for start in range(0, len(order), 32)]
    plain = padding_share(banking77_lengths, [(i, banking77_lengths[i].max()) for i in unsorted])
    assert share < plain / 4


def test_the_figures_in_the_docstring_of_bucket_lengths_are_true(banking77_lengths):
    ladders = {
        "powers of two": [8, 16, 32, 64, 128],
        "multiples of 8": range(8, 129, 8),
        "powers of two and halfway (this ladder)": bucket_lengths(128),
        "steps of a quarter": [8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128],
    }
    for name, buckets in ladders.items():
        plan = plan_batches(banking77_lengths, buckets=list(buckets), batch_size=32, shuffle=True)
        lines = [line.strip() for line in bucket_lengths.__doc__.splitlines() if "%" in line]
        line = next(line for line in lines if line.startswith(name))
        share, count = line.split()[-2:]
        assert share == f"{padding_share(banking77_lengths, plan):.1%}", name
        assert int(count) == len(shapes(plan)), name


# Datasets


@pytest.mark.parametrize("sizes", SIZES[:3])
def test_a_pass_gives_every_row_once_with_its_target(rows, sizes):
    targets = np.arange(NUM_ROWS)
    dataset = batched_dataset(PACKER, rows, targets, **sizes)
    seen = []
    for features, batch_targets in taken(dataset):
        real = features["padding_mask"].sum(axis=1)
        for token_ids, mask, length, n in zip(
            features["token_ids"], features["padding_mask"], real, batch_targets, strict=True
        ):
            assert token_ids[:length].tolist() == rows[n][0]
            assert not token_ids[length:].any()
            assert mask[:length].all()
        seen += batch_targets.tolist()
    assert sorted(seen) == list(range(NUM_ROWS))


def test_elements_are_of_any_size_and_length(rows):
    import tensorflow as tf

    targets = np.zeros((NUM_ROWS, 5), np.float32)
    dataset = batched_dataset(PACKER, rows, targets, batch_size=13, remainder="fill")
    any_size = {
        "token_ids": tf.TensorSpec((None, None), tf.int32),
        "padding_mask": tf.TensorSpec((None, None), tf.bool),
        "segment_ids": tf.TensorSpec((None, None), tf.int32),
    }
    weights = tf.TensorSpec((None,), tf.float32)
    assert dataset.element_spec == (any_size, tf.TensorSpec((None, 5), tf.float32), weights)
    packer = Packer(Form((2,), (3,), (3,)), 0, max_length=53, with_segments=False)
    dataset = batched_dataset(packer, rows, batch_size=13)
    assert set(dataset.element_spec) == {"token_ids", "padding_mask"}
    assert set(taken(dataset)[0]) == {"token_ids", "padding_mask"}


def test_the_number_of_batches_and_their_shapes_are_known(rows):
    dataset = batched_dataset(PACKER, rows, batch_size=13)
    assert int(dataset.cardinality()) == 17
    met = {features["token_ids"].shape for features in taken(dataset) + taken(dataset)}
    assert {length for _, length in met} <= set(bucket_lengths(53))
    assert len(met) <= len(bucket_lengths(53)) + 1
    one_length = batched_dataset(PACKER, rows, batch_size=13, buckets=[53])
    assert {features["token_ids"].shape[1] for features in taken(one_length)} == {53}


def passes(dataset, number):
    return [[n for _, y in taken(dataset) for n in y.tolist()] for _ in range(number)]


def test_each_pass_is_the_next_epoch_of_the_plan(lengths, rows):
    settings = {"batch_size": 13, "seed": 3, "shuffle": True}
    dataset = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), **settings)
    expected = [
        indices_of(plan_batches(lengths, buckets=bucket_lengths(53), epoch=epoch, **settings))
        for epoch in range(3)
    ]
    assert passes(dataset, 3) == [indices.tolist() for indices in expected]
    again = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), **settings)
    assert passes(again, 1) == [expected[0].tolist()]
    resumed = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), first_epoch=2, **settings)
    assert passes(resumed, 1) == [expected[2].tolist()]


@pytest.mark.parametrize("batch_size", [13, 71, 106])
@pytest.mark.parametrize("mapped", [with_integer_masks, lambda dataset: dataset])
def test_a_pass_broken_off_is_begun_again(rows, batch_size, mapped):
    settings = {"batch_size": batch_size, "seed": 3}
    untouched = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), **settings)
    dataset = mapped(batched_dataset(PACKER, rows, np.arange(NUM_ROWS), **settings))
    iterator = iter(dataset)
    next(iterator)
    time.sleep(0.1)  # let it fetch ahead as far as it will
    assert passes(dataset, 2) == passes(untouched, 2)


def test_a_pass_counts_when_its_last_batch_is_taken_as_keras_takes_it(rows):
    dataset = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), batch_size=13)
    untouched = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), batch_size=13)
    iterator = iter(dataset)
    first = [n for _ in range(17) for n in next(iterator)[1].numpy().tolist()]  # no 18th is asked
    assert [first, *passes(dataset, 1)] == passes(untouched, 2)


def test_without_shuffling_every_pass_goes_from_short_to_long(lengths, rows):
    dataset = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), batch_size=13, shuffle=False)
    assert passes(dataset, 2) == [np.argsort(lengths, kind="stable").tolist()] * 2


def test_a_remainder_that_is_dropped_leaves_full_batches(rows):
    settings = {"batch_size": 13, "remainder": "drop"}
    dataset = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), **settings)
    assert int(dataset.cardinality()) == 16
    for seen in passes(dataset, 2):
        assert len(seen) == len(set(seen)) == 16 * 13


@pytest.mark.parametrize("sizes", [{"batch_size": 13}, {"token_budget": 499}])
def test_a_remainder_that_is_filled_repeats_rows_with_weight_zero(rows, sizes):
    targets = np.arange(NUM_ROWS)
    filled = taken(batched_dataset(PACKER, rows, targets, remainder="fill", **sizes))
    smaller = taken(batched_dataset(PACKER, rows, targets, remainder="smaller", **sizes))
    partial = [n for n, (_, y) in enumerate(smaller) if len(y) < len(filled[n][1])]
    assert len(partial) == 1
    for (features, y, weights), (_, y_smaller) in zip(filled, smaller, strict=True):
        size = len(y_smaller)
        assert y[:size].tolist() == y_smaller.tolist()
        assert weights.tolist() == [1.0] * size + [0.0] * (len(y) - size)
        assert set(y[size:]) <= set(y_smaller)
        assert features["token_ids"].shape[0] == len(weights)
        assert features["padding_mask"].any(axis=1).all()
    shapes_met = {features["token_ids"].shape for features, _, _ in filled}
    assert len(shapes_met) == len({length for _, length in shapes_met})


def test_tokens_are_counted_without_padding_and_without_what_fills_up(lengths, rows):
    counted = []
    dataset = batched_dataset(
        PACKER, rows, np.arange(len(rows)), batch_size=7, remainder="fill", count=counted.append
    )
    masks = [
        element[0]["padding_mask"][element[2] > 0].sum() for element in dataset.as_numpy_iterator()
    ]
    assert counted == masks
    assert sum(counted) == sum(lengths)


def test_filling_more_than_the_rows_there_are_goes_round_again():
    rows = [PACKER.pack([5]), PACKER.pack([7]), PACKER.pack([11])]
    dataset = batched_dataset(
        PACKER, rows, np.arange(3), batch_size=7, shuffle=False, remainder="fill"
    )
    ((_, y, weights),) = taken(dataset)
    assert y.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert weights.tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_dropping_the_only_batch_is_refused():
    with pytest.raises(InputError, match="All 3 rows fit in one batch that is not full"):
        batched_dataset(PACKER, [PACKER.pack([5])] * 3, batch_size=7, remainder="drop")


def test_settings_that_do_not_fit_are_refused(rows):
    with pytest.raises(InputError, match="remainder to be one of .*'drop'.*, came 'keep'"):
        batched_dataset(PACKER, rows, batch_size=7, remainder="keep")
    with pytest.raises(InputError, match="Expected rows to batch, came none"):
        batched_dataset(PACKER, [], batch_size=7)
    with pytest.raises(InputError, match='targets with remainder="fill", which weighs them, came'):
        batched_dataset(PACKER, rows, batch_size=7, remainder="fill")
    with pytest.raises(InputError, match="numbers, came <U4: give each label its number"):
        batched_dataset(PACKER, rows, ["card"] * NUM_ROWS, batch_size=7)
    with pytest.raises(InputError, match=r"for each of 211 rows, came an array of shape \(5,\)"):
        batched_dataset(PACKER, rows, np.zeros(5), batch_size=7)


def test_banking77_is_batched_faster_than_models_read_it(banking77_lengths):
    rows = [PACKER.pack([7] * (length - 2)) for length in banking77_lengths]
    dataset = batched_dataset(PACKER, rows, np.zeros(len(rows), np.int32), batch_size=32)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert sum(1 for _ in dataset) == 313
        seconds.append(time.perf_counter() - start)
    print(f"{len(rows) / min(seconds):,.0f} rows/s, {313 / min(seconds):,.0f} batches/s")
    assert len(rows) / min(seconds) > 20_000


# Predictions


@pytest.mark.parametrize("sizes", SIZES[:3])
def test_answers_to_sorted_batches_go_back_into_the_order_of_the_input(rows, sizes):
    indices, answers = [], []
    for batch_indices, features in sorted_batches(PACKER, rows, **sizes):
        assert features["token_ids"].shape[1] in bucket_lengths(53)
        indices.append(batch_indices)
        answers.append(features["token_ids"][:, :2])
    result = in_input_order(indices, answers)
    assert result.tolist() == [token_ids[:2] for token_ids, _ in rows]


def test_sorted_batches_take_other_buckets(rows):
    met = {
        f["token_ids"].shape[1]
        for _, f in sorted_batches(PACKER, rows, batch_size=7, buckets=(29, 53))
    }
    assert met == {29, 53}


# Keras, TensorFlow and their devices


def test_model_fit_takes_the_dataset_on_this_backend(lengths, rows):
    import keras

    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    segment_ids = keras.Input((None,), dtype="int32", name="segment_ids")
    vectors = keras.layers.Embedding(331, 5)(token_ids)
    vectors = vectors + keras.layers.Embedding(2, 5)(segment_ids)
    pooled = keras.layers.GlobalAveragePooling1D()(vectors, mask=padding_mask)
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
    model = keras.Model(inputs, keras.layers.Dense(3)(pooled))
    targets = np.arange(NUM_ROWS) % 3
    settings = {"batch_size": 71, "seed": 3, "buckets": [29, 53]}
    dataset = batched_dataset(PACKER, rows, targets, remainder="fill", **settings)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, weighted_metrics=["accuracy"])
    history = model.fit(dataset, epochs=13, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert history.params["steps"] == 3
    plan = plan_batches(lengths, epoch=13, shuffle=True, **settings)  # 13 epochs, 13 passes
    assert taken(dataset)[0][1][:13].tolist() == targets[plan[0][0]][:13].tolist()
    smaller = batched_dataset(PACKER, rows, targets, **settings)
    accuracies = [
        model.evaluate(batches, verbose=0, return_dict=True)["accuracy"]
        for batches in (dataset, smaller)
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-6)
    assert model.predict(batched_dataset(PACKER, rows, **settings), verbose=0).shape == (211, 3)


def run(code, **environment):
    """Code in a Python of its own: TensorFlow's devices can be set only before it starts."""
    settings = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


MIRRORED = """
import numpy as np, tensorflow as tf
from kbert.inputs.batches import batched_dataset, with_integer_masks
from kbert.inputs.packer import Packer
from kbert.text.form import Form
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
packer = Packer(Form((2,), (3,), (3,)), 0, max_length=53, with_segments=False)
rows = [packer.pack([7] * (n % 50)) for n in range(211)]
"""


def test_a_mirrored_strategy_shares_out_every_row_once():
    code = """
local = strategy.experimental_local_results
for remainder in ("smaller", "fill"):
    dataset = batched_dataset(packer, rows, np.arange(211), batch_size=14, remainder=remainder)
    for _ in range(2):
        seen, shares = [], set()
        for features, y, *weights in strategy.experimental_distribute_dataset(dataset):
            parts = [part.numpy() for part in local(y)]
            shares.add(tuple(map(len, parts)))
            assert [len(ids) for ids in local(features["token_ids"])] == [*map(len, parts)]
            if weights:
                parts = [y[w.numpy() > 0] for y, w in zip(parts, local(weights[0]))]
            seen += np.concatenate(parts).tolist()
        assert sorted(seen) == list(range(211)), len(seen)
        assert remainder == "smaller" or shares == {(7, 7)}, shares
print("shared")
"""
    assert run(MIRRORED + code)[-1] == "shared"


def test_model_fit_under_a_mirrored_strategy_takes_integer_masks():
    code = """
import keras
with strategy.scope():
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    padding_mask = keras.Input((None,), dtype="bool", name="padding_mask")
    vectors = keras.layers.Embedding(11, 5)(token_ids)
    pooled = keras.layers.GlobalMaxPooling1D()(vectors * padding_mask[..., None])
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(pooled))
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
settings = {"batch_size": 14, "buckets": [53], "remainder": "fill"}
dataset = batched_dataset(packer, rows, np.arange(211) % 3, **settings)
history = model.fit(with_integer_masks(dataset), epochs=2, shuffle=False, verbose=0)
print(len(history.history["loss"]), history.params["steps"])
"""
    assert run(MIRRORED + code, KERAS_BACKEND="tensorflow")[-2:] == ["2", "16"]


def test_integer_masks_change_nothing_else(rows):
    plain = batched_dataset(PACKER, rows, np.arange(NUM_ROWS), batch_size=13, remainder="fill")
    ours = with_integer_masks(
        batched_dataset(PACKER, rows, np.arange(NUM_ROWS), batch_size=13, remainder="fill")
    )
    assert int(ours.cardinality()) == 17
    for (f, *rest), (g, *expected) in zip(taken(ours), taken(plain), strict=True):
        assert f["padding_mask"].dtype == np.int8
        assert {name: f[name].tolist() for name in f} == {name: g[name].tolist() for name in g}
        assert [a.tolist() for a in rest] == [a.tolist() for a in expected]
    assert set(taken(with_integer_masks(batched_dataset(PACKER, rows, batch_size=13)))[0]) == {
        "token_ids",
        "padding_mask",
        "segment_ids",
    }


# Rows drawn anew


def drawn(number, epoch):
    """The row's first token tells its epoch; it is asked for that, and its last token for 7."""
    ids, segments = PACKER.pack([11, 13, 17][: 1 + number % 3])
    ids = [100 + epoch, *ids[1:]]
    return (ids, segments), np.array([epoch, *[IGNORED] * (len(ids) - 2), 7])


@pytest.mark.parametrize("remainder", ["smaller", "fill"])
def test_rows_are_drawn_anew_in_each_epoch_with_their_targets(remainder):
    rows = [PACKER.pack([11, 13, 17][: 1 + number % 3]) for number in range(7)]
    dataset = batched_dataset(
        PACKER, rows, draw=drawn, batch_size=5, shuffle=False, first_epoch=2, remainder=remainder
    )
    for epoch in (2, 3):
        batches = taken(dataset)
        assert len(batches) == 2
        real = 0
        for features, targets, weights in batches:
            assert targets.shape == weights.shape == features["token_ids"].shape
            assert (targets.dtype, weights.dtype) == (np.int32, np.float32)
            assert set(features["token_ids"][:, 0]) == {100 + epoch}
            is_real = weights[:, 0] == 1
            real += is_real.sum()
            last = features["padding_mask"].sum(1) - 1
            for row in np.flatnonzero(is_real):
                expected = np.zeros_like(targets[row])
                expected[[0, last[row]]] = epoch, 7
                assert targets[row].tolist() == expected.tolist()
                assert np.flatnonzero(weights[row]).tolist() == [0, last[row]]
            assert not weights[~is_real].any()
        assert real == 7


def test_targets_of_places_are_padded_as_the_packer_says():
    class Places(SimpleNamespace):
        def pad(self, rows, length):
            return PACKER.pad(rows, length)

        def places(self, length):
            return length // 2 + 1

    def draw(number, epoch):
        return rows[number], np.array([[5, 7], [], [11]][number], int)

    rows = [PACKER.pack([11]), PACKER.pack([13]), PACKER.pack([17, 19, 23])]
    packer = Places(max_length=13)
    ((_, targets, weights),) = taken(batched_dataset(packer, rows, draw=draw, batch_size=3))
    assert targets.shape == weights.shape == (3, 5)
    assert sorted(targets.tolist()) == [[0] * 5, [5, 7, 0, 0, 0], [11, 0, 0, 0, 0]]
    assert sorted(weights.sum(1)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("keras", "variable", "told"),
    [
        (None, "jax", [([], "GPU")]),
        (None, "torch", [([], "GPU")]),
        (None, "tensorflow", []),
        ("jax", "tensorflow", [([], "GPU")]),
        ("tensorflow", "jax", []),
    ],
)
def test_tensorflow_keeps_off_the_gpus_of_another_backend(keras, variable, told, monkeypatch, rows):
    import tensorflow as tf

    calls = []
    module = keras and SimpleNamespace(config=SimpleNamespace(backend=lambda: keras))
    monkeypatch.setitem(sys.modules, "keras", module)
    monkeypatch.setenv("KERAS_BACKEND", variable)
    # A machine without a GPU has none to hide: what TensorFlow is told is looked at.
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *told: calls.append(told))
    batched_dataset(PACKER, rows, batch_size=13)
    assert calls == told


def test_a_tensorflow_that_already_runs_is_left_as_it_is(monkeypatch, rows):
    import tensorflow as tf

    def refuse(devices, kind):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    assert int(batched_dataset(PACKER, rows, batch_size=13).cardinality()) == 17


def test_importing_inputs_imports_neither_tensorflow_nor_keras():
    code = """
import sys
import kbert.inputs.batches, kbert.inputs.buckets, kbert.inputs.packer, kbert.inputs.records
form = kbert.text.form.Form((2,), (3,), (3,))
packer = kbert.inputs.packer.Packer(form, 0, max_length=13)
rows = [packer.pack([7])]
list(kbert.inputs.batches.sorted_batches(packer, rows, batch_size=1))
print(*sorted({"tensorflow", "keras", "jax", "torch"} & set(sys.modules)), "none else")
"""
    assert run(code) == ["none", "else"]
