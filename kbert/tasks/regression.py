"""Numbers for a text or a pair: a similarity, the seven ratings of a hotel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kbert.errors import InputError
from kbert.heads.pooling import POOLINGS
from kbert.heads.regression import regression
from kbert.inputs.batches import batched_dataset
from kbert.inputs.packer import Packer, warn_of_cut
from kbert.inputs.records import read_records
from kbert.inputs.tables import DELIMITERS
from kbert.tasks import parts
from kbert.tasks.correlation import Pearson, correlations, mean_of
from kbert.tasks.parts import Prepared, setting
from kbert.tasks.texts import Texts
from kbert.weights import names


@dataclass(frozen=True)
class Regression:
    """Text, or a pair of texts → C numbers, each in its own unit.

    Args:
        criteria: what the C numbers are called.
        means, deviations: of the training's numbers, C each; the model learns them with mean 0
            and deviation 1. A saved classifier gives the numbers themselves and has neither.
        text: the column of the text.
        label: the columns of the numbers, with commas between them.
        max_length, stride: see `TextClassification`; numbers of windows are averaged.
        pooling: how a sequence becomes one vector, see `heads.pooling`.
        dropout: probability of dropping a value of that vector in training.
        text_pair: the column of the second text of a pair, or None.
        missing: the number that says that none is given; an empty value says so, too. What is
            not given is neither learned nor measured.
        delimiter, quoting, header: how tables are written, see `inputs.tables.TableForm`.
    """

    name: ClassVar[str] = "regression"
    head: ClassVar[str] = "SequenceClassification"
    problem_type: ClassVar[str] = "regression"
    monitor: ClassVar[str] = "val_pearson"

    criteria: tuple[str, ...]
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    text: str = setting("text", "Column with the texts.")
    label: str = setting("label", "Column with the numbers; several with commas between them.")
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
    missing: float | None = setting(
        None, "The number that says: not given, as an empty value does.", kind=float, metavar="N"
    )
    delimiter: str | None = parts.delimiter(DELIMITERS)
    quoting: bool = parts.quoting()
    header: bool = parts.header()

    def __post_init__(self):
        for field in ("criteria", "means", "deviations"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if len(self.columns) != len(self.criteria) or not self.criteria:
            raise InputError(
                f"expected a column for each of {len(self.criteria)} numbers "
                f"({', '.join(self.criteria)}), came {self.label!r}: name them with commas between."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the numbers."""
        return columns_of_numbers(self.label)

    @property
    def texts(self) -> Texts:
        """What is asked, as rows for the model."""
        return Texts(self.inputs, self.max_length, self.stride)

    @property
    def unit(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Means and deviations that the model learns in; 0 and 1 where it has none."""
        number = len(self.criteria)
        return self.means or (0.0,) * number, self.deviations or (1.0,) * number

    # Records and settings

    @classmethod
    def read(cls, path, text="text", label="label", text_pair=None, **settings):
        """The records of a table with columns of texts and numbers."""
        numbers = columns_of_numbers(label)
        columns = [column for column in (text, text_pair, *numbers) if column]
        form = parts.form_of(settings)
        return read_records(path, columns, numbers=numbers, optional=numbers, **form)

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], label="label", **settings):
        """The task with the means and deviations of the records.

        Raises:
            InputError: a number is none, or a column has none at all.
        """
        columns = columns_of_numbers(label)
        task = cls(columns, label=label, **settings)
        numbers = task.targets(records).astype("float64")
        for column, of_column in zip(columns, numbers.T, strict=True):
            if np.isnan(of_column).all():
                raise InputError(f"column {column!r} gives no number in any record.")
        deviations = np.nanstd(numbers, axis=0)
        return cls(
            columns,
            tuple(np.nanmean(numbers, axis=0).tolist()),
            tuple(np.where(deviations > 0, deviations, 1.0).tolist()),
            label=label,
            **settings,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Regression":
        """The task that a saved `config.json` describes.

        Raises:
            InputError: it does not name its numbers.
        """
        criteria = parts.restored_labels(settings)
        return cls(criteria, **{"label": ",".join(criteria), **parts.restored(settings, cls.name)})

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with class and criteria."""
        return {
            **encoder_settings,
            "problem_type": self.problem_type,
            "classifier_dropout": self.dropout,
            **parts.label_settings(self.criteria),
            "kbert": parts.saved(
                self, "text", "text_pair", "label", "missing", "max_length", "pooling", "stride",
                *parts.TABLE,
            ),
        }  # fmt: skip

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record's text is no string or its number none."""
        parts.check_texts(records, self.inputs)
        self.targets(records)

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with C numbers on it: inputs → numbers, float32 (B, C).

        What the encoder's checkpoint holds for the head, and fits, is loaded; the rest is new.
        """
        model = regression(encoder, *self.unit, self.pooling, self.dropout)
        new = names.load_head(model, encoder, self.head)
        if not any(text.startswith("classifier/") for text in new):
            layer = model.get_layer("classifier")
            arrays = model.get_layer("own_unit").unfolded(names.take(layer.weights))
            names.assign(layer.weights, arrays)
        return model

    def loss(self) -> keras.losses.Loss:
        """Squared error, in deviations."""
        return SquaredError(self.unit[1])

    def metrics(self) -> list[keras.metrics.Metric]:
        """Pearson's correlation, the mean over the criteria."""
        return [Pearson(*self.unit)]

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Records → their numbers, float32 (N, C); NaN where none is given.

        Raises:
            InputError: something else came.
        """
        missing = (None, self.missing)
        return parts.numbers_of(records, self.columns, missing).astype("float32")

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets); see `TextClassification`."""
        targets = self.targets(records)
        rows, cut = self.texts.rows(records, tokenizer)
        warn_of_cut(cut, len(rows), self.max_length)
        packer = self.packer(tokenizer)
        return batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has, cut to `max_length`."""
        return self.texts.packer(tokenizer)

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Texts or pairs → rows as answers need them, one or more each."""
        return self.texts.prepare(inputs, tokenizer)

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> np.ndarray:
        """Numbers, (C,) a row → of texts (N, C): of windows, the mean."""
        return self.texts.merged(outputs, prepared, Numbers(self.criteria))

    def answers(self, numbers: np.ndarray, prepared=None) -> Iterator[dict[str, Any]]:
        """Numbers (N, C) → one `{"numbers": {criterion: number}}` each."""
        for row in numbers.tolist():
            yield {"numbers": dict(zip(self.criteria, row, strict=True))}

    def scores(self, numbers: np.ndarray, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Pearson, Spearman and mean absolute error: their means, and those of each criterion."""
        targets, found = self.targets(records), {}
        for place, criterion in enumerate(self.criteria):
            given = ~np.isnan(targets[:, place])
            came, due = numbers[given, place].astype("float64"), targets[given, place]
            error = float(np.abs(came - due).mean()) if len(due) else 0.0
            found[criterion] = {
                **correlations(came, due), "mae": error, "examples": int(given.sum())
            }  # fmt: skip
        mean = {**mean_of(list(found.values())), "examples": len(records)}
        return mean if len(found) == 1 else {**mean, "criteria": found}

    # Serving

    def signatures(self, model, encode, tokenizer) -> dict:
        """The served functions; see `parts.text_signatures`."""
        from_ids = self.texts.in_graph(model, tokenizer, Numbers(self.criteria))
        number = len(self.inputs)
        return parts.text_signatures(self.serve, encode, (from_ids, model), tokenizer, number)

    def serve(self, numbers):
        """Numbers (B, C), in the order of the criteria, as TensorFlow operations."""
        import tensorflow as tf

        return {"numbers": tf.cast(numbers, tf.float32)}


@dataclass(frozen=True)
class Numbers:
    """Outputs that a mean can be taken of as they are: see `texts.Texts.merged`."""

    labels: tuple[str, ...]

    def votes(self, outputs):
        return outputs

    logits = votes_in_graph = logits_in_graph = votes


class SquaredError(keras.losses.Loss):
    """The mean over C numbers of ((y − target) / deviation)², 0 where the target is NaN."""

    def __init__(self, deviations: Sequence[float], name="squared_error", **kwargs):
        super().__init__(name=name, **kwargs)
        self.deviations = list(deviations)

    def call(self, y_true, y_pred):
        given = ops.logical_not(ops.isnan(y_true))
        # The targets are changed, not the error: a gradient through NaN is NaN.
        error = y_pred - ops.where(given, y_true, y_pred)
        error = error / ops.convert_to_tensor(self.deviations, error.dtype)
        return ops.mean(ops.square(error), axis=-1)


def columns_of_numbers(label: str) -> tuple[str, ...]:
    """The columns in "overall, value, rooms"."""
    return tuple(column.strip() for column in label.split(",") if column.strip())
