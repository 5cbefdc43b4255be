"""Whether a text follows another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.next_sentence import next_sentence
from kbert.inputs.batches import batched_dataset
from kbert.inputs.files import ending
from kbert.inputs.packer import Packer, warn_of_cut
from kbert.inputs.records import read_records, read_texts
from kbert.inputs.sentence_pairs import documents, next_sentences
from kbert.inputs.tables import DELIMITERS
from kbert.tasks import parts
from kbert.tasks.labels import OneLabel
from kbert.tasks.parts import Prepared, setting
from kbert.tasks.texts import Texts
from kbert.weights import names

YES, NO = ("yes", "true", "1"), ("no", "false", "0")


@dataclass(frozen=True)
class NextSentence:
    """A pair of texts → the probability that the second follows the first.

    It is trained on pairs with a label, or on running text, of which pairs are made
    (`inputs.sentence_pairs`).

    Args:
        text, text_pair: the columns of the two texts.
        label: the column that says yes (or 1) where the second follows, no (or 0) where it does
            not. (In transformers' `next_sentence_label` 0 is yes.)
        max_length: the longest pair in tokens, with the special ones; longer ones are cut.
        delimiter, quoting, header: how tables are written, see `inputs.tables.TableForm`.
    """

    name: ClassVar[str] = "next-sentence"
    head: ClassVar[str] = "NextSentencePrediction"
    monitor: ClassVar[str] = "val_accuracy"
    files: ClassVar[str] = (
        "A table of pairs (CSV, TSV, JSONL, Parquet); or running text (.txt): blank lines between "
        "documents, or a document a line."
    )
    classes: ClassVar[tuple[str, str]] = ("IsNext", "NotNext")  # what the two logits say
    answer: ClassVar[str] = "follows"

    text: str = setting("text", "Column with the first text.")
    text_pair: str = setting("text_pair", "Column with the second text.")
    label: str = setting("label", "Column with yes or no (1 or 0): whether it follows.")
    max_length: int = setting(128, "Tokens of a pair; the rest is cut.", least=5)
    delimiter: str | None = parts.delimiter(DELIMITERS)
    quoting: bool = parts.quoting()
    header: bool = parts.header()

    @property
    def inputs(self) -> tuple[str, str]:
        """The columns that are asked."""
        return (self.text, self.text_pair)

    @property
    def texts(self) -> Texts:
        """What is asked, as rows for the model."""
        return Texts(self.inputs, self.max_length)

    @property
    def form(self) -> OneLabel:
        """The two classes, with their loss and figures."""
        return OneLabel(self.classes, self.label)

    # Another task of pairs has these differently.

    @staticmethod
    def pairs(texts: Sequence[Sequence[str]]):
        """Documents → pairs, half of them real; always the same."""
        return next_sentences(texts)

    @staticmethod
    def with_head(encoder: keras.Model) -> keras.Model:
        """The encoder with the head of the task."""
        return next_sentence(encoder)

    # Records and settings

    @classmethod
    def read(
        cls, path, text="text", text_pair="text_pair", label="label", **settings
    ) -> list[dict[str, Any]]:
        """The records of a table with two texts and a label; or the pairs of running text."""
        form = parts.form_of(settings)
        if ending(Path(path)) != ".txt" or form.get("delimiter"):
            return read_records(path, (text, text_pair, label), **form)
        try:
            pairs = cls.pairs(documents(read_texts(path)))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return [{text: a, text_pair: b, label: "yes" if real else "no"} for a, b, real in pairs]

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], **settings):
        """The task; there is nothing to learn of the records."""
        return cls(**settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]):
        """The task that a saved `config.json` describes."""
        return cls(**parts.own_settings(settings, cls.name))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with the two classes."""
        fields = ("text", "text_pair", "label", "max_length", *parts.TABLE)
        return {
            **encoder_settings,
            **parts.label_settings(self.classes),
            "kbert": parts.saved(self, *fields),
        }

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record's text is no string, or its label not yes or no."""
        parts.check_texts(records, self.inputs)
        self.targets(records)

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with the head on it: inputs → logits, float32 (B, 2).

        What the encoder's checkpoint holds for the head is loaded; the rest is new.
        """
        model = self.with_head(encoder)
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of the logits."""
        return self.form.loss()

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy."""
        return self.form.metrics()

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Records → 0 for yes, 1 for no, int32 (N,).

        Raises:
            InputError: a label is neither.
        """
        said = [str(record[self.label]).strip().lower() for record in records]
        for number, word in enumerate(said, 1):
            if word not in YES + NO:
                raise InputError(
                    f"expected yes or no in column {self.label!r}, came "
                    f"{records[number - 1][self.label]!r} in record {number}: write yes or 1 where "
                    "the texts are as they should be, no or 0 where they are not."
                )
        return np.array([word in NO for word in said], "int32")

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets) for `model.fit`.

        Args:
            records: mappings with the task's columns of texts and labels.
            tokenizer: text → token ids.
            batch_size: rows; or `token_budget=`, tokens in a batch with padding.
            settings: see `inputs.batches.batched_dataset` (shuffle, seed, remainder, …).
        """
        rows, cut = self.texts.rows(records, tokenizer)
        warn_of_cut(cut, len(rows), self.max_length)
        targets, packer = self.targets(records), self.packer(tokenizer)
        return batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)

    def packer(self, tokenizer) -> Packer:
        """[CLS] a [SEP] b [SEP], or the form that the model has, cut to `max_length`."""
        return self.texts.packer(tokenizer)

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Pairs → rows, one each."""
        return self.texts.prepare(inputs, tokenizer)

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> np.ndarray:
        """Logits, (2,) a row → (N, 2)."""
        return self.texts.merged(outputs, prepared, self.form)

    def answers(self, logits: np.ndarray, prepared=None) -> Iterator[dict[str, Any]]:
        """Logits (N, 2) → whether it is so, and the `probability` that it is."""
        for probability in parts.softmax(logits)[:, 0].tolist():
            yield {self.answer: probability > 0.5, "probability": probability}

    def scores(self, logits: np.ndarray, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Accuracy and loss of logits (N, 2) on records with their labels."""
        targets = self.targets(records)
        right = parts.softmax(logits)[np.arange(len(targets)), targets]
        return {
            "accuracy": float(np.mean(logits.argmax(-1) == targets)),
            "loss": float(np.mean(-np.log(np.maximum(right, 1e-300)))),
            "examples": len(targets),
        }

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """The served functions; see `parts.text_signatures`."""
        from_ids = self.texts.in_graph(logits, tokenizer, self.form)
        return parts.text_signatures(self.serve, encode, (from_ids, logits), tokenizer, 2)

    def serve(self, logits):
        """Logits (B, 2) → whether it is so, int32 (B,), and the probability, float32 (B,)."""
        import tensorflow as tf

        probability = tf.nn.softmax(tf.cast(logits, tf.float32))[:, 0]
        return {self.answer: tf.cast(probability > 0.5, tf.int32), "probability": probability}
