"""Figure 7: BERT-base at full length without padding, against keras-hub's, on each backend."""

from benchmarks import material
from benchmarks.systems import BACKENDS, Settings, System, fastest_in_turns, progress
from benchmarks.tables import ratio, table

TITLE = "7. BERT-base, 8 texts of 128 tokens, no padding: seconds of a step and of a forward pass"
ROUNDS = 1  # the models take turns within one process
BATCH, LENGTH = 8, 128
HUB = "keras-hub, Keras's AdamW"
HUB_XLA = "keras-hub, Keras's AdamW, XLA"
OURS = "kbert, Keras's AdamW"
OURS_ADAMW = "kbert, its own AdamW"
FUNCTION = "kbert, inference_function"


def systems(settings: Settings) -> list[System]:
    return [
        System(f"{backend}, {dtype}", full_length, backend, {"dtype": dtype})
        for dtype in ("float32", "mixed_bfloat16")
        for backend in BACKENDS
    ]


def report(measured) -> str:
    rows = []
    for name, (turn,) in measured.items():
        train, forward = turn.get("train", {}), turn.get("forward", {})
        for model in dict.fromkeys([*train, *forward]):
            step, hub_step = (_seconds(train, n) for n in (model, HUB))
            passed, hub_pass = (_seconds(forward, n) for n in (model, HUB))
            rows.append([
                name, model, turn["jit"].get(model), _shown(train, model), ratio(hub_step, step),
                _shown(forward, model), ratio(hub_pass, passed),
            ])  # fmt: skip
    head = (
        "backend, dtype", "model", "jit_compile", "step s", "keras-hub's / this", "forward s",
        "keras-hub's / this",
    )  # fmt: skip
    return (
        f"{table(head, rows)}\n\nWanted: at least 1. A step is one of `fit`, a forward pass one of "
        "`predict` (inference_function is what `kbert predict` runs). Dropout 0.1 and clipping at "
        "1.0 in all. keras-hub's GELU is the one with tanh, kbert's the exact one."
    )


def _seconds(results: dict, name: str) -> float | None:
    return results.get(name, {}).get("seconds")


def _shown(results: dict, name: str) -> str | None:
    if "error" in results.get(name, {}):
        return f"FAILED: {results[name]['error'][:60]}"
    seconds = _seconds(results, name)
    return None if seconds is None else f"{seconds:.3f}"


def full_length(settings: Settings, dtype: str) -> dict:
    import keras
    import numpy as np

    from kbert.inference import inference_function

    steps = settings.size(3, 1)
    draw = np.random.default_rng(0)
    shape = (BATCH * steps, LENGTH)
    features = {
        "token_ids": draw.integers(0, 30522, shape, "int32"),
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": np.ones(shape, bool),
    }
    hub_features = {**features, "padding_mask": np.ones(shape, "int32")}
    targets = draw.integers(0, material.NUM_LABELS, len(features["token_ids"]), "int32")
    num_layers = settings.size(12, 2)
    progress("  building")
    models = {
        HUB: _keras_hub(num_layers, dtype, "auto"),
        OURS: _kbert(num_layers, dtype, own_adamw=False),
        OURS_ADAMW: _kbert(num_layers, dtype, own_adamw=True),
    }
    if keras.backend.backend() == "tensorflow":
        models[HUB_XLA] = _keras_hub(num_layers, dtype, True)
    given = {name: hub_features if "hub" in name else features for name in models}

    def training(name):
        fit = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
        return lambda: models[name].fit(given[name], targets, **fit)

    def predicting(name):
        return lambda: models[name].predict(given[name], BATCH, verbose=0)

    progress("  forward passes")
    forward = {name: predicting(name) for name in models if name != OURS_ADAMW}
    function = inference_function(models[OURS])
    batches = [
        {key: array[i * BATCH : (i + 1) * BATCH] for key, array in features.items()}
        for i in range(steps)
    ]
    forward[FUNCTION] = lambda: [function(batch) for batch in batches]
    results = {"forward": fastest_in_turns(forward, settings.size(3, 1))}
    progress("  training steps")
    train = {name: training(name) for name in models}
    results["train"] = fastest_in_turns(train, settings.size(3, 1))
    for measured in results.values():
        for result in measured.values():
            if "seconds" in result:
                result["seconds"] /= steps
    return {**results, "jit": {name: model.jit_compile for name, model in models.items()}}


def _compile(model, optimizer, jit):
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=None, jit_compile=jit)
    return model


def _keras_adamw():
    import keras

    return keras.optimizers.AdamW(5e-5, weight_decay=0.01, global_clipnorm=1.0)


def _keras_hub(num_layers: int, dtype: str, jit):
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=30522, num_layers=num_layers, num_heads=12, hidden_dim=768,
        intermediate_dim=3072, dropout=0.1, dtype=dtype,
    )  # fmt: skip
    model = keras_hub.models.BertTextClassifier(backbone, material.NUM_LABELS)
    return _compile(model, _keras_adamw(), jit)


def _kbert(num_layers: int, dtype: str, own_adamw: bool):
    import keras

    import kbert
    from kbert.models.bert import BertConfig, bert

    task = kbert.TextClassification([f"label {i}" for i in range(material.NUM_LABELS)])
    optimizer = kbert.adamw(5e-5, weight_decay=0.01) if own_adamw else _keras_adamw()
    # As `kbert finetune` compiles.
    jit = keras.backend.backend() == "jax"
    return _compile(task.model(bert(BertConfig(num_layers=num_layers), dtype)), optimizer, jit)
