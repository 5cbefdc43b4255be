"""The one function of a served model, for every architecture."""

from importlib import import_module

import keras
import numpy as np
import pytest
from harness import randomize

from kbert.checkpoint import ARCHITECTURES
from kbert.export.graph import heard_attention, sequence_of
from kbert.heads.tokens import token_classification

SIZES = {
    "vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 20, "max_position_embeddings": 29,
}  # fmt: skip
OTHER = {
    "distilbert": {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 20},
    "albert": {"num_hidden_groups": 1, "inner_group_num": 2, "embedding_size": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": "c2p|p2c", "conv_kernel_size": 3},
    "mobilebert": {
        "embedding_size": 8, "intra_bottleneck_size": 12, "true_hidden_size": 12,
        "use_bottleneck": True,
    },
}  # fmt: skip


def encoder_of(kind, **changes):
    architecture = import_module(f"kbert.models.{ARCHITECTURES[kind]}")
    settings = {"model_type": kind, **SIZES, **OTHER.get(kind, {}), **changes}
    config = architecture.config_from_hugging_face(settings)
    encoder = architecture.encoder(config, "float32")
    randomize(encoder)
    return encoder


@pytest.fixture(params=sorted(set(ARCHITECTURES) - {"camembert", "xlm-roberta"}))
def encoder(request):
    keras.utils.set_random_seed(1)
    return encoder_of(request.param)


def features_of(encoder):
    ids = np.array([[2, 7, 5, 3], [2, 9, 3, 1]], "int32")
    everything = {"token_ids": ids, "padding_mask": ids != 1, "segment_ids": 0 * ids}
    return {name: everything[name] for name in encoder.input}


def test_the_sequence_is_the_encoders_and_every_attention_is_heard(encoder):
    model, features = token_classification(encoder, 5), features_of(encoder)
    assert sequence_of(model) is encoder.output["sequence"]
    expected = keras.ops.convert_to_numpy(model(features))
    with heard_attention(model) as scores:
        found = keras.ops.convert_to_numpy(model(features))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    maps = np.stack([keras.ops.convert_to_numpy(x) for x in scores], axis=1)
    layers = 6 if encoder.name == "albert" else 3  # two in a group
    assert maps.shape == (2, layers, 4, 4, 4)
    np.testing.assert_allclose(maps.sum(-1), 1.0, atol=1e-5)
    assert np.abs(maps[1, ..., 3]).max() < 1e-6  # padding gets nothing
    count = len(scores)
    model(features)
    assert len(scores) == count
