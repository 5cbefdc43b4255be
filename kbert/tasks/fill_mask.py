"""The words that are missing from a text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.masked_lm import masked_lm
from kbert.inputs import gaps
from kbert.inputs.batches import batched_dataset
from kbert.inputs.gaps import GapPacker
from kbert.inputs.masking import Masking, words_of_row
from kbert.inputs.packer import Packer, Row
from kbert.inputs.records import read_plain
from kbert.inputs.tables import DELIMITERS
from kbert.inputs.windows import packed_windows
from kbert.tasks import parts
from kbert.tasks.parts import Prepared, setting
from kbert.weights import names


@dataclass(frozen=True)
class FillMask:
    """Text with [MASK] → the likeliest words for each gap.

    It is trained on plain text, of which words are masked anew in each epoch (`inputs.masking`).

    Args:
        text: the column of a record.
        max_length: the longest row in tokens, with the special ones. Longer texts are trained on
            in several rows; each gap of a longer one is filled by what stands around it.
        share: of the tokens, how many are masked in training and when measured.
        whole_words: whether all pieces of a word are masked together.
        top: words that are answered for a gap.
        delimiter, quoting, header: how tables are written, see `inputs.tables.TableForm`.
    """

    name: ClassVar[str] = "fill-mask"
    head: ClassVar[str] = "MaskedLM"
    monitor: ClassVar[str] = "val_accuracy"
    files: ClassVar[str] = "Plain text (.txt), a text a line; or CSV, TSV, JSONL, Parquet."

    text: str = setting("text", "Column with the texts, in a table.")
    max_length: int = setting(128, "Tokens in a row; longer texts become several.", least=3)
    share: float = setting(0.15, "Of the tokens, how many are masked.", least=0.0)
    whole_words: bool = setting(True, "Mask all pieces of a word together.")
    top: int = setting(5, "Words that are answered for a gap.", least=1)
    delimiter: str | None = parts.delimiter(DELIMITERS)
    quoting: bool = parts.quoting()
    header: bool = parts.header()

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise InputError(
                f"Expected a share of masked tokens between 0 and 1, came {self.share}: BERT's is "
                "0.15."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return (self.text,)

    # Records and settings

    @classmethod
    def read(cls, path, text="text", **settings) -> list[dict[str, Any]]:
        """A record for each line of a text file that is not blank, or of a table."""
        return read_plain(path, text, **parts.form_of(settings))

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]], **settings) -> "FillMask":
        """The task; there is nothing to learn of the records."""
        return cls(**settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "FillMask":
        """The task that a saved `config.json` describes."""
        return cls(**parts.own_settings(settings, cls.name))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with the class."""
        fields = ("text", "max_length", "share", "whole_words", "top", *parts.TABLE)
        return {**encoder_settings, "kbert": parts.saved(self, *fields)}

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record's text is no string."""
        parts.check_texts(records, self.inputs)

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with a masked-LM head: inputs and `masked_positions` → logits (B, M, V).

        What the encoder's checkpoint holds for the head is loaded; the rest is new.
        """
        model = masked_lm(encoder, at_positions=True)
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of the logits, the mean over the masked tokens of a batch."""
        return keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy on the masked tokens."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def dataset(self, records, tokenizer, batch_size=None, shuffle=True, seed=0, **settings):
        """Records → a `tf.data.Dataset` for `model.fit`: features, masked tokens, weights.

        Args:
            records: mappings with the task's text column.
            tokenizer: text → token ids; with [MASK].
            batch_size: rows; or `token_budget=`, tokens in a batch with padding.
            shuffle: whether each epoch has an order and masks of its own; else all have the same.
            seed: of order and masks.
            settings: see `inputs.batches.batched_dataset`.
        """
        masking = Masking.of(tokenizer, self.share, self.whole_words, seed)
        rows, words = self.rows([record[self.text] for record in records], tokenizer)

        def draw(number, epoch):
            (ids, segments), numbers = rows[number], words[number]
            ids, places, targets = masking.draw(ids, numbers, number, epoch if shuffle else 0)
            return (ids, segments, places), targets

        packer = GapPacker(self._packer(tokenizer), masking.most)
        return batched_dataset(
            packer, rows, draw=draw, batch_size=batch_size, shuffle=shuffle, seed=seed, **settings
        )

    def packer(self, tokenizer) -> GapPacker:
        """[CLS] text [SEP], or the form that the model has, and the places that are asked."""
        return GapPacker(self._packer(tokenizer))

    def _packer(self, tokenizer) -> Packer:
        return Packer.of(tokenizer, self.max_length)

    def rows(self, texts: Sequence[str], tokenizer) -> tuple[list[Row], list[np.ndarray]]:
        """Texts → packed rows, as many as it takes, and the word of each column of each row."""
        packer, rows, words = self._packer(tokenizer), [], []
        encodings = tokenizer.encode(texts)
        for window, row in packed_windows(packer, (x.ids for x in encodings), stride=0):
            rows.append(row)
            numbers = encodings[window.text].words[window.start : window.end]
            words.append(words_of_row(packer, numbers))
        return rows, words

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Texts → rows with the places of their gaps; those without gaps have none."""
        texts = [text for (text,) in parts.columns_of(inputs, self.inputs)]
        rows, found = gaps.packed_gaps(self._packer(tokenizer), texts, tokenizer)
        numbers = np.array([of_row[0].text for of_row in found], int)
        return Prepared(rows, numbers, texts, details=(found, gaps.reader(tokenizer)))

    def examples(self, records: Sequence[Mapping[str, Any]], tokenizer) -> Prepared:
        """Records → rows with masks, always the same; of each the tokens that were masked."""
        masking = Masking.of(tokenizer, self.share, self.whole_words)
        texts = [record[self.text] for record in records]
        packed, words = self.rows(texts, tokenizer)
        rows = []
        for number, (ids, segments) in enumerate(packed):
            ids, places, targets = masking.draw(ids, words[number], number)
            if len(places):
                rows.append((ids, segments, places, targets))
        return Prepared(rows, np.zeros(len(rows), int), records)

    def reduced(self, output: np.ndarray, row: tuple) -> tuple[np.ndarray, np.ndarray]:
        """Logits of a row's places, (M, V) with padding → what is asked of them.

        Returns:
            The best tokens and their probabilities, (places, top) each. Where the row has the
            tokens that were masked: the loss of each, and whether it was found, (places,) each.
        """
        logits = output[: len(row[2])].astype("float64")
        highest = logits.max(-1, keepdims=True)
        logits -= highest + np.log(np.exp(logits - highest).sum(-1, keepdims=True))
        if len(row) > 3:
            targets = row[3]
            right = logits[np.arange(len(targets)), targets]
            return -right, logits.argmax(-1) == targets
        best = np.argsort(-logits, axis=-1, kind="stable")[:, : self.top]
        return best, np.exp(np.take_along_axis(logits, best, -1))

    def merged(self, outputs: Sequence[tuple], prepared: Prepared) -> Any:
        """What `reduced` gave: a list for each text, of its gaps; or two arrays of all masks."""
        if prepared.details is None:
            pairs = zip(*outputs, strict=True) if outputs else ([], [])
            return [np.concatenate([np.zeros(0), *arrays]) for arrays in pairs]
        results: list[list] = [[] for _ in prepared.inputs]
        for output, found in zip(outputs, prepared.details[0], strict=True):
            for gap, best, scores in zip(found, *output, strict=True):
                results[gap.text].append((gap, best, scores))
        return results

    def answers(self, results: list[list], prepared: Prepared) -> Iterator[dict[str, Any]]:
        """One `{"gaps": […]}` a text: of each its characters `start`, `end` and its `words`.

        A word is a `token`, its probability `score`, and `filled`, the text with it in that gap.
        """
        read = prepared.details[1]
        for text, found in zip(prepared.inputs, results, strict=True):
            yield {"gaps": [_answer(text, *each, read) for each in found]}

    def scores(self, results: list[np.ndarray], records) -> dict[str, float]:
        """Loss and accuracy on the masked tokens, `masked` of them."""
        losses, right = results
        if not len(losses):
            raise InputError(
                f"none of {len(records)} texts has a token that could be masked: measure on longer "
                "texts, or on more of them."
            )
        return {
            "accuracy": float(np.mean(right)),
            "loss": float(np.mean(losses)),
            "masked": len(losses),
            "examples": len(records),
        }

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """`serving_default`, raw text with [MASK]; `tokens`, ids with that of [MASK], padded.

        Both give `token` string and `score` float32, (B, G, K): K words for each of G gaps. With
        raw text also `filled` string (B, G, K), the text with that word in that gap, and `start`
        and `end` int32 (B, G), the gap's characters; with ids `column` int32 (B, G). Where a text
        has fewer gaps than another, "", 0 and -1 stand for the rest.
        """
        import tensorflow as tf

        from kbert.inputs import gaps_in_graph as graph

        packer, mask_id = self._packer(tokenizer), tokenizer.special_id("mask_token")
        width = len(tokenizer.special_tokens["mask_token"])
        read = gaps.reader(tokenizer)
        begins, words = graph.surfaces([read(i) for i in range(tokenizer.vocab_size)])
        top = min(self.top, tokenizer.vocab_size)

        def best_tokens(features, places):
            best = graph.best_in_pieces(logits, top, tokenizer.vocab_size)(**features)
            return graph.of_places(best, places)

        def answered(counts, best, score, **others):
            answers = {"token": tf.gather(words, best), "score": score, **others}
            return {key: graph.padded(value, counts) for key, value in answers.items()}

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")]
        )
        def serving_default(text):
            text = graph.as_utf_8(text)
            ids, _, ends = encode.with_offsets(text)
            features, places, gap = graph.packed_gaps(packer, ids, mask_id)
            best, score = best_tokens(features, places)
            counts, end = gap.row_lengths(), tf.gather(ends, gap, batch_dims=1).values
            graph.check_size(text, counts, top)
            filled = graph.filled(
                tf.repeat(text, counts), end - width, end, tf.gather(begins, best),
                tf.gather(words, best),
            )  # fmt: skip
            return answered(counts, best, score, filled=filled, start=end - width, end=end)

        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")],
        )
        def tokens(token_ids):
            features = parts.features_in_graph(token_ids, tokenizer)
            column = graph.places_of(token_ids == mask_id)
            best, score = best_tokens(graph.with_places(features, column), column)
            return answered(column.row_lengths(), best, score, column=column.values)

        return {"serving_default": serving_default, "tokens": tokens}


def _answer(text: str, gap: gaps.Gap, best, scores, read) -> dict[str, Any]:
    words = [
        {
            "token": read(i).removeprefix(" "),
            "score": float(score),
            "filled": gaps.filled(text, gap, read(i)),
        }
        for i, score in zip(best.tolist(), scores, strict=True)
    ]
    return {"start": gap.start, "end": gap.end, "words": words}
