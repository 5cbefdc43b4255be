"""One label for a text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.classification import classification
from kbert.heads.pooling import POOLINGS
from kbert.inputs.batches import batched_dataset
from kbert.inputs.packer import Packer, Row
from kbert.inputs.records import read_records
from kbert.inputs.windows import check_window, mean_of_windows, packed_windows
from kbert.tasks import parts
from kbert.tasks.parts import Prepared, setting
from kbert.weights import names

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

    name: ClassVar[str] = "text-classification"
    head: ClassVar[str] = "SequenceClassification"
    monitor: ClassVar[str] = "val_accuracy"

    labels: tuple[str, ...]
    text: str = setting("text", "Column with the texts.")
    label: str = setting("label", "Column with the labels.")
    max_length: int = setting(128, "Tokens; the rest is cut.", least=3)
    pooling: str = setting(
        "pooler", "One vector per text; transformers can open pooler only.", choices=POOLINGS
    )
    dropout: float = 0.1
    stride: int | None = setting(
        None, "Answer longer texts whole: in windows of --max-length that share this many tokens.",
        kind=int, least=0, metavar="TOKENS",
    )  # fmt: skip

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(set(self.labels)) < 2:
            raise InputError(
                f"a classifier needs two labels or more; got {len(set(self.labels))}: "
                f"{', '.join(map(repr, self.labels)) or 'none'}."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return (self.text,)

    # Records and settings

    @classmethod
    def read(cls, path, text="text", label="label", **_) -> list[dict[str, Any]]:
        """The records of a table with a text and a label column."""
        return read_records(path, (text, label))

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
        return cls(parts.restored_labels(settings), **parts.restored(settings, cls.name))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with class and labels."""
        return {
            **encoder_settings,
            "problem_type": "single_label_classification",
            "classifier_dropout": self.dropout,
            **parts.label_settings(self.labels),
            "kbert": parts.saved(self, "text", "label", "max_length", "pooling", "stride"),
        }

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record's text is no string or its label not the task's."""
        parts.check_texts(records, self.inputs)
        self.targets(records)

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with a classifier on it: inputs → logits, float32 (B, C).

        What the encoder's checkpoint holds for the head, and fits, is loaded; the rest is new.
        """
        model = classification(encoder, len(self.labels), self.pooling, self.dropout)
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of the logits."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Records → label numbers, int32 (N,).

        Raises:
            InputError: a record has a label that is not the task's.
        """
        return parts.label_numbers(self.labels, [record[self.label] for record in records])

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

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has, cut to `max_length`.

        Raises:
            InputError: `max_length` leaves no room, or no more than the stride.
        """
        packer = Packer.of(tokenizer, self.max_length)
        if self.stride is not None:
            check_window(packer.room(1), self.stride, f" (max_length={self.max_length})")
        return packer

    def rows(self, texts: Sequence[str], tokenizer) -> list[Row]:
        """Texts → packed rows, one for each: what is too long is cut."""
        pack = self.packer(tokenizer).pack
        return [pack(ids) for ids in tokenizer(texts)]

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Texts → rows as answers need them, one or more each."""
        texts = [text for (text,) in parts.columns_of(inputs, self.inputs)]
        if self.stride is None:
            return Prepared(self.rows(texts, tokenizer), np.arange(len(texts)), inputs)
        packer, rows, numbers = self.packer(tokenizer), [], []
        for found, row in packed_windows(packer, tokenizer(texts), self.stride):
            rows.append(row)
            numbers.append(found.text)
        return Prepared(rows, np.array(numbers, int), inputs)

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> np.ndarray:
        """Logits, (C,) a row → of texts (N, C): the logarithm of the mean probabilities."""
        logits = np.array(outputs, "float32").reshape(-1, len(self.labels))
        if self.stride is None:
            return logits
        mean = mean_of_windows(parts.softmax(logits), prepared.numbers)
        return np.log(np.maximum(mean, SMALLEST)).astype(logits.dtype)

    def answers(self, logits: np.ndarray, prepared=None) -> Iterator[dict[str, Any]]:
        """Logits (N, C) → one `{"label", "score"}` each; the score is the label's probability."""
        scores = parts.softmax(logits)
        for row, best in zip(scores, scores.argmax(axis=-1), strict=True):
            yield {"label": self.labels[best], "score": float(row[best])}

    def scores(self, logits: np.ndarray, records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Figures of logits (N, C) on records with their labels: accuracy, macro F1, loss."""
        from sklearn.metrics import accuracy_score, f1_score

        targets = self.targets(records)
        chosen = logits.argmax(axis=-1)
        right = parts.softmax(logits)[np.arange(len(targets)), targets]
        return {
            "accuracy": float(accuracy_score(targets, chosen)),
            "macro_f1": float(f1_score(targets, chosen, average="macro", zero_division=0.0)),
            "loss": float(np.mean(-np.log(np.maximum(right, 1e-300)))),
            "examples": len(targets),
        }

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """The served functions; see `parts.text_signatures`."""
        from_ids = self._logits_in_graph(logits, tokenizer)
        return parts.text_signatures(self.serve, encode, (from_ids, logits), tokenizer)

    def _logits_in_graph(self, logits, tokenizer):
        """`prepare`, the model and `merged` as TensorFlow operations: ids of texts → (N, C)."""
        import tensorflow as tf

        from kbert.inputs import windows_in_graph

        packer = self.packer(tokenizer)

        def whole(ids):
            return logits(**packer.pack_in_graph(ids))

        def in_windows(ids):
            found, features = windows_in_graph.packed_windows_in_graph(packer, ids, self.stride)
            probabilities = tf.nn.softmax(tf.cast(logits(**features), tf.float32))
            mean = windows_in_graph.mean_of_windows(probabilities, found.text)
            return tf.math.log(tf.maximum(mean, SMALLEST))

        return whole if self.stride is None else in_windows

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
