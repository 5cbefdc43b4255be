"""kbert: BERT-family models in Keras 3, from a checkpoint to a served model.

    bert  = kbert.load(path)                  # .encoder, .tokenizer, .config
    task  = kbert.TextClassification(labels)
    model = task.model(bert.encoder)          # a functional keras.Model
    model.compile(...); model.fit(task.dataset(records, bert.tokenizer, batch_size=32), ...)
    kbert.export(model, task, bert.tokenizer, "saved_models/banking77")

Names are imported when first used, so that `import kbert` costs nothing and TensorFlow is not
imported on JAX or PyTorch before text or export needs it.
"""

from importlib import import_module

__version__ = "0.1.0"

HOMES = {
    "FillMask": "kbert.tasks.fill_mask",
    "InputError": "kbert.errors",
    "MultipleChoice": "kbert.tasks.multiple_choice",
    "NextSentence": "kbert.tasks.next_sentence",
    "Predictor": "kbert.inference",
    "QuestionAnswering": "kbert.tasks.question_answering",
    "Regression": "kbert.tasks.regression",
    "ReplacedToken": "kbert.tasks.replaced_token",
    "SentenceEmbedding": "kbert.tasks.sentence_embedding",
    "SentenceOrder": "kbert.tasks.sentence_order",
    "TextClassification": "kbert.tasks.text_classification",
    "TokenClassification": "kbert.tasks.token_classification",
    "Tokenizer": "kbert.text.tokenizer",
    "adamw": "kbert.training.optimizer",
    "distribution": "kbert.training.distribution",
    "finetune": "kbert.training.finetune",
    "load": "kbert.loading",
    "read_records": "kbert.inputs.records",
    "save": "kbert.checkpoint",
}

__all__ = ["__version__", "export", "serving", *HOMES]


def __getattr__(name):
    if name in ("export", "serving"):  # a folder that can be called, and one with a client
        return import_module(f"kbert.{name}")
    if name not in HOMES:
        raise AttributeError(f"module 'kbert' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__():
    return sorted({*globals(), *__all__})
