"""A checkpoint is a Hugging Face folder: what one side saves, the other opens."""

import json
import shutil
import time
import warnings

import numpy as np
import pytest
import tiny
from harness import to_numpy

import kbert
from kbert import checkpoint, hub
from kbert.errors import InputWarning
from kbert.training.finetune import load_predictor
from kbert.weights import safetensors

TEXTS = ["", "my cat!", "naïve DOG [SEP] wing", "the bird " * 5, "unfehlbarkeit 猫"]


@pytest.fixture
def folder(tiny_dir, tmp_path):
    """A copy of the tiny checkpoint, to be broken."""
    return shutil.copytree(tiny_dir, tmp_path / "checkpoint")


def features_of(loaded, texts, max_length):
    """Padded inputs of a batch, and how transformers calls them."""
    task = kbert.TextClassification(("a", "b"), max_length=max_length)
    rows = task.rows(texts, loaded.tokenizer)
    ours = task.packer(loaded.tokenizer).pad(rows, max(len(ids) for ids, _ in rows))
    return ours, in_torch(ours)


def in_torch(ours):
    import torch

    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    names["padding_mask"] = "attention_mask"
    return {names[name]: torch.from_numpy(array).long() for name, array in ours.items()}


def output_of(model, features):
    return to_numpy(model.predict_on_batch(features))


def theirs_of(model, features):
    import torch

    with torch.no_grad():
        return model.eval()(**features)


def assert_equal_where_real(ours, theirs, mask):
    np.testing.assert_allclose(ours[mask], theirs.numpy()[mask], rtol=0, atol=2e-5)


# Both ways


def test_transformers_opens_a_run_folder(tiny_run):
    """The same token ids and, of the fine-tuned classifier, the same logits and labels."""
    transformers = pytest.importorskip("transformers")
    task, predictor = load_predictor(tiny_run)
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tiny_run, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.id2label == dict(enumerate(task.labels))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_run)
    theirs = tokenizer(TEXTS, padding=True, truncation=True, max_length=23, return_tensors="pt")
    rows = task.rows(TEXTS, predictor.tokenizer)
    for ids, mask, row in zip(theirs["input_ids"], theirs["attention_mask"], rows, strict=True):
        assert ids[mask == 1].tolist() == row[0]
    expected = theirs_of(model, theirs).logits
    assert expected.abs().max() > 1
    np.testing.assert_allclose(predictor.logits(TEXTS), expected, rtol=0, atol=2e-5)


def test_transformers_opens_a_bare_encoder(tiny_dir):
    transformers = pytest.importorskip("transformers")
    model, report = transformers.AutoModel.from_pretrained(tiny_dir, output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} <= {"pooler"}
    assert not report["unexpected_keys"]
    loaded = kbert.load(tiny_dir, dtype="float32")
    ours, theirs = features_of(loaded, TEXTS, 23)
    expected = theirs_of(model, theirs).last_hidden_state
    sequence = output_of(loaded.encoder, ours)["sequence"]
    assert_equal_where_real(sequence, expected, ours["padding_mask"])


def test_a_bare_encoder_keeps_the_pooler_of_its_folder(data_dir, tiny_run, tmp_path):
    """And tells of what else it has, which a bare model has no place for."""
    weights = data_dir / "weights"
    loaded = kbert.load(weights / "rxnfp_pretrained", dtype="float32")
    with pytest.warns(InputWarning, match="without the head .*: masked_lm_bias, .*, next_sentence"):
        kbert.save(tmp_path / "a", loaded.encoder, loaded.settings, loaded.tokenizer)
    loaded = kbert.load(tiny_run, dtype="float32")
    with pytest.warns(InputWarning, match="without the head that its folder holds: classifier. S"):
        kbert.save(tmp_path / "b", loaded.encoder, loaded.settings, loaded.tokenizer)
    for name, source in {"a": weights / "rxnfp_pretrained", "b": tiny_run}.items():
        tensors = safetensors.read(safetensors.weight_files(tmp_path / name))
        before = safetensors.read(safetensors.weight_files(source))
        for tensor in ("pooler.dense.weight", "pooler.dense.bias"):
            np.testing.assert_array_equal(tensors[tensor], before[f"bert.{tensor}"])
        settings = json.loads((tmp_path / name / "config.json").read_text("utf-8"))
        assert settings["architectures"] == ["BertModel"]
        assert "kbert" not in settings
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)  # a bare model's folder loses nothing
        loaded = kbert.load(tmp_path / "a", dtype="float32")
        kbert.save(tmp_path / "c", loaded.encoder, loaded.settings, loaded.tokenizer)
    again = safetensors.read(safetensors.weight_files(tmp_path / "c"))
    assert "pooler.dense.weight" in again


@pytest.mark.parametrize("shard_size", ["10GB", "200KB"])
def test_what_transformers_saves_is_opened(tiny_run, tmp_path, shard_size):
    """A classifier of theirs, in one file or in shards."""
    transformers = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 2, "hidden_size": 35, "num_attention_heads": 5}
    sizes |= {"vocab_size": 3001, "intermediate_size": 53, "max_position_embeddings": 61}
    labels = dict(enumerate(["zebra", "ant", "mouse", "10", "2"]))
    transformers.set_seed(5)
    config = transformers.BertConfig(**sizes, id2label=labels, initializer_range=tiny.DEVIATION)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    transformers.AutoTokenizer.from_pretrained(tiny_run).save_pretrained(tmp_path)
    shards = len(list(tmp_path.glob("model-*.safetensors")))
    assert shards > 1 if shard_size == "200KB" else shards == 0
    task, predictor = load_predictor(tmp_path)
    assert task.labels == tuple(labels.values())
    ours, theirs = features_of(kbert.load(tmp_path), TEXTS, 61)
    logits = predictor.function(ours)
    np.testing.assert_allclose(logits, theirs_of(model, theirs).logits, rtol=0, atol=2e-5)


def test_weights_in_bfloat16_are_read(tiny_dir, folder):
    import torch
    from safetensors.torch import save_file

    tensors = safetensors.read([folder / "model.safetensors"])
    halves = {name: torch.from_numpy(array).bfloat16() for name, array in tensors.items()}
    save_file(halves, folder / "model.safetensors")
    for ours, wide in zip(kbert.load(folder).encoder.weights, tensors.values(), strict=False):
        assert "float32" in str(ours.dtype), wide.shape
    name = "embeddings.word_embeddings.weight"
    got = to_numpy(kbert.load(folder).encoder.get_layer("token_embedding").embeddings)
    np.testing.assert_array_equal(got, halves[name].float().numpy())


def test_minilm_gives_the_outputs_of_transformers(minilm_dir, data_dir):
    golden = np.load(data_dir / "weights" / "goldens" / "minilm_l6.npz", allow_pickle=True)
    loaded = kbert.load(minilm_dir, dtype="float32")
    for i in range(len(golden["sentences"])):
        ids = golden[f"ids{i}"].astype("int32").reshape(1, -1)
        features = {"token_ids": ids, "padding_mask": ids == ids, "segment_ids": 0 * ids}
        sequence = output_of(loaded.encoder, features)["sequence"]
        expected = golden[f"hidden{i}"].reshape(sequence.shape)
        np.testing.assert_allclose(sequence, expected, rtol=0, atol=2e-5)
        ours = loaded.tokenizer([str(golden["sentences"][i])])
        assert ours == [ids[0, 1:-1].tolist()]


def test_a_classifier_of_others_gives_their_logits(data_dir):
    """rxnfp: its config names two labels, its weights hold fifty."""
    weights = data_dir / "weights"
    golden = np.load(weights / "goldens" / "rxnfp_bert_ft_10k_cls.npz")
    loaded = kbert.load(weights / "rxnfp_classifier", dtype="float32")
    task = kbert.TextClassification(tuple(map(str, range(50))), max_length=128)
    ids = golden["ids"].astype("int32")[None]
    features = {"token_ids": ids, "padding_mask": ids == ids, "segment_ids": 0 * ids}
    logits = output_of(task.model(loaded.encoder), features)
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)
    with pytest.raises(
        kbert.InputError, match=r"has 2 labels .*classifier/kernel \(256, 50\), expe"
    ):
        load_predictor(weights / "rxnfp_classifier")


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "bfloat16"])
def test_the_dtype_is_the_policy_of_the_encoder(tiny_dir, dtype):
    encoder = kbert.load(tiny_dir, dtype=dtype).encoder
    assert "bfloat16" in str(encoder.output["sequence"].dtype) or dtype == "float32"
    stored = "bfloat16" if dtype == "bfloat16" else "float32"
    assert {str(v.dtype) for v in encoder.weights} == {stored}


def test_saved_and_loaded_it_is_the_same(tiny_dir, tmp_path):
    loaded = kbert.load(tiny_dir, dtype="float32")
    kbert.save(tmp_path / "new" / "one", loaded.encoder, loaded.settings, loaded.tokenizer)
    again = kbert.load(tmp_path / "new" / "one", dtype="float32")
    assert again.settings == loaded.settings
    assert again.config == loaded.config
    assert again.tokenizer.vocab == loaded.tokenizer.vocab
    for after, before in zip(again.encoder.weights, loaded.encoder.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(after), to_numpy(before), before.path)
    assert not list((tmp_path / "new" / "one").glob("*.part"))


# Bad input


def test_all_tensors_that_do_not_fit_are_in_one_error(folder):
    tensors = safetensors.read([folder / "model.safetensors"])
    tensors["encoder.layer.7.new.weight"] = tensors.pop("encoder.layer.1.output.dense.bias")
    tensors["embeddings.LayerNorm.bias"] = np.zeros(34, "float32")
    safetensors.write(folder / "model.safetensors", tensors)
    with pytest.raises(kbert.InputError) as caught:
        kbert.load(folder)
    assert str(caught.value).splitlines() == [
        f"{folder}: the weights do not fit the model that config.json describes.",
        "  1 unknown:",
        "    encoder.layer.7.new.weight",
        "  1 missing:",
        "    block_1/feed_forward/outer/bias",
        "  1 misshapen:",
        "    embedding_norm/beta (34,), expected (35,)",
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, "expected config.json of a checkpoint; there is model.safet"),
        ("config.json", "{", "config.json: not valid JSON"),
        ("config.json", "[]", "config.json: expected a JSON object, it is a list"),
        ("config.json", "{}", "config.json: model_type is None; this version knows .*bert"),
        ("model.safetensors", None, "expected model.safetensors; there is config.json"),
        ("model.safetensors", "", "model.safetensors: not a whole safetensors file"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(folder, name, content, words):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(kbert.InputError, match=words):
        kbert.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hidden_act", "swish!", "hidden_act is 'swish!'; expected one of"),
        ("num_attention_heads", 6, "hidden_size 35 does not divide by num_attention_heads 6"),
        ("position_embedding_type", "relative_key", "has absolute positions only"),
        ("is_decoder", True, "BERT here is an encoder"),
        ("vocab_size", 2999, "tokenizer has 3001 tokens, but config.json .* vocab_size 2999"),
        ("hidden_size", "wide", "config.json: hidden_size is 'wide'; expected int, such as 768"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(folder, key, value, words):
    settings = json.loads((folder / "config.json").read_text("utf-8")) | {key: value}
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(kbert.InputError, match=words):
        kbert.load(folder)


def test_a_missing_shard_is_named(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(kbert.InputError, match="names shards that are not there: .*model-1-of-2"):
        kbert.load(folder)


def test_a_pickle_is_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(kbert.InputError, match="is a pickle and is not opened"):
        kbert.load(folder)


def test_a_hub_name_without_network_fails_at_once(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    began = time.perf_counter()
    words = "nobody/bert: no such folder, .* could not be fetched .* check the name and the netw"
    with pytest.raises(kbert.InputError, match=words):
        kbert.load("nobody/bert")
    assert time.perf_counter() - began < 5


def test_a_hub_name_is_fetched_without_pickles(tiny_dir, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot_download(name, **settings):
        asked.append((name, settings["revision"], settings["allow_patterns"]))
        return str(tiny_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert kbert.load("somebody/bert", revision="v2").config.width == 35
    assert asked == [("somebody/bert", "v2", hub.HUB_FILES)]
    assert not any("bin" in pattern for pattern in hub.HUB_FILES)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(kbert.InputError, match="nothing: no such folder"):
        kbert.load(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(kbert.InputError, match="file: expected a checkpoint folder, it is a file"):
        kbert.load(tmp_path / "file")


def test_a_folder_without_a_model_type_is_told_by_the_names_of_its_weights(data_dir):
    """rxnfp's config.json is of before 2020; a bare encoder's names tell nothing."""
    folder = data_dir / "weights" / "rxnfp_pretrained"
    assert "model_type" not in checkpoint.read_settings(folder)
    loaded = kbert.load(folder, dtype="float32")
    assert loaded.settings["model_type"] == "bert"
    assert "MaskedLM" in loaded.encoder.head_weights
