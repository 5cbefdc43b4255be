"""Positions as a part: an encoder handed others than the learned ones it was published with."""

from functools import partial

import keras
import numpy as np
import pytest
from contract import check_encoder, one_text, sequence
from harness import randomize

from kbert import checkpoint
from kbert.errors import InputError
from kbert.heads.classification import classification
from kbert.layers.position_biases import LinearBias, RelativeBias
from kbert.layers.positions import LearnedPositions, RotaryPositions, SinusoidalPositions
from kbert.models import albert, bert, distilbert, electra, roberta

H, K = 5, 14
# A name for each → a dtype policy → the layer.
PARTS = {
    "sinusoidal": SinusoidalPositions,
    "rotary": partial(RotaryPositions, K, 997.0),
    "T5": partial(RelativeBias, H, 14, 11),
    "ALiBi": partial(LinearBias, H),
}
BERT = bert.BertConfig(
    vocab_size=101, num_layers=2, width=H * K, num_heads=H, inner_width=53, max_length=17
)
SIZES = {"num_layers": 2, "width": H * K, "num_heads": H, "inner_width": 53, "vocab_size": 101}
OTHERS = {
    albert: albert.AlbertConfig(**SIZES, embedding_width=13),
    distilbert: distilbert.DistilBertConfig(**SIZES),
    electra: electra.ElectraConfig(**SIZES, embedding_width=13),
    roberta: roberta.RobertaConfig(**SIZES),
}


def part(name, dtype="float32"):
    return PARTS[name](dtype=dtype, name="other_positions")


@pytest.mark.parametrize("name", ["rotary", "T5"])  # one for each way beside the sum
def test_a_bert_with_other_positions_keeps_the_contract_of_encoders(name, tmp_path):
    def build(config, dtype):
        return bert.bert(config, dtype, positions=part(name, dtype))

    check_encoder(build, BERT, tmp_path)


@pytest.mark.parametrize("name", PARTS)
def test_without_a_table_of_positions_a_text_may_be_of_any_length(name):
    encoder = bert.bert(BERT, "float32", positions=part(name))
    assert not any("position_embedding" in weight.path for weight in encoder.weights)
    assert sequence(encoder, one_text(encoder, [7] + [5] * 30)).shape == (1, 31, H * K)


@pytest.mark.parametrize("architecture", OTHERS, ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["rotary", "ALiBi", "sinusoidal"])
def test_other_encoders_take_them_too(architecture, name):
    config = OTHERS[architecture]
    encoder = architecture.encoder(config, "float32", positions=part(name))
    randomize(encoder, 0.2)
    places = sequence(encoder, one_text(encoder, [7, 5, 5, 5, 5]))[0]
    apart = np.abs(places[:, None] - places[None]).max(axis=-1)
    assert apart[~np.eye(5, dtype=bool)].min() > 1e-4


def test_the_default_is_the_learned_positions_by_their_own_name():
    encoder, given = (
        bert.bert(BERT, "float32", positions=positions)
        for positions in (None, LearnedPositions(17, name="position_embedding"))
    )
    assert [w.path for w in given.weights] == [w.path for w in encoder.weights]
    checkpoint.tensors_of(given, bert)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("has_head", [False, True])
def test_positions_that_config_json_has_no_words_for_are_not_saved_as_a_bert(name, has_head):
    encoder = bert.bert(BERT, "float32", positions=part(name))
    model = classification(encoder, 3) if has_head else encoder
    words = "'other_positions'.*, which config.json of kbert.models.bert has no words for.*keras"
    with pytest.raises(InputError, match=words):
        checkpoint.tensors_of(model, bert, "SequenceClassification" if has_head else None)


def test_a_part_that_tells_no_positions_is_refused():
    with pytest.raises(ValueError, match="`gives` is None, expected one of sum, bias, rotation"):
        bert.bert(BERT, positions=keras.layers.Dense(3))
