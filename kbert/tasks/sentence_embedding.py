"""A vector for a text, so that near texts have near vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.sentence_embedding import sentence_embedding
from kbert.inputs.batches import batched_dataset
from kbert.inputs.packer import PAD_STEP, Packer, warn_of_cut
from kbert.inputs.records import read_records
from kbert.inputs.tables import DELIMITERS
from kbert.tasks import modules, pairs, parts
from kbert.tasks.correlation import Pearson, correlations
from kbert.tasks.parts import Prepared, setting
from kbert.tasks.texts import Texts
from kbert.weights import names


@dataclass(frozen=True)
class SentenceEmbedding:
    """Text → a vector; trained on pairs of texts, with scores or without.

    Args:
        text, text_pair: the columns of a pair's texts; only `text` is asked for a vector.
        label: the column of a pair's score: cosines learn to be as high as it. None: the second
            texts of the other pairs of a batch are wrong answers to a first text, its own is right.
        max_length: the longest text in tokens, with [CLS] and [SEP]; longer ones are cut.
        pooling: how a sequence becomes one vector, see `heads.pooling`.
        normalize: whether vectors have length one.
        lowest, highest: of the training's scores; cosines learn to be 0 and 1 there.
        delimiter, quoting, header: how tables are written, see `inputs.tables.TableForm`.
    """

    name: ClassVar[str] = "sentence-embedding"
    head: ClassVar[str] = "SentenceEmbedding"

    text: str = setting("text", "Column with the first text of a pair.")
    text_pair: str = setting("text_pair", "Column with the second text.")
    label: str | None = setting(
        None, "Column with a pair's score; without, other pairs of a batch are the wrong ones.",
        kind=str, metavar="COLUMN",
    )  # fmt: skip
    max_length: int = setting(128, "Tokens; the rest is cut.", least=3)
    pooling: str = setting("mean", "One vector per text.", choices=tuple(modules.POOLINGS))
    normalize: bool = setting(True, "Whether vectors have length one.")
    lowest: float = 0.0
    highest: float = 1.0
    delimiter: str | None = parts.delimiter(DELIMITERS)
    quoting: bool = parts.quoting()
    header: bool = parts.header()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return (self.text,)

    @property
    def monitor(self) -> str:
        """The validation's figure that is best when highest."""
        return "val_accuracy" if self.label is None else "val_pearson"

    @property
    def texts(self) -> Texts:
        """A text as a row for the model."""
        return Texts((self.text,), self.max_length)

    # Records and settings

    @classmethod
    def read(cls, path, text="text", text_pair="text_pair", label=None, **settings):
        """The records of a table with pairs of texts, and scores if there is a column of them."""
        columns = [column for column in (text, text_pair, label) if column]
        numbers = (label,) if label else ()
        return read_records(path, columns, numbers=numbers, **parts.form_of(settings))

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], label=None, **settings):
        """The task with the lowest and the highest score of the records."""
        task = cls(label=label, **settings)
        if label is None:
            return task
        scores = task.due(records)
        if np.ptp(scores) == 0:
            raise InputError(
                f"column {label!r} gives every pair the score {scores[0]:g}: nothing to learn. "
                "Leave the column out to learn from pairs alone."
            )
        ends = {"lowest": float(scores.min()), "highest": float(scores.max())}
        return cls(label=label, **{**settings, **ends})

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "SentenceEmbedding":
        """The task that a saved `config.json` describes; of another's, with the usual settings."""
        own = parts.restored(settings, cls.name)
        own.pop("dropout", None)  # it has no layer with one
        return cls(**own)

    @classmethod
    def from_folder(cls, folder, settings: Mapping[str, Any]) -> "SentenceEmbedding":
        """The task of a folder; one of sentence-transformers says pooling and length itself.

        Raises:
            InputError: it has modules that kbert has not.
        """
        task = cls.from_settings(settings)
        is_ours = settings.get("kbert", {}).get("task") == cls.name
        return task if is_ours else replace(task, **modules.settings(folder))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head, and the files of sentence-transformers."""
        kept = ("text", "text_pair", "label", "lowest", "highest", "max_length", "pooling")
        return {
            **encoder_settings,
            "kbert": {
                **parts.saved(self, *kept, "normalize", *parts.TABLE),
                "files": modules.files(self, encoder_settings),
            },
        }

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record has no pair of texts, or no score."""
        parts.check_texts(records, (self.text, self.text_pair))
        if self.label is not None:
            self.due(records)

    def due(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The scores of records, float64 (N,).

        Raises:
            InputError: one is no number.
        """
        return parts.numbers_of(records, (self.label,))[:, 0]

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with a vector on it: rows → float32 (B, D)."""
        model = sentence_embedding(encoder, self.pooling, self.normalize)
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Of cosines and scores; or of each pair among those of its batch."""
        return pairs.InBatchNegatives() if self.label is None else pairs.CosineError()

    def metrics(self) -> list[keras.metrics.Metric]:
        """Pearson's correlation of cosines and scores; or accuracy within a batch."""
        if self.label is None:
            return [pairs.InBatchAccuracy()]
        return [Pearson((0.5,), (0.5,), of=pairs.cosines)]

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Scores from 0 to 1, float32 (N, 1); or the numbers of the texts, int32 (N, 2)."""
        if self.label is None:
            number: dict[str, int] = {}
            columns = (self.text, self.text_pair)
            found = [[number.setdefault(r[c], len(number)) for c in columns] for r in records]
            return np.array(found, "int32").reshape(-1, 2)
        scores = (self.due(records) - self.lowest) / (self.highest - self.lowest)
        return scores[:, np.newaxis].astype("float32")

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets): 2B rows to B targets.

        Args:
            batch_size: pairs; or `token_budget=`, tokens of their longer rows.
            settings: see `TextClassification.dataset`.
        """
        rows, cut = self._pair_rows(records, tokenizer)
        warn_of_cut(cut, len(rows), self.max_length)
        rows = [list(pair) for pair in zip(rows[::2], rows[1::2], strict=True)]
        packer, targets = self.packer(tokenizer), self.targets(records)
        return batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has, cut to `max_length`."""
        return self.texts.packer(tokenizer)

    def _pair_rows(self, records, tokenizer):
        texts = [r[column] for r in records for column in (self.text, self.text_pair)]
        return self.texts.rows(texts, tokenizer)

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Texts → one row each; records of pairs → two rows each."""
        are_pairs = any(isinstance(x, Mapping) and self.text_pair in x for x in inputs)
        if not are_pairs:
            return self.texts.prepare(inputs, tokenizer)
        rows, cut = self._pair_rows(inputs, tokenizer)
        return Prepared(rows, np.repeat(np.arange(len(inputs)), 2), inputs, "pairs", cut)

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> np.ndarray:
        """Vectors, (D,) a row → of texts (N, D), of pairs (N, 2, D)."""
        vectors = np.array(outputs, "float32")
        return vectors.reshape(-1, 2, vectors.shape[-1]) if prepared.details else vectors

    def answers(self, vectors: np.ndarray, prepared=None) -> Iterator[dict[str, Any]]:
        """Vectors (N, D) → one `{"embedding"}` each; of pairs (N, 2, D) one `{"similarity"}`."""
        if vectors.ndim == 3:
            yield from ({"similarity": float(x)} for x in cosines_of(vectors))
        else:
            yield from ({"embedding": vector.tolist()} for vector in vectors)

    def scores(self, vectors: np.ndarray, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Of pairs' vectors (N, 2, D): how their cosines go with the scores.

        Without scores: the share of first texts whose own second text is the nearest of all, and
        the mean of 1 / its place.
        """
        if self.label is not None:
            found = correlations(cosines_of(vectors), self.due(records))
            return {"spearman": found["spearman"], "pearson": found["pearson"],
                    "examples": len(records)}  # fmt: skip
        places = pairs.ranks(*np.moveaxis(pairs.of_length_one(vectors), 1, 0))
        return {
            "accuracy": float((places == 1).mean()),
            "reciprocal_rank": float((1 / places).mean()),
            "examples": len(records),
        }

    # Serving

    def signatures(self, vectors, encode, tokenizer) -> dict:
        """`serving_default` and `tokens`, a vector a text; `similarity` of text and text_pair."""
        import tensorflow as tf

        packer = self.packer(tokenizer)

        def of_texts(ids):
            return vectors(**packer.pack_in_graph(ids, pad_to_multiple=PAD_STEP))

        spec = [tf.TensorSpec([None], tf.string, name=name) for name in ("text", "text_pair")]

        @tf.function(autograph=False, input_signature=spec)
        def similarity(text, text_pair):
            first, second = (
                tf.math.l2_normalize(of_texts(encode(texts)), -1) for texts in (text, text_pair)
            )
            return {"similarity": tf.reduce_sum(first * second, axis=-1)}

        of_text = parts.text_signatures(self.serve, encode, (of_texts, vectors), tokenizer)
        return {**of_text, "similarity": similarity}

    def serve(self, vectors):
        """Vectors (B, D), as TensorFlow operations."""
        import tensorflow as tf

        return {"embedding": tf.cast(vectors, tf.float32)}


def cosines_of(vectors: np.ndarray) -> np.ndarray:
    """Pairs of vectors (N, 2, D) → the cosine of each, (N,)."""
    first, second = np.moveaxis(pairs.of_length_one(vectors), 1, 0)
    return (first * second).sum(axis=-1)
