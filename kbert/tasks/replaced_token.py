"""The tokens of a text that somebody put there in the place of others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.replaced_token import TokenCrossentropy, is_right, replaced_token
from kbert.inputs.batches import IGNORED, batched_dataset
from kbert.inputs.masking import Replacing, special_tokens
from kbert.inputs.packer import PAD_STEP, Packer, Row
from kbert.inputs.records import read_plain, read_records
from kbert.inputs.tables import DELIMITERS
from kbert.inputs.windows import Window, own_columns, packed_windows
from kbert.tasks import parts
from kbert.tasks.parts import Prepared, setting
from kbert.weights import names


@dataclass(frozen=True)
class ReplacedToken:
    """Text → the tokens that are suspected to be another's.

    It is trained on plain text, of which it replaces tokens by chance, others in each epoch
    (`inputs.masking.Replacing`; ELECTRA's joint generator makes better ones); or on lists of words
    with a 0 or 1 for each.

    Args:
        text: the column with the texts.
        words: None, or the column with lists of words, for training and measuring without texts.
        label: with `words`, the column with a list: 1 for each word that was replaced, else 0.
        max_length: the longest row in tokens, with the special ones; longer texts become several.
        share: of the tokens, how many are replaced in training and when measured.
        threshold: the probability above which a token is suspected.
        delimiter, quoting, header: how tables are written, see `inputs.tables.TableForm`.
    """

    name: ClassVar[str] = "replaced-token"
    head: ClassVar[str] = "PreTraining"
    monitor: ClassVar[str] = "val_accuracy"
    files: ClassVar[str] = (
        "Plain text (.txt), a text a line; a table with texts; or with --words, JSONL or Parquet "
        "with lists."
    )

    text: str = setting("text", "Column with the texts, in a table.")
    words: str | None = setting(
        None, "Column with lists of words, in place of texts.", kind=str, metavar="COLUMN"
    )
    label: str = setting("label", "With --words: column with a 0 or 1 (replaced) for each word.")
    max_length: int = setting(128, "Tokens in a row; longer texts become several.", least=3)
    share: float = setting(0.15, "Of the tokens, how many are replaced.", least=0.0)
    threshold: float = setting(0.5, "Tokens of a higher probability are suspected.", least=0.0)
    delimiter: str | None = parts.delimiter(DELIMITERS)
    quoting: bool = parts.quoting()
    header: bool = parts.header()

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise InputError(
                f"Expected a share of replaced tokens between 0 and 1, came {self.share}: "
                "ELECTRA's is 0.15."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return (self.text,)

    # Records and settings

    @classmethod
    def read(cls, path, text="text", words=None, label="label", **settings) -> list[dict[str, Any]]:
        """Texts, a line each or from a table; or lists of words and of labels."""
        form = parts.form_of(settings)
        if words:
            return read_records(Path(path), (words, label), **form)
        return read_plain(path, text, **form)

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], **settings) -> "ReplacedToken":
        """The task; there is nothing to learn of the records."""
        return cls(**settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "ReplacedToken":
        """The task that a saved `config.json` describes."""
        return cls(**parts.own_settings(settings, cls.name))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with the class."""
        fields = ("text", "words", "label", "max_length", "share", "threshold", *parts.TABLE)
        return {**encoder_settings, "kbert": parts.saved(self, *fields)}

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record's text is no string, or its lists do not fit."""
        if not self.words:
            parts.check_texts(records, self.inputs)
            return
        for number, record in enumerate(records, 1):
            words, labels = record[self.words], record[self.label]
            both = isinstance(words, list) and isinstance(labels, list)
            if not both or len(words) != len(labels) or not all(isinstance(w, str) for w in words):
                raise InputError(
                    f"expected a list of words in column {self.words!r} and one of as many labels "
                    f"in {self.label!r}, came {words!r} and {labels!r} in record {number}."
                )
            if strange := [label for label in labels if label not in (0, 1)]:
                raise InputError(
                    f"expected labels 0 (as it was) and 1 (replaced) in column {self.label!r}, "
                    f"came {strange[0]!r} in record {number}."
                )

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with ELECTRA's discriminator on it: inputs → logits, float32 (B, T).

        What the encoder's checkpoint holds for the head is loaded; the rest is new.
        """
        model = replaced_token(encoder)
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Binary cross-entropy, the mean over the tokens of a batch."""
        return TokenCrossentropy(reduction="mean_with_sample_weight")

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy on the tokens."""
        return [keras.metrics.MeanMetricWrapper(is_right, name="accuracy")]

    def dataset(self, records, tokenizer, batch_size=None, shuffle=True, seed=0, **settings):
        """Records → a `tf.data.Dataset` for `model.fit`: features, 0 or 1 a token, weights.

        Args:
            records: mappings with the task's columns.
            tokenizer: text → token ids.
            batch_size: rows; or `token_budget=`, tokens in a batch with padding.
            shuffle: whether each epoch has an order and tokens replaced of its own; else all have
                the same.
            seed: of order and replaced tokens.
            settings: see `inputs.batches.batched_dataset`.
        """
        rows, targets = self.rows(records, tokenizer)
        drawn = {"targets": targets}
        if targets is None:
            replacing = self._replacing(rows, tokenizer, seed)

            def draw(number, epoch):
                ids, of_tokens = replacing.draw(rows[number][0], number, epoch if shuffle else 0)
                return (ids, rows[number][1]), of_tokens

            drawn = {"draw": draw}
        size = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed}
        return batched_dataset(self.packer(tokenizer), rows, **drawn, **size, **settings)

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has."""
        return Packer.of(tokenizer, self.max_length)

    def rows(self, records, tokenizer) -> tuple[list[Row], list[np.ndarray] | None]:
        """Records → packed rows, as many as it takes; of words also the targets of their tokens."""
        packer, column = self.packer(tokenizer), self.words or self.text
        encodings = tokenizer.encode([record[column] for record in records])
        rows, targets = [], []
        for window, row in packed_windows(packer, (x.ids for x in encodings), stride=0):
            rows.append(row)
            if self.words:
                labels = records[window.text][self.label]
                found = np.full(len(row[0]), IGNORED)
                words = encodings[window.text].words[window.start : window.end]
                found[window.column : window.column + len(words)] = [labels[n] for n in words]
                targets.append(found)
        return rows, targets if self.words else None

    def _replacing(self, rows: Sequence[Row], tokenizer, seed: int = 0) -> Replacing:
        others = np.concatenate([np.array(ids, np.int64) for ids, _ in rows])
        return Replacing(others, special_tokens(tokenizer), self.share, seed)

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Texts → rows, windows of a longer one, each for the tokens that it sees best."""
        texts = [text for (text,) in parts.columns_of(inputs, self.inputs)]
        encodings, packer = tokenizer.encode(texts), self.packer(tokenizer)
        ids = (encoding.ids for encoding in encodings)
        found = list(packed_windows(packer, ids, stride=packer.room() // 2))
        numbers = np.array([window.text for window, _ in found], int)
        asked = Asked([window for window, _ in found], encodings, special_tokens(tokenizer))
        return Prepared([row for _, row in found], numbers, texts, details=asked)

    def examples(self, records: Sequence[Mapping[str, Any]], tokenizer) -> Prepared:
        """Records → rows with tokens replaced, always the same; of each what is asked."""
        rows, targets = self.rows(records, tokenizer)
        if targets is None and rows:
            replacing = self._replacing(rows, tokenizer)
            drawn = [replacing.draw(ids, number) for number, (ids, _) in enumerate(rows)]
            rows = [(ids, row[1]) for (ids, _), row in zip(drawn, rows, strict=True)]
            targets = [of_tokens for _, of_tokens in drawn]
        return Prepared(rows, np.zeros(len(rows), int), records, details=targets)

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> list[np.ndarray]:
        """Logits, (T,) a row → one array a text, of its tokens; or targets and logits of all."""
        asked = prepared.details
        if not isinstance(asked, Asked):
            found = [(t, x[: len(t)]) for x, t in zip(outputs, asked or [], strict=True)]
            found = [(t[t != IGNORED], x[t != IGNORED]) for t, x in found]
            return [np.concatenate([np.zeros(0), *arrays]) for arrays in zip(*found, strict=True)]
        results: list[list] = [[] for _ in prepared.inputs]
        for output, window in zip(outputs, asked.windows, strict=True):
            results[window.text].append(output[own_columns(window)])
        return [np.concatenate(arrays) for arrays in results]

    def answers(self, results: list[np.ndarray], prepared: Prepared) -> Iterator[dict[str, Any]]:
        """One `{"suspected": […]}` a text: each with `token`, `start`, `end` and `score`."""
        _, encodings, is_special = prepared.details
        for text, encoding, logits in zip(prepared.inputs, encodings, results, strict=True):
            scores = parts.sigmoid(logits)
            suspected = (scores > self.threshold) & ~is_special[encoding.ids]
            found = [(*encoding.offsets[i], float(scores[i])) for i in np.flatnonzero(suspected)]
            yield {
                "suspected": [
                    {"token": text[start:end], "start": start, "end": end, "score": score}
                    for start, end, score in found
                ]
            }

    def scores(self, results: list[np.ndarray], records) -> dict[str, float]:
        """Accuracy, precision, recall, F1 (of replaced ones) and loss, on `tokens` tokens."""
        from sklearn.metrics import precision_recall_fscore_support

        if not results or not len(results[0]):
            raise InputError(
                f"none of {len(records)} texts has a token that could be replaced: measure on "
                "longer texts, or on more of them."
            )
        targets, logits = results
        chosen = logits > 0
        precision, recall, f1, _ = precision_recall_fscore_support(
            targets, chosen, average="binary", zero_division=0.0
        )
        return {
            "accuracy": float(np.mean(chosen == targets)),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "loss": float(np.mean(np.logaddexp(0, logits) - targets * logits)),
            "tokens": len(targets),
            "examples": len(records),
        }

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """`serving_default`, raw text; `tokens`, ids, padded.

        Of raw text: `token` string, `start` and `end` int32, `score` float32, (B, S) each, for the
        suspected ones; where a text has fewer than another, "", -1, -1 and 0. Of ids: `score`
        float32 (B, T), 0 for special tokens.
        """
        import tensorflow as tf

        from kbert.inputs import windows_in_graph
        from kbert.text.in_graph.engine import as_utf_8

        packer, is_special = self.packer(tokenizer), tf.constant(special_tokens(tokenizer))

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")]
        )
        def serving_default(text):
            text = as_utf_8(text)
            ids, starts, ends = encode.with_offsets(text)
            found, features = windows_in_graph.packed_windows_in_graph(
                packer, ids, packer.room() // 2, pad_to_multiple=PAD_STEP
            )
            scores = windows_in_graph.own_outputs(tf.sigmoid(logits(**features)), found)
            suspected = (scores.values > self.threshold) & ~tf.gather(is_special, ids.values)
            start, end, score = (
                tf.ragged.boolean_mask(x, ids.with_values(suspected))
                for x in (starts, ends, ids.with_values(scores.values))
            )
            texts = tf.gather(text, start.value_rowids())
            size = end.values - start.values
            token = start.with_values(tf.strings.substr(texts, start.values, size, "UTF8_CHAR"))
            return {
                "token": token.to_tensor(""),
                "start": start.to_tensor(-1),
                "end": end.to_tensor(-1),
                "score": score.to_tensor(0.0),
            }

        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")],
        )
        def tokens(token_ids):
            scores = tf.sigmoid(logits(**parts.features_in_graph(token_ids, tokenizer)))
            return {"score": tf.where(tf.gather(is_special, token_ids), 0.0, scores)}

        return {"serving_default": serving_default, "tokens": tokens}


class Asked(NamedTuple):
    """What answers are read with: windows, the texts' encodings, and bool (V,), special tokens."""

    windows: list[Window]
    encodings: list
    is_special: np.ndarray
