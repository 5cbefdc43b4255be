"""keras-hub's backbones, tasks and presets: the same weights, the same outputs, both ways."""

import importlib
import json

import keras
import numpy as np
import pytest
from harness import randomize, run, to_numpy

from kbert import checkpoint
from kbert.errors import InputError
from kbert.weights import foreign, names
from kbert.weights.keras_hub import presets, tables, tokenizers

keras_hub = pytest.importorskip("keras_hub")

B, T, V, E, D, F, S = 2, 11, 101, 23, 35, 53, 17
SIZES = {"num_layers": 1, "num_heads": 5, "hidden_dim": D, "intermediate_dim": F}
MORE = {
    "Electra": {"embedding_dim": E},
    "Bert": {"num_layers": 2},
    "DebertaV3": {"bucket_size": 6},
    "Albert": {"embedding_dim": E, "num_layers": 2, "num_groups": 2, "num_inner_repetitions": 2},
}
TOLERANCE = 5e-5


def backbone_of(stem, **settings):
    kind = getattr(keras_hub.models, f"{stem}Backbone")
    vocab = {"vocab_size" if stem == "Electra" else "vocabulary_size": V}
    sizes = SIZES | {"max_sequence_length": S} | vocab | MORE.get(stem, {})
    backbone = kind(**sizes | settings, dtype="float32")
    randomize(backbone, 0.2)
    return backbone


def random_inputs(model):
    draw = np.random.default_rng(1)
    inputs = {
        "token_ids": draw.integers(0, V, (B, T), "int32"),
        "segment_ids": draw.integers(0, 2, (B, T), "int32"),
        "padding_mask": np.arange(T) < np.array([[T], [7]]),
    }
    return {name: inputs[name] for name in model.input if name in inputs}


def sequence_of(backbone, inputs):
    given = {name: x.astype("int32") for name, x in inputs.items()}
    found = run(backbone, given)
    return found["sequence_output"] if isinstance(found, dict) else found


def encoder_of(found):
    """The kbert encoder of what was found, and its architecture's file."""
    name = checkpoint.ARCHITECTURES[found.settings["model_type"]]
    architecture = importlib.import_module(f"kbert.models.{name}")
    encoder = architecture.encoder(architecture.config_from_hugging_face(found.settings), "float32")
    assert names.differences(encoder.weights, found.arrays) == ([], [])
    names.assign(encoder.weights, found.arrays)
    return encoder, architecture


def complete(found, architecture):
    """config.json with every size, as `kbert convert` gives it."""
    config = architecture.config_from_hugging_face(found.settings)
    return {**architecture.config_to_hugging_face(config), **found.settings}


@pytest.mark.parametrize("stem", tables.KINDS)
def test_a_backbone_gives_the_same_sequence_here_and_goes_back_bit_equal(stem):
    backbone = backbone_of(stem)
    found = presets.from_model(backbone)
    encoder, architecture = encoder_of(found)
    inputs = random_inputs(encoder)
    expected = sequence_of(backbone, inputs)
    far = np.abs(run(encoder, inputs)["sequence"] - expected)[inputs["padding_mask"]].max()
    print(f"keras-hub {stem} {keras.backend.backend()} {far:.1e}")
    assert far <= TOLERANCE
    back, notes = presets.to_model(complete(found, architecture), found.arrays, None)
    assert notes == [f"keras-hub's {p} has no counterpart here: it is new." for p in found.left_out]
    assert found.left_out == list(tables.KINDS[stem].random)
    settings = {"name", "dtype", "trainable"}
    theirs, ours = (
        {k: v for k, v in m.get_config().items() if k not in settings} for m in (backbone, back)
    )
    assert theirs == ours
    for after, before in zip(back.weights, backbone.weights, strict=True):
        assert after.path == before.path
        if after.path not in found.left_out:
            np.testing.assert_array_equal(to_numpy(after), to_numpy(before), after.path)


@pytest.mark.parametrize("kind", tables.KINDS.values(), ids=tables.KINDS)
def test_no_name_stands_twice_in_a_table(kind):
    for rows in (kind.table, kind.classifier, tables.MASKED_LM):
        for side in ("ours", "theirs"):
            listed = [getattr(row, side) for row in rows]
            assert len(set(listed)) == len(listed)


def test_robertas_one_segment_goes_into_the_positions():
    from kbert.models import roberta

    config = roberta.RobertaConfig(V, 1, D, 5, F, max_length=S, norm_epsilon=1e-5)
    encoder = roberta.encoder(config, "float32")
    randomize(encoder, 0.2)
    settings = roberta.config_to_hugging_face(config)
    backbone, notes = presets.to_model(settings, names.take(encoder.weights), None)
    assert notes == []
    inputs = random_inputs(encoder)
    far = np.abs(run(encoder, inputs)["sequence"] - sequence_of(backbone, inputs))
    assert far[inputs["padding_mask"]].max() <= TOLERANCE


# Tasks


def task_of(stem, name, **settings):
    task = getattr(keras_hub.models, stem + name)(backbone=backbone_of(stem), **settings)
    randomize(task, 0.2)
    return task


@pytest.mark.parametrize("stem", ["Bert", "Roberta", "DistilBert", "DebertaV3"])
def test_a_classifier_gives_the_same_logits_here_and_goes_back_bit_equal(stem):
    from kbert.heads.classification import classification

    task = task_of(stem, "TextClassifier", num_classes=7)
    found = presets.from_model(task)
    assert foreign.head_of(found.arrays) == "SequenceClassification"
    assert list(found.settings["id2label"]) == list("0123456")
    encoder, architecture = encoder_of(found)
    model = classification(encoder, 7)
    names.assign(model.weights, found.arrays)
    inputs = random_inputs(encoder)
    expected = run(task, {name: x.astype("int32") for name, x in inputs.items()})
    assert np.abs(expected).max() > 0.1
    assert np.abs(run(model, inputs) - expected).max() <= TOLERANCE
    settings = complete(found, architecture)
    back, _ = presets.to_model(settings, found.arrays, "SequenceClassification")
    for after, before in zip(back.weights, task.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(after), to_numpy(before), after.path)


@pytest.mark.parametrize("stem", ["Bert", "Roberta"])
def test_a_masked_lm_gives_nearly_the_same_logits_here_and_goes_back_bit_equal(stem):
    from kbert.heads.masked_lm import masked_lm

    task = task_of(stem, "MaskedLM")
    found = presets.from_model(task)
    assert foreign.head_of(found.arrays) == "MaskedLM"
    # RoBERTa's head computes as it does there; BERT's has another GELU and epsilon.
    assert len(found.notes) == (stem == "Bert")
    encoder, architecture = encoder_of(found)
    model = masked_lm(encoder)
    names.assign(model.weights, found.arrays)
    inputs = random_inputs(encoder)
    theirs = {name: x.astype("int32") for name, x in inputs.items()}
    expected = run(task, {**theirs, "mask_positions": np.tile(np.arange(T, dtype="int32"), (B, 1))})
    far = np.abs(run(model, inputs) - expected)[inputs["padding_mask"]].max()
    assert far <= (TOLERANCE if stem == "Roberta" else 0.02)
    back, notes = presets.to_model(complete(found, architecture), found.arrays, "MaskedLM")
    assert [note for note in notes if "masked-LM" in note] == found.notes
    for after, before in zip(back.weights, task.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(after), to_numpy(before), after.path)


# Presets

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefg", *(f"##{x}" for x in "abcdefg")]


def test_a_preset_with_a_task_is_read_with_its_vocabulary(tmp_path):
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=PIECES, lowercase=True)
    pack = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=S)
    task = task_of("Bert", "TextClassifier", num_classes=3, preprocessor=pack)
    task.save_to_preset(str(tmp_path))
    assert presets.is_keras_hub(tmp_path)
    found = presets.read(tmp_path)
    values = presets.from_model(task).arrays
    assert set(found.arrays) == set(values)
    for path, array in values.items():
        np.testing.assert_array_equal(found.arrays[path], array, path)
    assert found.tokenizer_files["vocab.txt"].decode().split() == PIECES
    settings = json.loads(found.tokenizer_files["tokenizer_config.json"])
    assert settings["do_lower_case"] is True and settings["strip_accents"] is False


def test_what_is_written_keras_hub_opens(tmp_path):
    found = presets.from_model(task_of("Bert", "TextClassifier", num_classes=3))
    _, architecture = encoder_of(found)
    settings = complete(found, architecture) | {"id2label": {"0": "é", "1": "b", "2": "c"}}
    files = {
        "vocab.txt": "".join(f"{piece}\n" for piece in PIECES).encode(),
        "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer", "do_lower_case": true}',
    }
    head = "SequenceClassification"
    assert presets.write(tmp_path, settings, found.arrays, head, files) == []
    task = keras_hub.models.TextClassifier.from_preset(str(tmp_path))
    assert to_numpy(task(task.preprocessor(["ab Cä"]))).shape == (1, 3)
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path))
    assert isinstance(backbone, keras_hub.models.BertBackbone)
    assert task.preprocessor.tokenizer.get_config()["strip_accents"] is True
    again = presets.read(tmp_path)
    assert again.settings["id2label"] == settings["id2label"]
    for path, array in found.arrays.items():
        np.testing.assert_array_equal(again.arrays[path], array, path)


def test_robertas_vocabulary_goes_both_ways(tmp_path):
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6, "<mask>": 7}
    files = {
        "vocab.json": json.dumps(vocab).encode(),
        "merges.txt": b"#version: 0.2\na b\n",
    }
    tokenizer, notes = tokenizers.make(tables.ROBERTA, files)
    assert notes == []
    tokenizer.save_to_preset(str(tmp_path))
    found = tokenizers.read(tmp_path, tables.ROBERTA)
    assert json.loads(found["vocab.json"]) == vocab
    assert found["merges.txt"].decode().split("\n")[0] == "a b"


@pytest.mark.parametrize("kind", [tables.BERT, tables.ALBERT, tables.ROBERTA])
def test_a_tokenizer_that_keras_hub_has_not_is_told(kind):
    tokenizer, notes = tokenizers.make(kind, {"tokenizer.json": b"{}"})
    assert tokenizer is None
    assert notes[0].startswith("No tokenizer was written: keras-hub needs")


# What is not the same, and bad input


def bert_settings(**settings):
    from kbert.models import bert

    return bert.config_to_hugging_face(bert.BertConfig(V, 1, D, 5, F, S)) | settings


def test_where_keras_hub_computes_otherwise_is_told():
    arrays = presets.from_model(backbone_of("Bert", num_layers=1)).arrays
    settings = bert_settings(layer_norm_eps=1e-7, attention_probs_dropout_prob=0.3)
    _, notes = presets.to_model(settings, arrays, None)
    assert notes == [
        "hidden_act is gelu here, and gelu_new in keras-hub: outputs differ slightly.",
        "layer_norm_eps is 1e-07 here, and 1e-12 in keras-hub: outputs differ slightly.",
        "keras-hub drops scores of attention with 0.1, not 0.3.",
    ]
    with pytest.raises(InputError, match="hidden_act is 'relu'; keras-hub's Bert has 'gelu_new' o"):
        presets.to_model(bert_settings(hidden_act="relu"), arrays, None)


def test_a_deberta_that_keras_hub_has_not_is_refused():
    found = presets.from_model(backbone_of("DebertaV3"))
    settings = complete(found, encoder_of(found)[1])
    presets.to_model(settings | {"pos_att_type": ["p2c", "c2p"]}, found.arrays, None)
    for change, message in {
        (
            "pos_att_type",
            "c2p",
        ): r"pos_att_type is 'c2p'; keras-hub's DebertaV3 has 'c2p\|p2c' only",
        ("share_att_key", False): "share_att_key is False; keras-hub's DebertaV3 has True only",
        (
            "max_relative_positions",
            5,
        ): "max_relative_positions is 5; .*max_position_emb.*, 17, only",
    }.items():
        with pytest.raises(InputError, match=message):
            presets.to_model(settings | dict([change]), found.arrays, None)


def test_a_head_without_a_place_is_refused_by_name():
    arrays = presets.from_model(backbone_of("Bert", num_layers=1)).arrays
    arrays["span/kernel"] = np.zeros((D, 2))
    with pytest.raises(InputError, match=r"keras-hub has no place .*\n  span/kernel \(35, 2\)$"):
        presets.to_model(bert_settings(), arrays, "QuestionAnswering")


def test_a_model_that_keras_hub_has_not_is_refused():
    with pytest.raises(InputError, match="model_type is 'mobilebert'; of keras-hub this .* bert, "):
        presets.to_model(bert_settings(model_type="mobilebert"), {}, None)


def test_a_backbone_that_is_not_known_is_refused(tmp_path):
    config = {"class_name": "GPT2Backbone", "registered_name": "keras_hub>GPT2Backbone"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="holds a GPT2Backbone of keras-hub; this version knows A"):
        presets.read(tmp_path)
    with pytest.raises(InputError, match="expected one of keras-hub's BertB.*; got a Sequential"):
        presets.from_model(keras.Sequential([keras.Input((3,))]))


def test_a_preset_without_weights_is_refused(tmp_path):
    backbone_of("Bert", num_layers=1).save_to_preset(str(tmp_path))
    with pytest.raises(InputError, match="expected keras-hub's tokenizer.json and vocabulary"):
        presets.read(tmp_path)
    (tmp_path / "model.weights.h5").write_bytes(b"")
    with pytest.raises(InputError, match="keras-hub cannot open it"):
        presets.read(tmp_path)
