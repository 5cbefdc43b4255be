"""Which of a fixed number of choices goes with a text: SWAG, exams."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.multiple_choice import multiple_choice
from kbert.heads.pooling import POOLINGS
from kbert.inputs.batches import batched_dataset
from kbert.inputs.packer import PAD_STEP, Packer, Row, warn_of_cut
from kbert.inputs.records import read_records
from kbert.inputs.tables import DELIMITERS
from kbert.tasks import parts
from kbert.tasks.parts import Prepared, setting
from kbert.weights import names


@dataclass(frozen=True)
class MultipleChoice:
    """A text and C choices → the choice that goes with it.

    Every choice is a row, [CLS] text [SEP] choice [SEP]; where there is a question, it stands
    before each choice: SWAG's sent2 before its endings (Devlin et al. 2019, 4.4).

    Args:
        num_choices: C, of every record.
        text: the column of the text that is the same for all choices.
        question: the column of what stands before every choice, or None.
        choices: the column of a list, or C columns with commas between them.
        label: the column of the right choice: its number from 0, its text, or a letter from A.
        max_length: of a row, in tokens; of a longer one the longer of its two texts is cut.
        pooling: how a sequence becomes one vector, see `heads.pooling`.
        dropout: probability of dropping a value of that vector in training.
        delimiter, quoting, header: how tables are written, see `inputs.tables.TableForm`.
    """

    name: ClassVar[str] = "multiple-choice"
    head: ClassVar[str] = "MultipleChoice"
    monitor: ClassVar[str] = "val_accuracy"

    num_choices: int = 4  # SWAG's
    text: str = setting("text", "Column with the text that all choices share.")
    question: str | None = setting(
        None, "Column with what stands before every choice.", kind=str, metavar="COLUMN"
    )
    choices: str = setting(
        "choices", "Column with a list of choices, or their columns with commas between."
    )
    label: str = setting("label", "Column with the right choice: its number from 0, or its text.")
    max_length: int = setting(128, "Tokens of a text and a choice; the rest is cut.", least=5)
    pooling: str = setting(
        "pooler", "One vector per choice; transformers can open pooler only.", choices=POOLINGS
    )
    dropout: float = 0.1
    delimiter: str | None = parts.delimiter(DELIMITERS)
    quoting: bool = parts.quoting()
    header: bool = parts.header()

    def __post_init__(self):
        if self.num_choices < 2:
            raise InputError(f"a choice needs two or more to choose of; got {self.num_choices}.")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return tuple(filter(None, (self.text, self.question, *self.columns)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the choices: one with lists, or one for each."""
        return tuple(column.strip() for column in self.choices.split(",") if column.strip())

    # Records and settings

    @classmethod
    def read(cls, path, label="label", **settings) -> list[dict[str, Any]]:
        """The records of a file with the columns of a text, its choices and the right one."""
        columns = cls._of(settings).inputs
        return read_records(path, (*columns, label), **parts.form_of(settings))

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], **settings):
        """The task with as many choices as the first record has."""
        task = cls._of(settings)
        number = len(task.choices_of(records[0], 1)) if records else 0
        return cls(number, **settings)

    @classmethod
    def _of(cls, settings):
        """A task to ask for its columns: what else is in `settings` does not matter."""
        return cls(**{k: settings[k] for k in ("text", "question", "choices") if k in settings})

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "MultipleChoice":
        """The task that a saved `config.json` describes."""
        return cls(**parts.restored(settings, cls.name))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with class and columns."""
        return {
            **encoder_settings,
            "classifier_dropout": self.dropout,
            "kbert": parts.saved(
                self, "num_choices", "text", "question", "choices", "label", "max_length",
                "pooling", *parts.TABLE,
            ),
        }  # fmt: skip

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record has other texts, choices or labels than are due."""
        parts.check_texts(records, tuple(filter(None, (self.text, self.question))))
        self.questions(records)
        self.targets(records)

    def choices_of(self, record: Mapping[str, Any], number: int) -> list[str]:
        """The choices of a record.

        Raises:
            InputError: they are no list of strings.
        """
        found = [record[column] for column in self.columns]
        found = found[0] if len(found) == 1 else found
        if not isinstance(found, list | tuple) or not all(isinstance(x, str) for x in found):
            raise InputError(
                f"record {number}: expected a list of texts in column {self.choices!r}, came "
                f"{found!r}. Give lists (JSONL), or name a column for each choice: a,b,c,d."
            )
        return list(found)

    def _record(self, given: Any) -> Mapping[str, Any]:
        """An input, a record or a tuple, as a record."""
        if isinstance(given, Mapping):
            return given
        return dict(zip(self.inputs, given, strict=True))

    def questions(self, inputs: Sequence[Any]) -> list[tuple[str, list[str]]]:
        """Each input's text and its C choices, with the question before each.

        Args:
            inputs: records, or tuples in the order of `inputs` with the choices last.

        Raises:
            InputError: an input has another number of choices.
        """
        found = []
        for number, given in enumerate(map(self._record, inputs), 1):
            choices = self.choices_of(given, number)
            if len(choices) != self.num_choices:
                raise InputError(
                    f"record {number}: expected {self.num_choices} choices, as in all others and "
                    f"in training, came {len(choices)}: {choices!r}. Leave the record out, or "
                    "train on records with that many."
                )
            before = f"{given[self.question]} " if self.question else ""
            found.append((given[self.text], [before + choice for choice in choices]))
        return found

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with a score per choice: B·C rows → logits, float32 (B, C)."""
        model = multiple_choice(encoder, self.num_choices, self.pooling, self.dropout)
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of a question's scores."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Records → the number of the right choice, int32 (N,).

        Raises:
            InputError: a label tells no choice.
        """
        numbers = [self._number_of(record, n) for n, record in enumerate(records, 1)]
        return np.array(numbers, "int32")

    def _number_of(self, record: Mapping[str, Any], number: int) -> int:
        label, choices = record[self.label], self.choices_of(record, number)
        letters = [chr(ord("A") + i) for i in range(len(choices))]
        for known in (range(len(choices)), map(str, range(len(choices))), choices, letters):
            known = list(known)
            if not isinstance(label, bool) and label in known:
                return known.index(label)
        raise InputError(
            f"record {number}: expected the right choice in column {self.label!r}, came {label!r}: "
            f"write its number, 0 to {len(choices) - 1}, its text, or a letter, A to {letters[-1]}."
        )

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets): B·C rows to B targets.

        Args:
            batch_size: questions; or `token_budget=`, tokens of their longest rows.
            settings: see `TextClassification.dataset`.
        """
        rows, cut = self.rows(records, tokenizer)
        warn_of_cut(cut, len(rows), self.max_length)
        packer, targets = self.packer(tokenizer), self.targets(records)
        return batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP] choice [SEP], or the form that the model has, cut to `max_length`."""
        packer = Packer.of(tokenizer, self.max_length)
        packer.room(2)
        return packer

    def rows(self, inputs: Sequence[Any], tokenizer) -> tuple[list[list[Row]], int]:
        """C rows an input, and how many inputs have a row that was cut."""
        packer, questions = self.packer(tokenizer), self.questions(inputs)
        texts = tokenizer([text for text, _ in questions])
        ids = iter(tokenizer([choice for _, choices in questions for choice in choices]))
        rows, cut, room = [], 0, packer.room(2)
        for text, (_, choices) in zip(texts, questions, strict=True):
            of_choices = [next(ids) for _ in choices]
            rows.append([packer.pack(text, choice) for choice in of_choices])
            cut += any(len(text) + len(choice) > room for choice in of_choices)
        return rows, cut

    # Answers

    def asked(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Texts one after another as inputs: text, question if there is one, and C choices."""
        shared = [name for name in (self.text, self.question) if name]
        size = len(shared) + self.num_choices
        if len(texts) % size:
            raise InputError(
                f"multiple-choice asks {size} texts together ({', '.join(shared)} and "
                f"{self.num_choices} choices); came {len(texts)}: give every one of them."
            )
        found = []
        for start in range(0, len(texts), size):
            group = list(texts[start : start + size])
            given, choices = group[: len(shared)], group[len(shared) :]
            columns = dict(zip(self.columns, choices, strict=False))
            of_choices = columns if len(self.columns) > 1 else {self.columns[0]: choices}
            found.append({**dict(zip(shared, given, strict=True)), **of_choices})
        return found

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Questions → C rows each, which stay together."""
        rows, cut = self.rows(inputs, tokenizer)
        choices = [self.choices_of(self._record(x), n) for n, x in enumerate(inputs, 1)]
        return Prepared(rows, np.arange(len(rows)), inputs, details=choices, cut=cut)

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> np.ndarray:
        """Logits (N, C)."""
        return np.array(outputs, "float32").reshape(-1, self.num_choices)

    def answers(self, logits: np.ndarray, prepared: Prepared) -> Iterator[dict[str, Any]]:
        """Logits (N, C) → `{"choice", "answer", "probabilities"}`: number from 0, its text."""
        for row, choices in zip(parts.softmax(logits), prepared.details, strict=True):
            best = int(row.argmax())
            yield {"choice": best, "answer": choices[best], "probabilities": row.tolist()}

    def scores(self, logits: np.ndarray, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Figures of logits (N, C): accuracy and loss."""
        targets = self.targets(records)
        right = parts.softmax(logits)[np.arange(len(targets)), targets]
        return {
            "accuracy": float((logits.argmax(axis=-1) == targets).mean()),
            "loss": float(np.mean(-np.log(np.maximum(right, 1e-300)))),
            "examples": len(targets),
        }

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """`serving_default`: `text` (B,), with a question `question` (B,), `choices` (B, C).

        `tokens`: `token_ids` int32 (B, C, T), padded, and `segment_ids` where the model has them.
        """
        import tensorflow as tf

        packer, number = self.packer(tokenizer), self.num_choices

        def chosen(features):
            probabilities = tf.nn.softmax(tf.cast(logits(**features), tf.float32))
            best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
            return {"choice": best, "probabilities": probabilities}

        specs = [tf.TensorSpec([None], tf.string, name="text")]
        specs += [tf.TensorSpec([None], tf.string, name="question")] * bool(self.question)
        specs += [tf.TensorSpec([None, number], tf.string, name="choices")]

        @tf.function(autograph=False, input_signature=specs)
        def serving_default(text, *others):
            *question, choices = others
            asked = choices
            if question:
                before = tf.broadcast_to(question[0][:, tf.newaxis], tf.shape(choices))
                asked = tf.strings.join([before, choices], " ")
            rows = tf.repeat(tf.range(tf.shape(choices)[0]), number)
            shared = tf.gather(encode(text), rows)
            asked = encode(tf.reshape(asked, [-1]))
            answers = chosen(packer.pack_in_graph(shared, asked, pad_to_multiple=PAD_STEP))
            return {"answer": tf.gather(choices, answers["choice"], batch_dims=1), **answers}

        names = ["token_ids", "segment_ids"][: 1 + tokenizer.with_segments]
        specs = [tf.TensorSpec([None, number, None], tf.int32, name=name) for name in names]

        @tf.function(autograph=False, input_signature=specs)
        def tokens(*ids):
            rows = (tf.reshape(x, [-1, tf.shape(x)[2]]) for x in ids)
            token_ids, *segment_ids = rows
            return chosen(parts.features_in_graph(token_ids, tokenizer, *segment_ids))

        return {"serving_default": serving_default, "tokens": tokens}
