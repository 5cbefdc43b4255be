"""`kbert convert`: from every format into every other, heads and vocabulary included."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tiny
from harness import BACKEND, run, to_numpy

import kbert
from kbert import checkpoint
from kbert.convert import convert
from kbert.weights import safetensors

transformers = pytest.importorskip("transformers")
# Files and names know no backend: once is enough.
once = pytest.mark.skipif(BACKEND != "tensorflow", reason="the same on every backend")

V, D = 307, 35
SIZES = {
    "vocab_size": V, "num_hidden_layers": 2, "hidden_size": D, "num_attention_heads": 5,
    "intermediate_size": 53, "max_position_embeddings": 23,
    # As keras-hub's BERT has it, so that outputs are the same to the last digit but one.
    "hidden_act": "gelu_new",
}  # fmt: skip
TEXTS = ["My cat!", "naïve DOG [SEP] wing", "unfehlbarkeit 猫 big", ""]
HEADS = {
    "BertForPreTraining": {},
    "BertForMaskedLM": {},
    "BertForSequenceClassification": {"id2label": {0: "é", 1: "b", 2: "c"}},
    "BertForQuestionAnswering": {},
    "BertForTokenClassification": {"id2label": {0: "O", 1: "B-X"}},
    "BertModel": {},
}


def write_reference(folder, class_name, vocabulary, **settings):
    """A folder as transformers saves it, every weight random."""
    import torch

    tiny.write_vocabulary(folder, vocabulary, V)
    kind = getattr(transformers, class_name)
    model = kind(kind.config_class(**SIZES | HEADS.get(class_name, {}) | settings))
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(vocabulary, tmp_path_factory):
    """Class name → a folder of transformers with that head; only to read."""
    home = tmp_path_factory.mktemp("references")
    return {name: write_reference(home / name, name, vocabulary) for name in HEADS}


def tensors_of(folder):
    return safetensors.read(safetensors.weight_files(folder))


def assert_same_tensors(folder, other):
    """Bit-equal, under the same names, but for what is tied and need not be written."""
    ours, theirs = tensors_of(folder), tensors_of(other)
    assert {n for n in theirs.keys() ^ ours.keys() if ".decoder." not in n} == set()
    for name in theirs.keys() & ours.keys():
        np.testing.assert_array_equal(ours[name], theirs[name], name)


def sequence_of(loaded, texts=TEXTS):
    ids = [
        [loaded.tokenizer.cls_id, *row, loaded.tokenizer.sep_id] for row in loaded.tokenizer(texts)
    ]
    longest = max(map(len, ids))
    inputs = {
        "token_ids": np.array([row + [0] * (longest - len(row)) for row in ids], "int32"),
        "padding_mask": np.array([[i < len(row) for i in range(longest)] for row in ids]),
        "segment_ids": np.zeros((len(ids), longest), "int32"),
    }
    inputs = {name: inputs[name] for name in loaded.encoder.input}
    return run(loaded.encoder, inputs)["sequence"], inputs


# Google


@once
@pytest.mark.parametrize("name", [n for n in HEADS if n != "BertForTokenClassification"])
def test_hugging_face_to_google_and_back_is_bit_equal(folders, tmp_path, name):
    google, back = tmp_path / "google", tmp_path / "back"
    report = convert(folders[name], google, "google")
    assert (report.source_format, report.class_name) == ("hugging-face", name)
    assert report.dropped == report.left_out == report.notes == []
    assert {"bert_config.json", "bert_model.ckpt.index", "vocab.txt"} <= set(os.listdir(google))
    report = convert(google, back, "hugging-face")
    assert (report.source_format, report.class_name) == ("google", name)
    assert_same_tensors(back, folders[name])
    settings = {f: json.loads((f / "config.json").read_text()) for f in (back, folders[name])}
    assert settings[back].items() >= settings[folders[name]].items()
    _, report = getattr(transformers, name).from_pretrained(back, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@once
def test_a_folder_of_googles_is_loaded_as_it_is(folders, tmp_path):
    convert(folders["BertForPreTraining"], tmp_path / "google", "google")
    (tmp_path / "google" / "tokenizer.json").unlink()
    (tmp_path / "google" / "tokenizer_config.json").unlink()
    (tmp_path / "google" / "special_tokens_map.json").unlink()
    loaded, expected = (
        kbert.load(f, dtype="float32") for f in (tmp_path / "google", folders["BertForPreTraining"])
    )
    assert loaded.tokenizer(TEXTS) == expected.tokenizer(TEXTS)
    np.testing.assert_array_equal(sequence_of(loaded)[0], sequence_of(expected)[0])
    head = loaded.encoder.head_weights["PreTraining"]
    assert len(head) == len(expected.encoder.head_weights["PreTraining"]) == 9


# keras-hub


@pytest.mark.parametrize("name", ["BertModel", "BertForSequenceClassification", "BertForMaskedLM"])
def test_hugging_face_to_keras_and_back_is_bit_equal(folders, tmp_path, name):
    report = convert(folders[name], tmp_path / "preset", "keras")
    assert report.dropped == []
    back = tmp_path / "back"
    assert convert(tmp_path / "preset", back, "hugging-face").source_format == "keras"
    # keras-hub's BERT always has a pooler; BertForMaskedLM has none.
    extra = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    tensors = tensors_of(back)
    if name == "BertForMaskedLM":
        assert "keras-hub's pooled_dense/kernel has no counterpart here: it is new." in report.notes
        tensors = {n: a for n, a in tensors.items() if n not in extra}
    for tensor, array in tensors_of(folders[name]).items():
        np.testing.assert_array_equal(tensors.pop(tensor), array, tensor)
    assert tensors == {}
    settings = {f: json.loads((f / "config.json").read_text()) for f in (back, folders[name])}
    assert settings[back].items() >= settings[folders[name]].items()


def test_keras_hub_gives_our_ids_and_our_sequence(folders, tmp_path):
    import keras_hub

    convert(folders["BertForSequenceClassification"], tmp_path / "preset", "keras")
    loaded = kbert.load(folders["BertForSequenceClassification"], dtype="float32")
    tokenizer = keras_hub.models.Tokenizer.from_preset(str(tmp_path / "preset"))
    assert [to_numpy(tokenizer(t)).tolist() for t in TEXTS[:3]] == loaded.tokenizer(TEXTS[:3])
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"), dtype="float32")
    sequence, inputs = sequence_of(loaded)
    theirs = run(backbone, {name: x.astype("int32") for name, x in inputs.items()})
    far = np.abs(theirs["sequence_output"] - sequence)[inputs["padding_mask"]].max()
    assert far <= 5e-5
    again = kbert.load(tmp_path / "preset", dtype="float32")
    assert again.tokenizer(TEXTS) == loaded.tokenizer(TEXTS)
    np.testing.assert_array_equal(sequence_of(again)[0], sequence)


@once
def test_from_google_to_keras_without_the_head(folders, tmp_path):
    convert(folders["BertForPreTraining"], tmp_path / "google", "google")
    with pytest.raises(kbert.InputError, match="keras-hub has no place .*\n  masked_lm_bias/bias"):
        convert(tmp_path / "google", tmp_path / "preset", "keras")
    assert os.listdir(tmp_path) == ["google"]
    report = convert(tmp_path / "google", tmp_path / "preset", "keras", drop_head=True)
    assert report.class_name == "BertModel"
    assert "masked_lm_transform/kernel" in report.dropped and len(report.dropped) == 7
    sequences = [
        sequence_of(kbert.load(f, dtype="float32"))[0]
        for f in (tmp_path / "preset", folders["BertForPreTraining"])
    ]
    np.testing.assert_array_equal(*sequences)


def albert(folder, data_dir):
    shutil.copy(data_dir / "vocab/albert/30k-clean.model", folder / "spiece.model")
    sizes = {"hidden_size": 35, "num_attention_heads": 5, "intermediate_size": 53}
    sizes |= {"embedding_size": 7, "num_hidden_layers": 2, "max_position_embeddings": 23}
    return transformers.AlbertModel(transformers.AlbertConfig(**sizes))


def roberta(folder, data_dir):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(data_dir / "vocab/roberta-base" / name, folder)
    sizes = {"hidden_size": 10, "num_attention_heads": 5, "intermediate_size": 53}
    sizes |= {"num_hidden_layers": 1, "max_position_embeddings": 25, "layer_norm_eps": 1e-5}
    config = transformers.RobertaConfig(**sizes, vocab_size=50265, type_vocab_size=1)
    return transformers.RobertaModel(config, add_pooling_layer=False)


@once
@pytest.mark.parametrize("make", [albert, roberta])
def test_other_vocabularies_go_to_keras_and_back(make, data_dir, tmp_path):
    import keras_hub

    source = tmp_path / "source"
    source.mkdir()
    make(source, data_dir).save_pretrained(source)
    notes = convert(source, tmp_path / "preset", "keras").notes
    assert [note[:30] for note in notes] == (
        ["keras-hub's ALBERT takes texts "[:30]] * (make is albert)
    )
    convert(tmp_path / "preset", tmp_path / "back", "hugging-face")
    loaded, back = (kbert.load(f, dtype="float32") for f in (source, tmp_path / "back"))
    texts = ["My cat!", "a bird was here"]
    assert back.tokenizer(texts) == loaded.tokenizer(texts)
    tokenizer = keras_hub.models.Tokenizer.from_preset(str(tmp_path / "preset"))
    theirs = [text.lower() if make is albert else text for text in texts]
    assert [to_numpy(tokenizer(text)).tolist() for text in theirs] == loaded.tokenizer(texts)
    (first, inputs), (second, _) = (sequence_of(found, texts) for found in (loaded, back))
    far = np.abs(first - second)[inputs["padding_mask"]].max()
    assert far <= 1e-6  # RoBERTa's one segment is part of the positions now


# One Keras file, pickles, kbert's own heads


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForTokenClassification"])
def test_one_keras_file_is_kberts_model(folders, tmp_path, name):
    report = convert(folders[name], tmp_path / "model.keras", "keras")
    assert "no vocabulary" in report.notes[0]
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    loaded = kbert.load(folders[name], dtype="float32")
    sequence, inputs = sequence_of(loaded)
    if name == "BertModel":
        found = run(model, inputs)
        np.testing.assert_allclose(found["sequence"], sequence, atol=1e-6)
        assert found["pooled"].shape == (len(TEXTS), D)
        return
    theirs = getattr(transformers, name).from_pretrained(folders[name]).eval()
    import torch

    names = {"token_ids": "input_ids", "padding_mask": "attention_mask"}
    given = {names[n]: torch.from_numpy(x).long() for n, x in inputs.items() if n in names}
    with torch.no_grad():
        expected = theirs(**given).logits.numpy()
    real = inputs["padding_mask"]
    assert np.abs(run(model, inputs) - expected)[real].max() <= 5e-5


@once
def test_keras_opens_the_file_after_the_imports_that_are_told(folders, tmp_path):
    report = convert(folders["BertForMaskedLM"], tmp_path / "model.keras", "keras")
    told = report.notes[1].partition(": ")[2]
    assert told == "import kbert.models.bert, kbert.heads.masked_lm"
    program = f"{told}; import keras; print(keras.models.load_model('model.keras').count_params())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 0


@once
def test_a_head_that_one_keras_file_cannot_hold_is_refused(folders, tmp_path):
    with pytest.raises(kbert.InputError, match=".keras file has no place .*\n  masked_lm_bias/bi"):
        convert(folders["BertForPreTraining"], tmp_path / "model.keras", "keras")
    assert os.listdir(tmp_path) == []


@once
def test_a_pickle_is_converted_only_when_asked(folders, tmp_path):
    import torch

    source = tmp_path / "source"
    shutil.copytree(folders["BertForMaskedLM"], source)
    tensors = tensors_of(source)
    (source / "model.safetensors").unlink()
    # As old files have it: the tied weight once more, and normalisation as TensorFlow calls it.
    old = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): a for n, a in tensors.items()}
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    torch.save({n: torch.from_numpy(a) for n, a in old.items()}, source / "pytorch_model.bin")
    with pytest.raises(kbert.InputError, match="is a pickle and is not opened unless asked"):
        convert(source, tmp_path / "new", "hugging-face")
    convert(source, tmp_path / "new", "hugging-face", allow_pickle=True)
    assert_same_tensors(tmp_path / "new", folders["BertForMaskedLM"])
    sequences = [
        sequence_of(found)[0]
        for found in (kbert.load(source, allow_pickle=True), kbert.load(tmp_path / "new"))
    ]
    np.testing.assert_array_equal(*sequences)


@once
def test_a_head_of_kberts_own_stays_in_hugging_faces_format_only(folders, tmp_path):
    from kbert.heads.classification import classification

    loaded = kbert.load(folders["BertModel"], dtype="float32")
    model = classification(loaded.encoder, 3, pooling="mean")
    settings = {**loaded.settings, "kbert": {"task": "text-classification", "pooling": "mean"}}
    checkpoint.save(tmp_path / "run", model, settings, loaded.tokenizer)
    convert(tmp_path / "run", tmp_path / "copy", "hugging-face")
    assert_same_tensors(tmp_path / "copy", tmp_path / "run")
    assert "kbert.classifier.kernel" in tensors_of(tmp_path / "copy")
    for to in ("google", "keras"):
        with pytest.raises(kbert.InputError, match="has no place .*\n  classifier/bias"):
            convert(tmp_path / "run", tmp_path / "new", to)
        report = convert(tmp_path / "run", tmp_path / to, to, drop_head=True)
        assert report.dropped == ["classifier/bias", "classifier/kernel"]


# Bad input, and the command


@once
def test_nothing_is_left_when_a_head_has_no_place(folders, tmp_path):
    with pytest.raises(kbert.InputError, match="Google's format has no place .*\n  classifier/b"):
        convert(folders["BertForTokenClassification"], tmp_path / "new" / "google", "google")
    assert os.listdir(tmp_path / "new") == []


@once
def test_a_folder_that_is_there_is_replaced_only_when_asked(folders, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("mine")
    source = folders["BertModel"]
    with pytest.raises(kbert.InputError, match="new exists. Choose another place, or pass --over"):
        convert(source, tmp_path / "new", "hugging-face")
    assert os.listdir(tmp_path / "new") == ["mine.txt"]
    convert(source, tmp_path / "new", "hugging-face", overwrite=True)
    assert os.listdir(tmp_path) == ["new"]
    assert_same_tensors(tmp_path / "new", source)
    for target in (source, source.parent):
        with pytest.raises(kbert.InputError, match="is read from there"):
            convert(source, target, "hugging-face", overwrite=True)


@once
def test_what_was_there_stays_when_writing_fails(folders, tmp_path, monkeypatch):
    convert(folders["BertModel"], tmp_path / "new", "hugging-face")

    def fail(file, tensors):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        convert(folders["BertForMaskedLM"], tmp_path / "new", "hugging-face", overwrite=True)
    assert os.listdir(tmp_path) == ["new"]
    assert_same_tensors(tmp_path / "new", folders["BertModel"])


@once
def test_weights_of_several_heads_are_refused_by_name(folders, tmp_path):
    source = shutil.copytree(folders["BertForMaskedLM"], tmp_path / "source")
    tensors = tensors_of(source)
    tensors |= {
        "qa_outputs.weight": np.ones((2, D), "float32"),
        "qa_outputs.bias": np.ones(2, "float32"),
    }
    safetensors.write(source / "model.safetensors", tensors)
    words = (
        "weights of one head of a Bert, came masked_lm_bias/bias, .*span/kernel. Convert the enc"
    )
    with pytest.raises(kbert.InputError, match=words):
        convert(source, tmp_path / "new", "google")
    assert "span/kernel" in convert(source, tmp_path / "new", "google", drop_head=True).dropped


@once
def test_the_command_tells_what_it_did_and_what_stayed_behind(folders, tmp_path, capsys):
    source = shutil.copytree(folders["BertForTokenClassification"], tmp_path / "source")
    (source / "README.md").write_text("é")
    new = tmp_path / "new"
    assert tiny.kbert("convert", source, new, "--to", "google") == 2
    assert "Google's format has no place for these weights" in capsys.readouterr().err
    assert tiny.kbert("convert", source, new, "--to", "google", "--drop-head") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{source} (hugging-face) -> {new}: BertModel, google",
        "  dropped: classifier/bias, classifier/kernel (2)",
        "  not copied: README.md (1)",
    ]
    assert tiny.kbert("convert", tmp_path / "nothing", new, "--to", "keras") == 2
    assert "no such folder" in capsys.readouterr().err
