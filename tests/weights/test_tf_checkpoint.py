"""Google's BERT checkpoints: written here with TensorFlow under Google's names, and read."""

import json

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.weights import foreign, names, tf_checkpoint

V, D, F, S = 13, 6, 7, 5
CONFIG = {
    "attention_probs_dropout_prob": 0.11, "hidden_act": "gelu", "hidden_dropout_prob": 0.13,
    "hidden_size": D, "initializer_range": 0.03, "intermediate_size": F,
    "max_position_embeddings": S, "num_attention_heads": 3, "num_hidden_layers": 2,
    "type_vocab_size": 2, "vocab_size": V,
}  # fmt: skip
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "##d", "e", "f", "g", "h"]

# As run_pretraining.py's checkpoint lists them.
SHAPES = {
    "bert/embeddings/word_embeddings": (V, D),
    "bert/embeddings/position_embeddings": (S, D),
    "bert/embeddings/token_type_embeddings": (2, D),
    "bert/embeddings/LayerNorm/beta": (D,),
    "bert/embeddings/LayerNorm/gamma": (D,),
    "bert/pooler/dense/bias": (D,),
    "bert/pooler/dense/kernel": (D, D),
    "cls/predictions/output_bias": (V,),
    "cls/predictions/transform/LayerNorm/beta": (D,),
    "cls/predictions/transform/LayerNorm/gamma": (D,),
    "cls/predictions/transform/dense/bias": (D,),
    "cls/predictions/transform/dense/kernel": (D, D),
    "cls/seq_relationship/output_bias": (2,),
    "cls/seq_relationship/output_weights": (2, D),
}
for i in range(2):
    layer = f"bert/encoder/layer_{i}"
    for dense, shape in {
        "attention/output/dense": (D, D), "attention/self/key": (D, D),
        "attention/self/query": (D, D), "attention/self/value": (D, D),
        "intermediate/dense": (D, F), "output/dense": (F, D),
    }.items():  # fmt: skip
        SHAPES |= {f"{layer}/{dense}/kernel": shape, f"{layer}/{dense}/bias": shape[1:]}
    for norm in ("attention/output/LayerNorm", "output/LayerNorm"):
        SHAPES |= {f"{layer}/{norm}/beta": (D,), f"{layer}/{norm}/gamma": (D,)}


def random_variables(shapes=SHAPES):
    draw = np.random.default_rng(1)
    return {name: draw.standard_normal(shape, "float32") for name, shape in shapes.items()}


def write(folder, variables, config=CONFIG, name="bert_model.ckpt", pieces=PIECES):
    """A folder as Google's, through the Saver that Google's code calls."""
    import tensorflow as tf

    with tf.Graph().as_default():
        made = [tf.compat.v1.get_variable(n, initializer=a) for n, a in variables.items()]
        saver = tf.compat.v1.train.Saver(made)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            saver.save(session, str(folder / name), write_meta_graph=False, write_state=False)
    (folder / "bert_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return folder


def test_every_variable_of_pretraining_is_read(tmp_path):
    variables = random_variables()
    found = tf_checkpoint.read(write(tmp_path, variables))
    assert found.settings == {"model_type": "bert", **CONFIG}
    assert foreign.head_of(found.arrays) == "PreTraining"
    assert len(found.arrays) == len(variables)
    for path, name in {
        "token_embedding/embeddings": "bert/embeddings/word_embeddings",
        "block_1/attention/query/kernel": "bert/encoder/layer_1/attention/self/query/kernel",
        "block_0/feed_forward_residual/norm/beta": "bert/encoder/layer_0/output/LayerNorm/beta",
        "masked_lm_bias/bias": "cls/predictions/output_bias",
    }.items():
        np.testing.assert_array_equal(found.arrays[path], variables[name], path)
    transposed = variables["cls/seq_relationship/output_weights"].T
    np.testing.assert_array_equal(found.arrays["next_sentence/kernel"], transposed)


@pytest.mark.parametrize(
    ("extra", "head"),
    [
        ({"output_weights": (7, D), "output_bias": (7,)}, "SequenceClassification"),
        ({"cls/squad/output_weights": (2, D), "cls/squad/output_bias": (2,)}, "QuestionAnswering"),
        ({}, None),
    ],
    ids=["run_classifier.py", "run_squad.py", "bare"],
)
def test_the_table_runs_both_ways(tmp_path, extra, head):
    """What TensorFlow wrote is read; what is written of it, TensorFlow reads back bit-equal."""
    import tensorflow as tf

    bare = {name: shape for name, shape in SHAPES.items() if not name.startswith("cls/")}
    variables = random_variables({**bare, **extra})
    found = tf_checkpoint.read(write(tmp_path, variables))
    assert foreign.head_of(found.arrays) == head
    back = tmp_path / "back"
    back.mkdir()
    tf_checkpoint.write(back, found.settings, found.arrays, head)
    assert {file.name for file in back.iterdir()} == {
        "bert_config.json", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001",
    }  # fmt: skip
    assert json.loads((back / "bert_config.json").read_text()) == CONFIG
    reader = tf.train.load_checkpoint(str(back / "bert_model.ckpt"))
    assert set(reader.get_variable_to_shape_map()) == set(variables)
    for name, array in variables.items():
        np.testing.assert_array_equal(reader.get_tensor(name), array, name)


def test_every_row_is_needed_and_has_a_name_of_its_own():
    for side in ("ours", "theirs"):
        listed = [getattr(row, side) for row in tf_checkpoint.NAMES]
        assert len(set(listed)) == len(listed)
    shapes = {**SHAPES, "output_weights": (), "output_bias": (), "cls/squad/output_weights": ()}
    arrays = {name: np.zeros(()) for name in (*shapes, "cls/squad/output_bias")}
    matched = names.from_checkpoint(arrays, tf_checkpoint.NAMES, "")
    assert matched.unknown == [] and len(matched.arrays) == len(arrays)


def test_what_an_optimizer_keeps_is_known_and_left_out(tmp_path):
    variables = random_variables()
    slots = {
        f"{n}/{s}": np.zeros_like(a) for n, a in variables.items() for s in ("adam_m", "adam_v")
    }
    variables |= slots
    variables["global_step"] = np.array(7, "int64")
    found = tf_checkpoint.read(write(tmp_path, variables, name="model.ckpt-7"))
    assert set(found.left_out) == {"global_step", *slots}
    assert len(found.arrays) == len(SHAPES)


def test_a_variable_that_nobody_knows_is_named(tmp_path):
    extra = {"bert/encoder/layer_0/adapter/kernel": np.zeros((2, 2), "float32")}
    extra["nobody/adam_m"] = np.zeros(3, "float32")
    write(tmp_path, random_variables() | extra)
    with pytest.raises(InputError, match="2 unknown: bert/enc.*/adapter/kernel, nobody/adam_m"):
        tf_checkpoint.read(tmp_path)


def test_what_config_json_says_beyond_goes_along(tmp_path):
    variables = random_variables()
    arrays = tf_checkpoint.read(write(tmp_path, variables)).arrays
    settings = {"model_type": "bert", **CONFIG, "hidden_act": "gelu_new", "id2label": {"0": "é"}}
    tf_checkpoint.write(tmp_path, settings, arrays, "PreTraining")
    written = json.loads((tmp_path / "bert_config.json").read_text("utf-8"))
    assert written["hidden_act"] == "gelu"
    assert written["hugging_face"] == {"id2label": {"0": "é"}, "hidden_act": "gelu_new"}
    assert tf_checkpoint.read(tmp_path).settings == settings


def test_what_bert_config_json_leaves_out_is_googles_default(tmp_path):
    write(tmp_path, random_variables(), {"vocab_size": V})
    settings = tf_checkpoint.read(tmp_path).settings
    assert settings["type_vocab_size"] == 16
    assert settings["hidden_size"] == 768
    # And what config.json leaves out is that of transformers.
    other = tmp_path / "other"
    other.mkdir()
    tf_checkpoint.write(other, {"model_type": "bert"}, {"pooler/bias": np.zeros(D)}, None)
    assert json.loads((other / "bert_config.json").read_text())["type_vocab_size"] == 2


@pytest.mark.parametrize(
    ("pieces", "lowercase"),
    [(PIECES, True), ([*PIECES[:-1], "<S>"], True), ([*PIECES[:-1], "##H"], False)],
)
def test_a_vocabulary_with_capitals_is_of_text_as_it_is(tmp_path, pieces, lowercase):
    write(tmp_path, {"bert/pooler/dense/bias": np.zeros(D, "float32")}, pieces=pieces)
    files = tf_checkpoint.read(tmp_path).tokenizer_files
    assert files["vocab.txt"].decode().split("\n")[:-1] == pieces
    assert json.loads(files["tokenizer_config.json"]) == {"do_lower_case": lowercase}
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    files = tf_checkpoint.read(tmp_path).tokenizer_files
    assert json.loads(files["tokenizer_config.json"]) == {"do_lower_case": False}


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; Google's format is for bert only"),
        ({"model_type": "bert", "hidden_act": "silu"}, "hidden_act is 'silu'; Google's BERT has"),
        ({"model_type": "bert", "layer_norm_eps": 1e-5}, "is 1e-05; Google's BERT has 1e-12 only"),
    ],
)
def test_what_googles_code_cannot_compute_is_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        tf_checkpoint.write(tmp_path, settings, {}, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("head", "path"),
    [
        ("PreTraining", "replaced_token/kernel"),
        ("TokenClassification", "classifier/kernel"),
        ("MultipleChoice", "classifier/kernel"),
    ],
)
def test_a_head_without_a_place_is_refused_by_name(tmp_path, head, path):
    arrays = {path: np.zeros((D, 1)), "pooler/bias": np.zeros(D)}
    with pytest.raises(InputError, match=rf"Google.* has no place .*\n  {path} \(6, 1\)$"):
        tf_checkpoint.write(tmp_path, {"model_type": "bert"}, arrays, head)
    assert not list(tmp_path.iterdir())


def test_heads_that_no_model_holds_together_are_refused():
    with pytest.raises(InputError, match=r"one head, came those of \['Ques.*', 'SequenceCl.*'\]"):
        foreign.head_of(["classifier/kernel", "span/kernel", "pooler/bias"])


def test_broken_folders_are_refused(tmp_path):
    write(tmp_path, {"bert/pooler/dense/bias": np.arange(D, dtype="float32")})
    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    data.unlink()
    with pytest.raises(InputError, match="bert_model.ckpt: not a whole checkpoint .* again"):
        tf_checkpoint.read(tmp_path)
    data.write_bytes(whole)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(InputError, match="expected vocab.txt beside bert_config.json"):
        tf_checkpoint.read(tmp_path)
    (tmp_path / "bert_config.json").write_text("{}")
    with pytest.raises(InputError, match="bert_config.json: expected .* with vocab_size"):
        tf_checkpoint.read(tmp_path)


def test_of_several_checkpoints_none_is_guessed(tmp_path):
    for name in ("model.ckpt-3", "model.ckpt-5"):
        write(tmp_path, {"bert/pooler/dense/bias": np.zeros(D, "float32")}, name=name)
    with pytest.raises(InputError, match="expected bert_model.ckpt.index, or one other .*ckpt-3"):
        tf_checkpoint.read(tmp_path)


def test_a_checkpoint_of_tensorflow_2_is_refused(tmp_path):
    import tensorflow as tf

    write(tmp_path, {"bert/pooler/dense/bias": np.zeros(D, "float32")})
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "bert_model.ckpt"))
    with pytest.raises(InputError, match="a checkpoint of TensorFlow 2"):
        tf_checkpoint.read(tmp_path)
