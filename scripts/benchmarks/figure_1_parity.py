"""Figure 1: kbert's numbers are those of `transformers`, on every backend."""

import json
from pathlib import Path

from benchmarks import material
from benchmarks.systems import BACKENDS, Settings, System, progress
from benchmarks.tables import best, number, table

TITLE = "1. Agreement with transformers in float32, and of bfloat16 with float32"
NEEDS_CLASSIFIER = True
ROUNDS = 1
REFERENCE = "transformers"
# Odd sizes, so that swapped axes cannot pass: 5 heads of 7.
SIZES = {
    "vocab_size": 101, "hidden_size": 35, "num_hidden_layers": 3, "num_attention_heads": 5,
    "intermediate_size": 53, "max_position_embeddings": 31,
}  # fmt: skip


def systems(settings: Settings) -> list[System]:
    reference = System(REFERENCE, transformers, "torch")
    return [reference, *(System(f"kbert on {b}", kbert, b) for b in BACKENDS)]


def report(measured) -> str:
    rows = []
    for name, turns in measured.items():
        differences = [best(turns, key) for key in ("random", "minilm", "logits")]
        agree, same = (best(turns, key) for key in ("bfloat16_agree", "transformers_agree"))
        shown = [None if d is None else f"{d:.1e}" for d in differences]
        rows.append([name, *shown, number(same, 2), number(agree, 2)])
    head = (
        "system", "random models", "MiniLM goldens", "logits of run", "labels as transformers %",
        "bfloat16 labels as float32 %",
    )  # fmt: skip
    text = table(head, rows)
    texts = best([turn for turns in measured.values() for turn in turns], "texts")
    return (
        f"{text}\n\nLargest difference of encoder outputs at real tokens; logits and labels on "
        f"{number(texts)} test messages, against transformers in float32. Wanted: differences at "
        "most 2e-5, labels at least 99.5%."
    )


def transformers(settings: Settings) -> dict:
    """Makes the random models, with inputs and outputs, and the logits of the run's messages."""
    import numpy as np

    for seed in range(settings.size(5, 2)):
        _random_model(Path(settings.folder, f"random-{seed}"), seed)
    logits = {dtype: _logits(settings, dtype) for dtype in ("float32", "bfloat16")}
    np.save(Path(settings.folder, "logits.npy"), logits["float32"])
    return {"texts": len(logits["float32"]), "bfloat16_agree": _agree(*logits.values())}


def _random_model(folder: Path, seed: int):
    import numpy as np
    import torch
    from transformers import BertConfig, BertModel

    progress(f"  random model {seed}")
    torch.manual_seed(seed)
    model = BertModel(BertConfig(**SIZES), add_pooling_layer=False).eval()
    with torch.no_grad():  # no bias stays 0, no gain 1, that could hide a fault
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    draw = np.random.default_rng(seed)
    shape = (7, 23)
    inputs = {
        "token_ids": draw.integers(0, SIZES["vocab_size"], shape, "int32"),
        "segment_ids": draw.integers(0, 2, shape, "int32"),
        "padding_mask": np.arange(23) < draw.integers(1, 24, (7, 1)),
    }
    ids, segments, mask = (torch.from_numpy(array).long() for array in inputs.values())
    with torch.inference_mode():
        output = model(ids, attention_mask=mask, token_type_ids=segments).last_hidden_state
    model.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"w{i}" for i in range(len(words), SIZES["vocab_size"])]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}), "utf-8")
    np.savez(folder / "golden.npz", output=output.numpy(), **inputs)


def _logits(settings: Settings, dtype: str):
    import numpy as np
    import torch

    progress(f"  transformers {dtype}")
    tokenizer, model = material.transformers_classifier(settings, dtype)
    texts = material.messages(settings)
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            batch = tokenizer(
                texts[start : start + 64], padding=True, truncation=True,
                max_length=material.MAX_LENGTH, return_tensors="pt",
            )  # fmt: skip
            outputs.append(model(**batch).logits.float().numpy())
    return np.concatenate(outputs)


def kbert(settings: Settings) -> dict:
    import numpy as np

    from kbert.training.finetune import load_predictor

    folders = (Path(settings.folder, f"random-{seed}") for seed in range(settings.size(5, 2)))
    random = max(_difference(folder, np.load(folder / "golden.npz")) for folder in folders)
    minilm = _difference(material.minilm(), _minilm_goldens())
    logits = {}
    for dtype in ("float32", "bfloat16"):
        progress(f"  labels in {dtype}")
        predictor = load_predictor(settings.classifier, dtype)[1]
        logits[dtype] = predictor.logits(material.messages(settings))
    reference = np.load(Path(settings.folder, "logits.npy"))
    return {
        "random": random,
        "minilm": minilm,
        "logits": float(np.abs(logits["float32"] - reference).max()),
        "transformers_agree": _agree(logits["float32"], reference),
        "bfloat16_agree": _agree(logits["float32"], logits["bfloat16"]),
        "texts": len(reference),
    }


def _difference(folder, golden) -> float:
    """The largest at real tokens, called as Keras predicts and as kbert's own functions do."""
    import keras
    import numpy as np

    import kbert
    from kbert.inference import inference_function

    encoder = kbert.load(folder, dtype="float32").encoder
    encoder = keras.Model(encoder.input, encoder.output["sequence"])
    names = ("token_ids", "segment_ids", "padding_mask")
    features = {name: golden[name] for name in names}
    real = golden["padding_mask"]
    return max(
        float(np.abs(function(features) - golden["output"])[real].max())
        for function in (encoder.predict_on_batch, inference_function(encoder))
    )


def _minilm_goldens() -> dict:
    """The golden sentences as one padded batch."""
    import numpy as np

    golden = np.load(material.shared_data() / "weights" / "goldens" / "minilm_l6.npz")
    ids = [golden[f"ids{i}"] for i in range(len(golden["sentences"]))]
    shape = (len(ids), max(map(len, ids)))
    batch = {
        "token_ids": np.zeros(shape, "int32"),
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": np.zeros(shape, bool),
        "output": np.zeros((*shape, golden["hidden0"].shape[-1]), "float32"),
    }
    for i, row in enumerate(ids):
        batch["token_ids"][i, : len(row)] = row
        batch["padding_mask"][i, : len(row)] = True
        batch["output"][i, : len(row)] = golden[f"hidden{i}"]
    return batch


def _agree(logits, others) -> float:
    """Texts with the same label, in percent."""
    return 100 * float((logits.argmax(-1) == others.argmax(-1)).mean())
