"""Figure 5: texts per second, from raw text to logits, tokenization included."""

from benchmarks import material
from benchmarks.systems import Settings, System, fastest, progress
from benchmarks.tables import best, number, ratio, table

TITLE = "5. Classifying test messages from raw text with MiniLM, batch 64"
NEEDS_CLASSIFIER = True
BATCH = 64
KERAS_HUB = "keras-hub on tensorflow, float32"


def systems(settings: Settings) -> list[System]:
    dtypes = ("float32", "bfloat16")
    rows = [
        System(f"export {dtype}", material.export_run, given={"dtype": dtype}, repeats=False)
        for dtype in dtypes
    ]
    for backend, dtype in (
        ("tensorflow", "float32"), ("tensorflow", "bfloat16"), ("tensorflow", "mixed_bfloat16"),
        ("torch", "float32"), ("torch", "bfloat16"), ("jax", "float32"), ("jax", "bfloat16"),
    ):  # fmt: skip
        rows.append(System(f"kbert on {backend}, {dtype}", kbert, backend, {"dtype": dtype}))
    for dtype in dtypes:
        for is_sorted, how in ((False, "as they come"), (True, "sorted by length")):
            given = {"dtype": dtype, "is_sorted": is_sorted}
            rows.append(System(f"kbert's SavedModel, {dtype}, {how}", saved_model, given=given))
            rows.append(System(f"transformers, {dtype}, {how}", transformers, "torch", given))
    rows.append(System("sentence-transformers, float32", sentence_transformers, "torch"))
    for dtype, jit in (("float32", "auto"), ("float32", True), ("mixed_bfloat16", "auto")):
        name = f"keras-hub on tensorflow, {dtype}{', XLA' if jit is True else ''}"
        rows.append(System(name, keras_hub, given={"dtype": dtype, "jit": jit}))
    return rows


def report(measured) -> str:
    rates = {name: best(turns, "rate") for name, turns in measured.items()}
    rates = {name: rate for name, rate in rates.items() if not name.startswith("export")}
    theirs = max((rates[n] or 0 for n in rates if n.startswith("transformers")), default=None)
    rows = [
        [name, number(rate), ratio(rate, theirs), ratio(rate, rates.get(KERAS_HUB))]
        for name, rate in rates.items()
    ]
    head = ("system", "texts/s", "to transformers' best", "to keras-hub float32")
    return (
        f"{table(head, rows)}\n\nWanted: kbert's best at least 1 to transformers' best; kbert on "
        "tensorflow at least 15 to keras-hub, which pads every text to 128 tokens and is measured "
        "on fewer of them. kbert and sentence-transformers sort by length themselves; the "
        "SavedModel, sorted, gets texts in the order of their characters. sentence-transformers "
        "has no classifier."
    )


def _rate(settings: Settings, texts, function) -> dict:
    seconds = fastest(lambda: function(texts), settings.size(3, 1))
    return {"rate": len(texts) / seconds, "texts": len(texts)}


def kbert(settings: Settings, dtype: str) -> dict:
    from kbert.training.finetune import load_predictor

    predictor = load_predictor(settings.classifier, dtype)[1]
    predictor.batch_size = BATCH
    return _rate(settings, material.messages(settings), predictor.logits)


def saved_model(settings: Settings, dtype: str, is_sorted: bool) -> dict:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 (registers its operations)

    served = tf.saved_model.load(str(material.saved_model(settings, dtype)))
    answer = served.signatures["serving_default"]

    def run(texts):
        texts = sorted(texts, key=len) if is_sorted else texts
        for start in range(0, len(texts), BATCH):
            answer(text=tf.constant(texts[start : start + BATCH]))["label"].numpy()

    return _rate(settings, material.messages(settings), run)


def transformers(settings: Settings, dtype: str, is_sorted: bool) -> dict:
    import torch

    tokenizer, model = material.transformers_classifier(settings, dtype)
    progress(f"  attention: {model.config._attn_implementation}")
    cut = {"truncation": True, "max_length": material.MAX_LENGTH}

    @torch.inference_mode()
    def run(texts):
        if not is_sorted:
            for start in range(0, len(texts), BATCH):
                some = texts[start : start + BATCH]
                batch = tokenizer(some, padding=True, return_tensors="pt", **cut)
                model(**batch).logits.float().numpy()
            return
        encoded = tokenizer(texts, **cut)
        order = sorted(range(len(texts)), key=lambda i: len(encoded["input_ids"][i]))
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            rows = {key: [encoded[key][i] for i in some] for key in encoded}
            model(**tokenizer.pad(rows, return_tensors="pt")).logits.float().numpy()

    return _rate(settings, material.messages(settings), run)


def sentence_transformers(settings: Settings) -> dict:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(material.minilm(), device="cpu")
    model.max_seq_length = material.MAX_LENGTH

    def run(texts):
        model.encode(texts, batch_size=BATCH, show_progress_bar=False)

    return _rate(settings, material.messages(settings), run)


def keras_hub(settings: Settings, dtype: str, jit) -> dict:
    model = material.keras_hub_classifier(dtype, jit)
    texts = material.messages(settings, full=640, quick=BATCH)
    result = _rate(settings, texts, lambda some: model.predict(some, BATCH, verbose=0))
    return {**result, "jit_compile": model.jit_compile}
