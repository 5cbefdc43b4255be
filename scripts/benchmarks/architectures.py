"""Every architecture: a training step and a forward pass beside transformers' and keras-hub's."""

from dataclasses import replace

from benchmarks.systems import Settings, System, fastest_in_turns, progress
from benchmarks.tables import ratio, table

TITLE = "Architectures, 16 texts of 128 tokens: seconds of a training step and of a forward pass"
ROUNDS = 1  # the models take turns within one process
BATCH, LENGTH, LABELS = 16, 128, 7
# Layers of each, of the base size's width: ratios hardly change with their number.
LAYERS = 6
KBERT, THEIRS = "kbert", "transformers"
HUB, HUB_XLA = "keras-hub", "keras-hub, XLA"

# The architecture's file in models/ → its size of about BERT-base's width.
SIZES = {
    "albert": "ALBERT_BASE",
    "bert": "BERT_BASE_UNCASED",
    "deberta": "DEBERTA_V3_BASE",
    "distilbert": "DISTILBERT_BASE_UNCASED",
    "electra": "ELECTRA_BASE",
    "mobilebert": "MOBILE_BERT",
    "modernbert": "MODERNBERT_BASE",
    "roberta": "ROBERTA_BASE",
}
# Those that keras-hub has → its class, and what it calls our fields beside `HUB_FIELDS`.
HUB_CLASSES = {
    "albert": ("AlbertBackbone", {"embedding_dim": "embedding_width"}),
    "bert": ("BertBackbone", {}),
    "deberta": ("DebertaV3Backbone", {}),
    "distilbert": ("DistilBertBackbone", {}),
    "electra": ("ElectraBackbone", {"embedding_dim": "embedding_width"}),
    "roberta": ("RobertaBackbone", {}),
}
HUB_FIELDS = {
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "hidden_dim": "width",
    "intermediate_dim": "inner_width",
    "dropout": "dropout",
}


def systems(settings: Settings) -> list[System]:
    rows = [(file, "torch") for file in SIZES] + [(file, "tensorflow") for file in HUB_CLASSES]
    return [
        System(f"{file}, {backend}", measure, backend, {"file": file}) for file, backend in rows
    ]


def report(measured) -> str:
    rows = []
    for name, (turn,) in measured.items():
        row = [name]
        for kind in ("train", "forward"):
            results = turn.get(kind, {})
            seconds = {model: result.get("seconds") for model, result in results.items()}
            ours = seconds.pop(KBERT, None)
            # keras-hub is measured with and without XLA: the faster counts.
            peers = {model: value for model, value in seconds.items() if value}
            peer = min(peers, key=peers.get, default=None)
            row += [_shown(ours), peer, _shown(peers.get(peer)), ratio(peers.get(peer), ours)]
        rows.append(row)
    head = (
        "architecture, backend", "step s", "peer", "its step s", "its / kbert's",
        "pass s", "peer", "its pass s", "its / kbert's",
    )  # fmt: skip
    return (
        f"{table(head, rows)}\n\n"
        f"Wanted: at least 0.90. {LAYERS} layers of the base size, float32, the published dropout, "
        "no padding, a classifier. A step is one of `fit` with kbert's AdamW, on PyTorch beside a "
        "loop with the fused AdamW, clipping at 1.0 in all; a forward pass is what `kbert predict` "
        "runs, beside `inference_mode` and keras-hub's `predict`."
    )


def _shown(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.3f}"


def measure(settings: Settings, file: str) -> dict:
    from importlib import import_module

    import keras
    import numpy as np

    from kbert.checkpoint import ARCHITECTURES

    if set(SIZES) != set(ARCHITECTURES.values()):
        raise LookupError("an architecture has no size here: give it one in SIZES")
    keras.utils.set_random_seed(0)
    architecture = import_module(f"kbert.models.{file}")
    config = replace(
        getattr(architecture, SIZES[file]), num_layers=settings.size(LAYERS, 1)
    )  # fmt: skip
    draw = np.random.default_rng(0)
    features = {
        "token_ids": draw.integers(5, config.vocab_size, (BATCH, LENGTH), "int32"),
        "segment_ids": np.zeros((BATCH, LENGTH), "int32"),
        "padding_mask": np.ones((BATCH, LENGTH), bool),
    }
    targets = draw.integers(0, LABELS, BATCH, "int32")
    progress("  building")
    given = (architecture, config, features, targets)
    models = {KBERT: _kbert(*given)}
    if keras.backend.backend() == "torch":
        models[THEIRS] = _transformers(*given)
    else:
        models[HUB] = _keras_hub(*given, jit=False)
        models[HUB_XLA] = _keras_hub(*given, jit=True)
    results = {}
    for i, kind in enumerate(("train", "forward")):
        progress(f"  {kind}")
        calls = {name: functions[i] for name, functions in models.items()}
        results[kind] = fastest_in_turns(calls, settings.size(3, 1))
    return results


def _kbert(architecture, config, features, targets):
    """A function that trains a step and one that answers, as the commands do."""
    import keras

    import kbert
    from kbert.heads.classification import classification
    from kbert.inference import inference_function

    model = classification(architecture.encoder(config, "float32"), LABELS)
    features = {name: features[name] for name in model.input}
    _compile(model, kbert.adamw(5e-5, weight_decay=0.01), keras.backend.backend() == "jax")
    answers = inference_function(model)
    return _step(model, features, targets), lambda: answers(features)


def _transformers(architecture, config, features, targets):
    import torch
    import transformers

    settings = architecture.config_to_hugging_face(config)
    settings = transformers.AutoConfig.for_model(**settings, num_labels=LABELS)
    model = transformers.AutoModelForSequenceClassification.from_config(settings)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-5, weight_decay=0.01, fused=True)
    inputs = {
        "input_ids": torch.from_numpy(features["token_ids"]).long(),
        "attention_mask": torch.from_numpy(features["padding_mask"]).long(),
    }
    labels = torch.from_numpy(targets).long()

    def step():
        model.train()
        model(**inputs, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    @torch.inference_mode()
    def answers():
        model.eval()
        return model(**inputs).logits.numpy()

    return step, answers


def _keras_hub(architecture, config, features, targets, jit):
    import keras
    import keras_hub

    name, others = HUB_CLASSES[architecture.__name__.rpartition(".")[2]]
    vocabulary = "vocab_size" if name == "ElectraBackbone" else "vocabulary_size"
    fields = {vocabulary: "vocab_size", **HUB_FIELDS, **others}
    sizes = {theirs: getattr(config, ours) for theirs, ours in fields.items()}
    backbone = getattr(keras_hub.models, name)(**sizes, dtype="float32")
    output = backbone.output
    sequence = output["sequence_output"] if isinstance(output, dict) else output
    logits = keras.layers.Dense(LABELS, name="classifier")(sequence[:, 0])
    model = keras.Model(backbone.input, logits)
    given = {**features, "padding_mask": features["padding_mask"].astype("int32")}
    given = {key: given[key] for key in backbone.input}
    _compile(model, keras.optimizers.AdamW(5e-5, weight_decay=0.01, global_clipnorm=1.0), jit)
    return _step(model, given, targets), lambda: model.predict(given, BATCH, verbose=0)


def _compile(model, optimizer, jit):
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=jit)


def _step(model, features, targets):
    return lambda: model.fit(features, targets, batch_size=BATCH, shuffle=False, verbose=0)
