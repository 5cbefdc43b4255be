"""Frozen layers stay as they are, to the bit; the others learn, each at its rate."""

import keras
import numpy as np
import pytest
from harness import BACKEND, to_numpy

from kbert.errors import InputError
from kbert.heads.classification import classification
from kbert.models.albert import AlbertConfig, albert
from kbert.models.bert import BertConfig, bert
from kbert.training.depth import freeze, rates_by_depth, starts_by_depth
from kbert.training.optimizer import AdamW, adamw

SIZES = {"num_heads": 2, "width": 6, "inner_width": 7, "max_length": 5}
EMBEDDINGS = ["token_embedding", "segment_embedding", "position_embedding", "embedding_norm"]


def small(num_layers=3):
    return bert(BertConfig(11, num_layers=num_layers, dropout=0.0, **SIZES), "float32")


@pytest.mark.parametrize(
    "parts, names",
    [
        ("embeddings", EMBEDDINGS),
        ("0-1", ["block_0", "block_1"]),
        ("embeddings, 2", [*EMBEDDINGS, "block_2"]),
        ("encoder", [*EMBEDDINGS, "block_0", "block_1", "block_2"]),
        ("", []),
    ],
)
def test_parts_name_layers(parts, names):
    encoder = small()
    assert freeze(encoder, parts) == names
    assert [x.name for x in encoder.layers if x.weights and not x.trainable_weights] == names


def test_frozen_layers_stay_and_the_others_learn():
    encoder = small()
    frozen = freeze(encoder, "embeddings,0")
    model = classification(encoder, 3)
    model.compile(adamw(0.1, weight_decay=0.5), "mse")
    before = {v.path: to_numpy(v).copy() for v in model.weights}
    inputs = {
        "token_ids": np.array([[1, 2, 3], [4, 5, 6]]),
        "padding_mask": np.ones((2, 3), bool),
        "segment_ids": np.zeros((2, 3), int),
    }
    model.fit(inputs, np.ones((2, 3), "float32"), epochs=2, verbose=0)
    for variable in model.trainable_variables + model.non_trainable_variables:
        if "seed" in variable.path or "key/bias" in variable.path:  # a key's bias has no gradient
            continue
        is_same = np.array_equal(to_numpy(variable), before[variable.path])
        assert is_same == (variable.path.split("/")[0] in frozen), variable.path


def test_rates_fall_with_the_distance_from_the_head():
    rates = rates_by_depth(small(2), 0.5)
    assert rates == dict.fromkeys(EMBEDDINGS, 0.125) | {"block_0": 0.25, "block_1": 0.5}


def test_starts_come_later_with_the_distance_from_the_head():
    expected = {"block_2": 5, "block_1": 10, "block_0": 15} | dict.fromkeys(EMBEDDINGS, 20)
    assert starts_by_depth(small(), 1, 5) == expected
    expected = {"block_2": 5, "block_1": 5, "block_0": 10} | dict.fromkeys(EMBEDDINGS, 10)
    assert starts_by_depth(small(), 2, 5) == expected


class Changes(keras.callbacks.Callback):
    """After each epoch: the layers that it changed, and how often a step was traced or run."""

    def __init__(self, calls):
        super().__init__()
        self.calls, self.layers, self.numbers = calls, [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = [to_numpy(v).copy() for v in self.model.trainable_variables]

    def on_epoch_end(self, epoch, logs=None):
        pairs = zip(self.model.trainable_variables, self.before, strict=True)
        changed = {v.path for v, before in pairs if not np.array_equal(to_numpy(v), before)}
        self.layers.append({path.partition("/")[0] for path in changed})
        self.numbers.append(len(self.calls))


@pytest.mark.parametrize("accumulate, is_fast", [(1, True), (2, False)])
def test_layers_that_are_to_learn_later_are_the_same_to_the_bit(accumulate, is_fast, monkeypatch):
    if not is_fast:
        monkeypatch.setattr(AdamW, "_is_plain", lambda self: False)
    calls, step = [], AdamW._backend_update_step

    def counted(self, *given):
        calls.append(given)
        return step(self, *given)

    monkeypatch.setattr(AdamW, "_backend_update_step", counted)
    encoder = small(2)
    model = classification(encoder, 3)
    starts = starts_by_depth(encoder, 1, 2)
    model.compile(adamw(0.1, weight_decay=0.5, accumulate=accumulate, starts=starts), "mse")
    inputs = {
        "token_ids": np.array([[1, 2, 3], [4, 5, 6]]),
        "padding_mask": np.ones((2, 3), bool),
        "segment_ids": np.zeros((2, 3), int),
    }
    changes = Changes(calls)
    target = np.ones((2, 3), "float32")
    model.fit(inputs, target, 1, epochs=4, callbacks=[changes], shuffle=False, verbose=0)
    head = {"pooler", "classifier"}
    two, one = head | {"block_1"}, head | {"block_1", "block_0"}
    assert changes.layers == [head, two, one, one | {*EMBEDDINGS}]
    if BACKEND != "torch":  # which runs what the others trace
        assert changes.numbers[0] == changes.numbers[-1]


def test_what_is_not_there_is_refused():
    with pytest.raises(InputError, match="freeze: 2-3 names blocks .* has blocks 0 to 2 with"):
        freeze(small(), "2-3")
    with pytest.raises(InputError, match="freeze: 2-1 names blocks"):
        freeze(small(), "2-1")
    with pytest.raises(InputError, match="expected embeddings, encoder, a block.*came 'pooler'"):
        freeze(small(), "0,pooler")
    shared = albert(AlbertConfig(11, num_layers=3, embedding_width=5, **SIZES), "float32")
    assert freeze(shared, "0") == ["block_0"]
    groups = AlbertConfig(11, num_layers=4, embedding_width=5, blocks_per_layer=2, **SIZES)
    grouped = albert(groups, "float32")
    assert freeze(grouped, "0") == ["block_0", "block_0_1"]
    assert rates_by_depth(grouped, 0.5)["block_0_1"] == 0.5
    assert "block_0" not in freeze(albert(groups, "float32"), "embeddings")
    with pytest.raises(InputError, match="has block 0 alone with weights of its own"):
        freeze(shared, "1")
