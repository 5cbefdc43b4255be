"""What every encoder must do, in one call: `check_encoder`.

An encoder takes `token_ids`, `padding_mask` and, if it knows segments, `segment_ids`, and gives
`sequence` (B, T, D); padding changes nothing, wherever it stands; it saves, compiles and computes
in bfloat16. Agreement with transformers is not looked at here.
"""

import keras
import numpy as np
from harness import assert_near, check_xla, randomize, run

B, T = 3, 13


def random_inputs(encoder, vocab_size, pad_id=0):
    """Token ids, segments and padding; one row whole, one padded, one with a hole."""
    draw = np.random.default_rng(1)
    padding_mask = np.ones((B, T), bool)
    padding_mask[1, 7:] = False
    padding_mask[2, [3, 5, 11]] = False
    token_ids = draw.integers(0, vocab_size - 1, (B, T), "int32")
    token_ids += token_ids >= pad_id  # any but that of padding
    token_ids[1, 7:] = pad_id
    segment_ids = draw.integers(0, 2, (B, T), "int32")
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
    return {name: inputs[name] for name in encoder.input}


def one_text(encoder, token_ids):
    """One text without padding, all of it the first segment."""
    ids = np.asarray(token_ids, "int32")[None]
    inputs = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids, bool),
    }
    return {name: inputs[name] for name in encoder.input}


def sequence(encoder, inputs):
    return run(encoder, inputs)["sequence"]


def check_encoder(build, config, tmp_path, pad_id=0, bfloat16_share=0.05):
    """Everything that the head of this file says of `build(config, dtype)`.

    Args:
        build: a config, a dtype policy -> an encoder.
        config: of odd sizes, with `width`, `vocab_size` and `max_length`, 13 or more.
        tmp_path: an empty folder.
        pad_id: int, the id of padding.
        bfloat16_share: float, how far bfloat16 may be, as a share of the largest number. The
            default is for ten roundings to 8 bits in a row, on numbers of about 3.
    """
    encoder = build(config, "float32")
    randomize(encoder, 0.2)
    inputs = random_inputs(encoder, config.vocab_size, pad_id)
    got = sequence(encoder, inputs)
    check_shapes(encoder, config)
    check_padding(encoder, inputs, got, config.max_length)
    check_round_trip(encoder, inputs, got, tmp_path)
    check_xla(encoder, inputs, {"sequence": got})
    check_bfloat16(encoder, build(config, "mixed_bfloat16"), inputs, got, bfloat16_share)


def check_shapes(encoder, config):
    """Batch size and length are open, and every token has a vector and a place of its own."""
    assert {"token_ids", "padding_mask"} <= set(encoder.input)
    assert {tensor.shape for tensor in encoder.input.values()} == {(None, None)}
    assert encoder.output["sequence"].shape == (None, None, config.width)
    # The first token is another, for what knows distances only.
    text = one_text(encoder, [7] + [5] * (config.max_length - 1))
    longest = sequence(encoder, text)[0]
    assert longest.shape == (config.max_length, config.width)
    apart = np.abs(longest[:, None] - longest[None]).max(axis=-1)
    assert apart[~np.eye(config.max_length, dtype=bool)].min() > 1e-3


def check_padding(encoder, inputs, got, max_length):
    """What stands where padding is changes nothing, and a text of padding alone stays finite."""
    real = inputs["padding_mask"]
    other = dict(inputs, token_ids=np.where(real, inputs["token_ids"], 3))
    other["padding_mask"] = real.copy()
    other["padding_mask"][0] = False
    after = sequence(encoder, other)
    np.testing.assert_allclose(after[1:][real[1:]], got[1:][real[1:]], atol=1e-5)
    assert np.isfinite(after).all()
    # The second text, 7 tokens, alone and with more padding; a length that is compiled already.
    more = ((0, 0), (0, max_length - 7))
    alone = {name: np.pad(array[1:2, :7], more) for name, array in inputs.items()}
    np.testing.assert_allclose(sequence(encoder, alone)[0, :7], got[1, :7], atol=1e-5)


def check_round_trip(encoder, inputs, got, tmp_path):
    """`.keras` brings back the names, the weights and the sequence."""
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    assert [weight.path for weight in loaded.weights] == [w.path for w in encoder.weights]
    np.testing.assert_allclose(sequence(loaded, inputs), got, atol=1e-6)


def check_bfloat16(encoder, mixed, inputs, got, share):
    """The weights stay float32; the sequence is bfloat16, near float32's and finite."""
    for weight, wide in zip(mixed.weights, encoder.weights, strict=True):
        assert weight.dtype == "float32", weight.path
        weight.assign(wide)
    assert keras.backend.standardize_dtype(mixed.output["sequence"].dtype) == "bfloat16"
    real = inputs["padding_mask"]
    assert_near(sequence(mixed, inputs)[real], got[real], share)
