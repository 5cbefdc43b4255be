"""One label for a text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.classification import classification
from kbert.inputs.batches import batched_dataset
from kbert.inputs.packer import Packer, Row
from kbert.inputs.windows import check_window, mean_of_windows, packed_windows
from kbert.weights import names

NAME, HEAD = "text-classification", "SequenceClassification"
SMALLEST = 1e-37  # probability that a logarithm is taken of, within float32


@dataclass(frozen=True)
class TextClassification:
    """Text → one of C labels.

    Args:
        labels: the C labels, in the order of the logits.
        text, label: the columns of a record.
        max_length: the longest input in tokens, with [CLS] and [SEP]; longer texts are cut.
        stride: None, or how a longer text is answered whole: in windows of `max_length` that
            share this many tokens with the next. Their probabilities are averaged. Training sees
            the first `max_length` tokens of a text all the same.
        pooling: how a sequence becomes one vector, see `heads.pooling`.
        dropout: probability of dropping a value of that vector in training.
    """

    labels: tuple[str, ...]
    text: str = "text"
    label: str = "label"
    max_length: int = 128
    pooling: str = "pooler"
    dropout: float = 0.1
    stride: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(set(self.labels)) < 2:
            raise InputError(
                f"a classifier needs two labels or more; got {len(set(self.labels))}: "
                f"{', '.join(map(repr, self.labels)) or 'none'}."
            )

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], label="label", **settings):
        """The task whose labels are those of the records, in alphabetical order."""
        labels = sorted({str(record[label]) for record in records})
        return cls(tuple(labels), label=label, **settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "TextClassification":
        """The task that a saved `config.json` describes.

        Raises:
            InputError: it has no labels.
        """
        by_id = settings.get("id2label")
        if not by_id:
            raise InputError("config.json has no id2label: not a text classifier that was saved.")
        labels = tuple(by_id[key] for key in sorted(by_id, key=int))
        own = dict(settings.get("kbert", {}).get("settings", {}))
        # transformers takes the encoder's dropout where the classifier has none of its own.
        for key in ("hidden_dropout_prob", "classifier_dropout"):
            if settings.get(key) is not None:
                own["dropout"] = settings[key]
        return cls(labels, **own)

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with class and labels."""
        fields = ("text", "label", "max_length", "pooling", "stride")
        own = {field: getattr(self, field) for field in fields}
        return {
            **encoder_settings,
            "problem_type": "single_label_classification",
            "classifier_dropout": self.dropout,
            "id2label": {str(i): label for i, label in enumerate(self.labels)},
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "kbert": {"task": NAME, "head": HEAD, "settings": own},
        }

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with a classifier on it: inputs → logits, float32 (B, C).

        What the encoder's checkpoint holds for the head, and fits, is loaded; the rest is new.
        """
        model = classification(encoder, len(self.labels), self.pooling, self.dropout)
        names.load_head(model, encoder, HEAD)
        return model

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of the logits."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has, cut to `max_length`.

        Raises:
            InputError: `max_length` leaves no room, or no more than the stride.
        """
        packer = Packer(tokenizer.form, tokenizer.pad_id, self.max_length)
        if self.stride is not None:
            check_window(packer.room(1), self.stride, f" (max_length={self.max_length})")
        return packer

    def rows(self, texts: Sequence[str], tokenizer) -> list[Row]:
        """Texts → packed rows, one for each: what is too long is cut."""
        pack = self.packer(tokenizer).pack
        return [pack(ids) for ids in tokenizer(texts)]

    def windows(self, texts: Sequence[str], tokenizer) -> Iterator[tuple[int, Row]]:
        """Texts → packed rows as answers need them: (number of the text, row), one or more each."""
        if self.stride is None:
            yield from enumerate(self.rows(texts, tokenizer))
        else:
            packer = self.packer(tokenizer)
            for window, row in packed_windows(packer, tokenizer(texts), self.stride):
                yield window.text, row

    def merged(self, logits: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Logits (W, C) of windows → of texts (N, C): the logarithm of the mean probabilities.

        Args:
            logits: those of the rows of `windows`.
            texts: int (W,), the number of each row's text.
        """
        if self.stride is None:
            return logits
        shifted = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
        probabilities = np.exp(shifted)
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        mean = mean_of_windows(probabilities, texts)
        return np.log(np.maximum(mean, SMALLEST)).astype(logits.dtype)

    def logits_in_graph(self, logits, ids, tokenizer):
        """`windows`, `logits` and `merged` as TensorFlow operations, for the served graph.

        Args:
            logits: the model as a function of features.
            ids: int32 `tf.RaggedTensor` (N, None), the tokenizer's ids of texts.
            tokenizer: its form and padding.

        Returns:
            float32 (N, C).
        """
        packer = self.packer(tokenizer)
        if self.stride is None:
            return logits(**packer.pack_in_graph(ids))
        import tensorflow as tf

        from kbert.inputs import windows_in_graph

        found, features = windows_in_graph.packed_windows_in_graph(packer, ids, self.stride)
        probabilities = tf.nn.softmax(tf.cast(logits(**features), tf.float32))
        mean = windows_in_graph.mean_of_windows(probabilities, found.text)
        return tf.math.log(tf.maximum(mean, SMALLEST))

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record's text is no string or its label not the task's."""
        for number, record in enumerate(records, 1):
            text = record[self.text]
            if not isinstance(text, str):
                raise InputError(
                    f"expected texts in column {self.text!r}, came {text!r} in record {number}: "
                    "write them as strings, or name the column that holds the texts."
                )
        self.targets(records)

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Records → label numbers, int32 (N,).

        Raises:
            InputError: a record has a label that is not the task's.
        """
        number = {label: i for i, label in enumerate(self.labels)}
        came = [str(record[self.label]) for record in records]
        strange = sorted({label for label in came if label not in number})
        if strange:
            row = next(i for i, label in enumerate(came, 1) if label not in number)
            raise InputError(
                f"labels that training never saw: {', '.join(map(repr, strange[:5]))}"
                f"{' …' if len(strange) > 5 else ''} ({len(strange)} in all; first in record "
                f"{row}). Known are {len(number)} labels; remove or rename these."
            )
        return np.array([number[label] for label in came], "int32")

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets) for `model.fit`.

        Args:
            records: mappings with the task's text and label columns.
            tokenizer: text → token ids.
            batch_size: rows; or `token_budget=`, tokens in a batch with padding.
            settings: see `inputs.batches.batched_dataset` (shuffle, seed, remainder, …).
        """
        targets = self.targets(records)
        rows = self.rows([record[self.text] for record in records], tokenizer)
        packer = self.packer(tokenizer)
        return batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)

    def answers(self, logits: np.ndarray) -> Iterator[dict[str, Any]]:
        """Logits (N, C) → one `{"label", "score"}` each; the score is the label's probability."""
        shifted = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
        scores = np.exp(shifted)
        scores /= scores.sum(axis=-1, keepdims=True)
        for row, best in zip(scores, scores.argmax(axis=-1), strict=True):
            yield {"label": self.labels[best], "score": float(row[best])}

    def scores(self, logits: np.ndarray, records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Figures of logits (N, C) on records with their labels: accuracy, macro F1, loss."""
        from sklearn.metrics import accuracy_score, f1_score

        targets = self.targets(records)
        chosen = logits.argmax(axis=-1)
        shifted = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=-1))
        return {
            "accuracy": float(accuracy_score(targets, chosen)),
            "macro_f1": float(f1_score(targets, chosen, average="macro", zero_division=0.0)),
            "loss": float(np.mean(log_sum - shifted[np.arange(len(targets)), targets])),
            "examples": len(targets),
        }

    def serve(self, logits):
        """Logits (B, C) → what the served signatures give, as TensorFlow operations."""
        import tensorflow as tf

        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return {
            "label": tf.gather(tf.constant(self.labels), best),
            "score": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }
