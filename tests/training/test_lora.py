"""LoRA: starts as the checkpoint, learns beside its kernels, and is saved within them."""

import keras
import numpy as np
import pytest
from harness import numbers, run, to_numpy

import kbert
from kbert import checkpoint
from kbert.errors import InputError
from kbert.heads.classification import classification
from kbert.models import albert, bert, deberta, mobilebert
from kbert.training import state
from kbert.training.depth import parameters
from kbert.training.finetune import Recipe, load_predictor
from kbert.training.lora import add_lora
from kbert.training.optimizer import adamw
from kbert.training.state import Saving
from kbert.weights import safetensors
from kbert.weights.lora import merged
from kbert.weights.names import take

SIZES = {"num_layers": 2, "width": 10, "num_heads": 2, "inner_width": 7, "max_length": 5}
CONFIGS = {
    albert: albert.AlbertConfig, bert: bert.BertConfig, deberta: deberta.DebertaConfig,
    mobilebert: mobilebert.MobileBertConfig,
}  # fmt: skip
INPUTS = {
    "token_ids": np.array([[1, 2, 3], [4, 5, 6]], "int32"),
    "padding_mask": np.array([[True, True, True], [True, True, False]]),
    "segment_ids": np.zeros((2, 3), "int32"),
}


def encoder_of(architecture=bert, dtype="float32"):
    keras.utils.set_random_seed(1)
    config = CONFIGS[architecture](11, dropout=0.0, attention_dropout=0.0, **SIZES)
    return architecture.encoder(config, dtype)


def inputs_of(model):
    return {name: INPUTS[name] for name in model.input}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_model_starts_as_it_was_and_only_products_learn(architecture):
    encoder = encoder_of(architecture)
    before, number = run(encoder, inputs_of(encoder)), len(encoder.weights)
    add_lora(encoder, 3, "query, value")
    after = run(encoder, inputs_of(encoder))
    np.testing.assert_allclose(after["sequence"], before["sequence"], atol=1e-6)
    num_blocks = 1 if architecture is albert else 2
    assert [v.path for v in encoder.trainable_weights] == [
        v.path for v in encoder.weights if "lora_kernel" in v.path
    ]
    paths = {v.path for v in encoder.trainable_weights}
    assert len(paths) == len(encoder.weights) - number == 4 * num_blocks
    assert "block_0/attention/query/lora_kernel_a" in paths
    shapes = {tuple(v.shape) for v in encoder.trainable_weights if v.path.endswith("_b")}
    assert {shape[0] for shape in shapes} == {3}


def test_a_step_is_that_of_the_paper_by_hand():
    """Plain gradient descent at rate r: A stays, B = - r s Aᵀ G, the kernel W - r s² A Aᵀ G."""
    trained = []
    for with_lora in (False, True):
        encoder = encoder_of()
        if with_lora:
            add_lora(encoder, 3, "value,inner", alpha=6)
        keras.utils.set_random_seed(2)
        model = classification(encoder, 5)
        before = take(model.weights)
        model.compile(keras.optimizers.SGD(0.5), "mse")
        model.train_on_batch(inputs_of(encoder), numbers(2, 5))
        trained.append((before, merged(model, take(model.weights)), take(model.weights)))
    (_, whole, _), (before, got, factors) = trained
    for name in ("block_0/attention/value", "block_1/feed_forward/inner"):
        start, a = before[f"{name}/kernel"], before[f"{name}/lora_kernel_a"]
        times_gradient = start - whole[f"{name}/kernel"]
        assert np.abs(times_gradient).max() > 1e-5
        expected = start - 2**2 * a @ a.T @ times_gradient
        np.testing.assert_allclose(got[f"{name}/kernel"], expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(factors[f"{name}/lora_kernel_a"], a)
        np.testing.assert_array_equal(factors[f"{name}/kernel"], start)
        assert f"{name}/lora_kernel_a" not in got
    other = "block_0/attention/query/kernel"
    np.testing.assert_array_equal(got[other], before[other])
    assert not np.array_equal(got["classifier/kernel"], before["classifier/kernel"])


def test_merged_kernels_are_float32_where_products_are_bfloat16():
    encoder = encoder_of(dtype="mixed_bfloat16")
    add_lora(encoder, 3, "query")
    (query,) = (encoder.get_layer("block_0").attention.query,)
    query.lora_kernel_b.assign(numbers(3, 10))
    w, a, b = map(to_numpy, (query._kernel, query.lora_kernel_a, query.lora_kernel_b))
    kernel = checkpoint.tensors_of(encoder, bert)["encoder.layer.0.attention.self.query.weight"]
    np.testing.assert_allclose(kernel.T, w + a @ b, rtol=0, atol=1e-6)
    model = classification(encoder, 5)
    model.compile(adamw(0.1), "mse")
    model.train_on_batch(inputs_of(encoder), numbers(2, 5))
    assert query.lora_kernel_b.dtype == "float32"


def test_what_learns_is_told():
    encoder = encoder_of()
    all_of_it = sum(np.prod(v.shape) for v in encoder.weights)
    add_lora(encoder, 3, "query,value")
    learn = 2 * 2 * (10 * 3 + 3 * 10)
    share = learn / (learn + all_of_it)
    expected = f"{learn} of {learn + all_of_it:,} parameters learn ({share:.2%})."
    assert parameters(encoder) == expected


def test_what_is_not_there_is_refused(one_block_dir, tmp_path):
    with pytest.raises(InputError, match="of a block, output, value, key, query, .*'pooler'"):
        add_lora(encoder_of(), 3, "query,pooler")
    task = kbert.TextClassification(("a", "b"), max_length=7)
    recipe = Recipe(lora_rank=3, freeze="0")
    with pytest.raises(InputError, match="lora_rank 3 leaves .*leave freeze '0' away"):
        kbert.finetune(task, [], None, one_block_dir, tmp_path / "run", recipe)


class Killed(BaseException):
    """As SIGKILL is: nothing catches it."""


def test_a_run_goes_on_to_the_same_bits_and_transformers_opens_it(
    one_block_dir, tiny_data, tmp_path, monkeypatch, capsys
):
    records = kbert.read_records(tiny_data / "train.csv", ("text", "label"))[:61]
    task = kbert.TextClassification.from_records(records, max_length=7, dropout=0.0)
    recipe = Recipe(
        2, 16, learning_rate=0.01, dtype="float32", lora_rank=2, lora_targets="query,inner"
    )

    def fine_tune(name, **settings):
        return kbert.finetune(
            task, records, None, one_block_dir, tmp_path / name, recipe,
            saving=Saving(steps=1, minutes=0), **settings,
        )  # fmt: skip

    whole = fine_tune("whole", verbose=2)
    assert "parameters learn (" in capsys.readouterr().out
    with monkeypatch.context() as patch, pytest.raises(Killed):
        before, steps = state.SaveState.on_train_batch_end, []

        def after(self, batch, logs=None):
            before(self, batch, logs)
            steps.append(batch)
            if len(steps) == 6:
                raise Killed

        patch.setattr(state.SaveState, "on_train_batch_end", after)
        fine_tune("killed", verbose=0)
    resumed = fine_tune("killed", resume=True, verbose=0)
    weights, expected, start = (
        safetensors.read([folder / "model.safetensors"])
        for folder in (resumed.folder, whole.folder, one_block_dir)
    )
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array, name)
    changed = {
        name for name, array in start.items()
        if not np.array_equal(array, expected.get(f"bert.{name}", array))
    }  # fmt: skip
    assert changed == {
        "encoder.layer.0.attention.self.query.weight", "encoder.layer.0.intermediate.dense.weight",
    }  # fmt: skip
    check_transformers(whole.folder, [record["text"] for record in records[:5]])


def check_transformers(folder, texts):
    """transformers opens the run folder, and its logits are ours."""
    import torch
    import transformers

    theirs, told = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=7, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.eval()(**batch).logits.numpy()
    got = load_predictor(folder)[1].logits(texts)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
