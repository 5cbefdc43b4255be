"""Figure 3: the SavedModel answers as the Python model does, whatever backend that runs on."""

from pathlib import Path

from benchmarks import material
from benchmarks.systems import BACKENDS, Settings, System
from benchmarks.tables import number, table

TITLE = "3. The SavedModel against the Python model, float32"
NEEDS_CLASSIFIER = True
ROUNDS = 1
BATCH = 64
SERVED = "served.npz"


def systems(settings: Settings) -> list[System]:
    return [
        System("export", material.export_run, given={"dtype": "float32"}),
        System("SavedModel", serve),
        *(System(f"kbert on {backend}", compare, backend) for backend in BACKENDS),
    ]


def report(measured) -> str:
    rows = []
    for name, (turn,) in measured.items():
        if "largest" in turn:
            largest = f"{turn['largest']:.1e}"
            rows.append([name, number(turn["texts"]), number(turn["same"]), largest])
    served = measured["SavedModel"][0].get("without_kbert")
    return (
        f"{table(('Python model', 'messages', 'labels equal', 'largest score difference'), rows)}"
        f"\n\nWanted: all labels, scores within 1e-5. The SavedModel is called with batches of "
        f"{BATCH} as they come; kbert was not imported in that process: {served}."
    )


def serve(settings: Settings) -> dict:
    """Labels and scores of the SavedModel, in a process with TensorFlow and its Text alone."""
    import sys

    import numpy as np
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 (registers its operations)

    served = tf.saved_model.load(str(material.saved_model(settings, "float32")))
    answer = served.signatures["serving_default"]
    texts = material.messages(settings)
    labels, scores = [], []
    for start in range(0, len(texts), BATCH):
        answers = answer(text=tf.constant(texts[start : start + BATCH]))
        labels += [label.decode() for label in answers["label"].numpy()]
        scores += answers["score"].numpy().tolist()
    np.savez(Path(settings.folder, SERVED), labels=labels, scores=scores)
    return {"texts": len(texts), "without_kbert": "kbert" not in sys.modules}


def compare(settings: Settings) -> dict:
    import numpy as np

    from kbert.training.finetune import load_predictor

    served = np.load(Path(settings.folder, SERVED))
    task, predictor = load_predictor(settings.classifier)
    answers = list(task.answers(predictor.logits(material.messages(settings))))
    labels = np.array([answer["label"] for answer in answers])
    scores = np.array([answer["score"] for answer in answers])
    return {
        "texts": len(answers),
        "same": int((labels == served["labels"]).sum()),
        "largest": float(np.abs(scores - served["scores"]).max()),
    }
