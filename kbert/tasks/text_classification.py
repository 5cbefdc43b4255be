"""Labels for a text or a pair: one of them, or any number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.classification import classification
from kbert.heads.pooling import POOLINGS
from kbert.inputs.batches import batched_dataset
from kbert.inputs.packer import Packer, Row, warn_of_cut
from kbert.inputs.records import read_records
from kbert.inputs.tables import DELIMITERS
from kbert.tasks import parts
from kbert.tasks.labels import SEPARATOR, ManyLabels, OneLabel, in_order, labels_of
from kbert.tasks.parts import Prepared, setting
from kbert.tasks.texts import Texts
from kbert.weights import names


@dataclass(frozen=True)
class TextClassification:
    """Text, or a pair of texts → one of C labels, or those of C that apply.

    Args:
        labels: the C labels, in the order of the logits.
        text, label: the columns of a record.
        max_length: the longest input in tokens, with [CLS] and [SEP]; longer texts are cut.
        stride: None, or how a longer text is answered whole: in windows of `max_length` that
            share this many tokens with the next. Their probabilities are averaged. Training sees
            the first `max_length` tokens of a text all the same.
        pooling: how a sequence becomes one vector, see `heads.pooling`.
        dropout: probability of dropping a value of that vector in training.
        text_pair: the column of the second text of a pair, or None.
        multi_label: whether a text may have any number of labels.
        threshold: with `multi_label`, the probability above which a label is an answer.
        separator: with `multi_label`, what stands between labels written in one string.
        delimiter, quoting, header: how tables are written, see `inputs.tables.TableForm`.
    """

    name: ClassVar[str] = "text-classification"
    head: ClassVar[str] = "SequenceClassification"

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
    text_pair: str | None = setting(
        None, "Column with the second text, where a pair is to be told.", kind=str, metavar="COLUMN"
    )
    multi_label: bool = setting(False, "A text may have several labels, or none.")
    threshold: float = setting(
        0.5, "With --multi-label: labels of a higher probability are the answer.", least=0
    )
    separator: str = setting(SEPARATOR, "With --multi-label: stands between labels in a table.")
    delimiter: str | None = parts.delimiter(DELIMITERS)
    quoting: bool = parts.quoting()
    header: bool = parts.header()

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(set(self.labels)) < self.form.fewest:
            raise InputError(
                f"a classifier needs {'two labels' if self.form.fewest == 2 else 'a label'} or "
                f"more; got {len(set(self.labels))}: "
                f"{', '.join(map(repr, self.labels)) or 'none'}."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def form(self) -> OneLabel | ManyLabels:
        """What a text's labels may be."""
        if self.multi_label:
            return ManyLabels(self.labels, self.label, self.threshold, self.separator)
        return OneLabel(self.labels, self.label)

    @property
    def texts(self) -> Texts:
        """What is asked, as rows for the model."""
        return Texts(self.inputs, self.max_length, self.stride)

    @property
    def monitor(self) -> str:
        """The validation's figure that is best when highest."""
        return self.form.monitor

    # Records and settings

    @classmethod
    def read(
        cls, path, text="text", label="label", text_pair=None, multi_label=False, **settings
    ) -> list[dict[str, Any]]:
        """The records of a table with columns of texts and labels."""
        columns = [column for column in (text, text_pair, label) if column]
        optional = (label,) if multi_label else ()  # a text may have no label at all
        return read_records(path, columns, optional=optional, **parts.form_of(settings))

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], label="label", **settings):
        """The task whose labels are those of the records, in order."""
        many = settings.get("multi_label", False)
        separator = settings.get("separator", SEPARATOR)
        form = ManyLabels((), label, separator=separator) if many else OneLabel((), label)
        found = {name for labels in labels_of(form, records) for name in labels}
        return cls(in_order(found), label=label, **settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "TextClassification":
        """The task that a saved `config.json` describes.

        Raises:
            InputError: it has no labels.
        """
        own = parts.restored(settings, cls.name)
        own.setdefault("multi_label", settings.get("problem_type") == ManyLabels.problem_type)
        return cls(parts.restored_labels(settings), **own)

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with class and labels."""
        many = ("multi_label", "threshold", "separator") if self.multi_label else ()
        return {
            **encoder_settings,
            "problem_type": self.form.problem_type,
            "classifier_dropout": self.dropout,
            **parts.label_settings(self.labels),
            "kbert": parts.saved(
                self, "text", "text_pair", "label", "max_length", "pooling", "stride", *many,
                *parts.TABLE,
            ),
        }  # fmt: skip

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
        return self.form.loss()

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy; of several labels a text, F1."""
        return self.form.metrics()

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Records → label numbers, int32 (N,); of several labels a text, float32 (N, C).

        Raises:
            InputError: a record has a label that is not the task's.
        """
        return self.form.targets(records)

    def label_counts(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """How many records have each label, int (C,), where a text has one."""
        return np.bincount(self.targets(records), minlength=len(self.labels))

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets) for `model.fit`.

        Args:
            records: mappings with the task's columns of texts and labels.
            tokenizer: text → token ids.
            batch_size: rows; or `token_budget=`, tokens in a batch with padding.
            settings: see `inputs.batches.batched_dataset` (shuffle, seed, remainder, …).
        """
        targets = self.targets(records)
        rows, cut = self.texts.rows(records, tokenizer)
        warn_of_cut(cut, len(rows), self.max_length)
        packer = self.packer(tokenizer)
        return batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has, cut to `max_length`.

        Raises:
            InputError: `max_length` leaves no room, or no more than the stride.
        """
        return self.texts.packer(tokenizer)

    def rows(self, inputs: Sequence[Any], tokenizer) -> list[Row]:
        """Texts or pairs → packed rows, one for each: what is too long is cut."""
        return self.texts.rows(inputs, tokenizer)[0]

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Texts or pairs → rows as answers need them, one or more each."""
        return self.texts.prepare(inputs, tokenizer)

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> np.ndarray:
        """Logits, (C,) a row → of texts (N, C): of windows, those of the mean probabilities."""
        return self.texts.merged(outputs, prepared, self.form)

    def answers(self, logits: np.ndarray, prepared=None) -> Iterator[dict[str, Any]]:
        """Logits (N, C) → `{"label", "score"}` each, or `{"labels", "scores"}`."""
        return self.form.answers(logits)

    def scores(self, logits: np.ndarray, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Figures of logits (N, C) on records with their labels."""
        return self.form.scores(logits, records)

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """The served functions; see `parts.text_signatures`."""
        from_ids = self.texts.in_graph(logits, tokenizer, self.form)
        number = len(self.inputs)
        return parts.text_signatures(self.serve, encode, (from_ids, logits), tokenizer, number)

    def serve(self, logits):
        """Logits (B, C) → what the served signatures give, as TensorFlow operations."""
        return self.form.serve(logits)
