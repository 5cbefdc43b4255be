"""The names in a text: entities with type, characters and score, from a label for every word."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import keras
import numpy as np

from kbert.errors import InputError
from kbert.heads.tokens import token_classification
from kbert.inputs import conll
from kbert.inputs.batches import IGNORED, batched_dataset
from kbert.inputs.files import ending
from kbert.inputs.packer import Packer, warn_of_cut
from kbert.inputs.records import read_texts
from kbert.inputs.tags import SCHEMES, Entity, breaks, entities, from_iob2, split_tag
from kbert.inputs.windows import check_window, own_columns
from kbert.inputs.words import Sentence, packed_sentences, sentences, tags_with_tokens
from kbert.tasks import parts
from kbert.tasks.entities import EntityF1, entity_scores, entity_signatures
from kbert.tasks.parts import Prepared, setting
from kbert.weights import names


@dataclass(frozen=True)
class TokenClassification:
    """Words with tags → entities.

    The first token of a word carries its label, as in Devlin et al. 2019, 5.3. A model trained
    here has labels in IOB2, whatever scheme its data are in; one from elsewhere keeps its own.

    Args:
        labels: the C labels, in the order of the logits.
        words, tags: the columns of a record; each holds a list of strings.
        text: the column of texts that are asked whole.
        scheme: in which answers to words write their tags.
        max_length: the longest row in tokens, with [CLS] and [SEP].
        stride: None: what is longer is cut, and its words there are O. Else the tokens that two
            windows of a longer sentence share; each word then is answered, and learned, where it
            has the most context.
        label_all: whether all tokens of a word are learned, not its first alone.
        repair: whether files may have tags that break their scheme, read as conlleval does.
        dropout: probability of dropping a value of the sequence in training.
    """

    name: ClassVar[str] = "token-classification"
    head: ClassVar[str] = "TokenClassification"
    monitor: ClassVar[str] = "val_f1"
    files: ClassVar[str] = "CoNLL; or JSONL, Parquet with lists of words and tags."

    labels: tuple[str, ...]
    words: str = setting(conll.WORDS, "Column with the words; in CoNLL a number, or the first.")
    tags: str = setting(conll.TAGS, "Column with their tags; in CoNLL a number, or the last.")
    scheme: str = setting("IOB2", "Of the tags in answers; files tell theirs.", choices=SCHEMES)
    max_length: int = setting(128, "Tokens; the rest is cut.", least=3)
    stride: int | None = setting(
        None, "Take longer sentences whole: in windows of --max-length that share so many tokens.",
        kind=int, least=0, metavar="TOKENS",
    )  # fmt: skip
    label_all: bool = setting(False, "Learn all tokens of a word, not its first alone.")
    repair: bool = setting(False, "Read tags that break their scheme as conlleval does.")
    dropout: float = 0.1
    text: str = "text"

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(set(self.labels)) < max(2, len(self.labels)):
            raise InputError(
                f"expected two labels or more, each once; got {', '.join(self.labels) or 'none'}: "
                "O, and B- and I- for every type of entity."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are asked."""
        return (self.text,)

    # Records and settings

    @classmethod
    def read(cls, path, words=conll.WORDS, tags=conll.TAGS, repair=False, **_):
        """The records of a file, their tags in IOB2; see `conll.read_tagged`."""
        return conll.read_tagged(path, words, tags, repair)

    def read_inputs(self, path) -> Iterator[Any]:
        """What is asked in a file: words of CoNLL, lists of words in a table; or texts."""
        if ending(path) in (".txt", ".csv", ".tsv"):
            return read_texts(path, self.text)
        sentences = conll.read_words(path, self.words)
        try:
            return chain([next(sentences)], sentences)
        except StopIteration:
            return iter(())
        except InputError:
            if ending(path) in conll.TABLES:  # without words: texts, then
                return read_texts(path, self.text)
            raise

    @classmethod
    def from_records(
        cls, records: Sequence[Mapping[str, Any]], tags=conll.TAGS, **settings
    ) -> "TokenClassification":
        """The task whose labels are O, and B- and I- of the records' types in order."""
        kinds = sorted({split_tag(tag)[1] for record in records for tag in record[tags]} - {""})
        if not kinds:
            raise InputError(
                f"expected entities to learn, came {len(records)} sentences with O for every word."
            )
        labels = ("O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))
        return cls(labels, tags=tags, **settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "TokenClassification":
        """The task that a saved `config.json` describes.

        Raises:
            InputError: it has no labels.
        """
        return cls(parts.restored_labels(settings), **parts.restored(settings, cls.name))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with class and labels."""
        fields = ("words", "tags", "scheme", "max_length", "stride", "label_all", "repair", "text")
        kept = {key: x for key, x in encoder_settings.items() if key != "problem_type"}
        return {
            **kept,
            "classifier_dropout": self.dropout,
            **parts.label_settings(self.labels),
            "kbert": parts.saved(self, *fields),
        }

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record has not a tag in IOB2, and known, for every word."""
        for number, record in enumerate(records, 1):
            conll.check_tagged(record, self.words, self.tags, f"record {number}")
            if broken := breaks(record[self.tags], "IOB2"):
                tag = record[self.tags][broken[0]]
                raise InputError(
                    f"record {number}: expected tags in IOB2, came {tag!r} for "
                    f"{record[self.words][broken[0]]!r}: bring tags of other schemes into it with "
                    "kbert.inputs.tags.to_iob2."
                )
        conll.check_known(records, self.tags, self.labels)

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with a classifier of tokens: inputs → logits, float32 (B, T, C).

        What the encoder's checkpoint holds for the head, and fits, is loaded; the rest is new.
        """
        model = token_classification(encoder, len(self.labels), self.dropout)
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of the logits, the mean over the tokens that carry a label."""
        return keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """F1 of the entities, accuracy of the tokens that carry a label."""
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        return [EntityF1(self.labels, name="f1"), accuracy]

    def label_counts(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """How many words have each label, int (C,)."""
        tags = [tag for record in records for tag in record[self.tags]]
        return np.bincount(parts.label_numbers(self.labels, tags), minlength=len(self.labels))

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets, weights) for `model.fit`.

        Args:
            records: mappings with the task's words and tags.
            tokenizer: text → token ids.
            batch_size: rows; or `token_budget=`, tokens in a batch with padding.
            settings: see `inputs.batches.batched_dataset` (shuffle, seed, remainder, …).

        Raises:
            InputError: an entity has no token that could carry its label.
        """
        self.check(records)
        packer = self.packer(tokenizer)
        found = sentences([record[self.words] for record in records], tokenizer)
        labels = [
            self.targets(sentence, record[self.tags], f"record {number}")
            for number, (sentence, record) in enumerate(zip(found, records, strict=True), 1)
        ]
        warn_of_cut(self._cut(packer, found), len(found), self.max_length)
        rows, targets = [], []
        for window, row in packed_sentences(packer, found, self.stride):
            own = labels[window.text][window.own_start : window.own_end]
            targets.append(np.full(len(row[0]), IGNORED, np.int32))
            targets[-1][own_columns(window)] = own
            rows.append(row)
        return batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)

    def targets(self, sentence: Sentence, tags: Sequence[str], where: str) -> np.ndarray:
        """The label's number for each token, or IGNORED: int32 (tokens,).

        Raises:
            InputError: an entity has no token that could carry its label.
        """
        number = {label: i for i, label in enumerate(self.labels)}
        if len(sentence.first) < len(sentence):
            tags = tags_with_tokens(sentence, tags, where)
        labels = np.full(len(sentence.ids), IGNORED, np.int32)
        labels[sentence.first] = [number[tag] for tag in tags]
        if self.label_all:
            rest = [number[tag if tag == "O" else f"I-{split_tag(tag)[1]}"] for tag in tags]
            word = np.zeros(len(labels), np.int64)
            word[sentence.first[1:]] = 1
            labels = np.where(labels == IGNORED, np.array(rest)[np.cumsum(word)], labels)
        return labels.astype(np.int32)

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has, cut to `max_length`.

        Raises:
            InputError: `max_length` leaves no room, or no more than the stride.
        """
        packer = Packer.of(tokenizer, self.max_length)
        check_window(packer.room(), self.stride or 0, f" (max_length={self.max_length})")
        return packer

    def _cut(self, packer: Packer, found: Sequence[Sentence]) -> int:
        """How many sentences lose what is too long."""
        room = packer.room()
        return sum(len(sentence.ids) > room for sentence in found) if self.stride is None else 0

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Texts, or lists of words → rows, one or more each."""
        packer = self.packer(tokenizer)
        found = sentences([self._words_or_text(x) for x in inputs], tokenizer)
        packed = list(packed_sentences(packer, found, self.stride))
        windows = [window._replace(ids=None) for window, _ in packed]
        numbers = np.array([window.text for window in windows], int)
        rows = [row for _, row in packed]
        return Prepared(rows, numbers, inputs, (windows, found), self._cut(packer, found))

    def _words_or_text(self, asked: Any) -> str | Sequence[str]:
        if isinstance(asked, Mapping):
            asked = asked[self.words] if self.words in asked else asked[self.text]
        if not isinstance(asked, str):
            conll.check_strings(asked, self.words, "what is asked")
        return asked

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> list[np.ndarray]:
        """Logits, (T, C) a row → for each text the probabilities of its words' labels, (W, C).

        A word without a label of its own, as it has no token or was cut, has zeros.
        """
        windows, found = prepared.details
        of_texts: list[list[np.ndarray]] = [[] for _ in found]
        for window, output in zip(windows, outputs, strict=True):
            of_texts[window.text].append(output[own_columns(window)])
        results = []
        for sentence, tokens in zip(found, of_texts, strict=True):
            logits = np.concatenate(tokens)
            result = np.zeros((len(sentence), len(self.labels)))
            seen = sentence.first < len(logits)
            result[sentence.words[seen]] = parts.softmax(logits[sentence.first[seen]])
            results.append(result)
        return results

    def tags_of(self, probabilities: np.ndarray) -> list[str]:
        """The likeliest label of each word; O where it has none."""
        best = probabilities.argmax(axis=-1)
        return [
            self.labels[label] if row[label] else "O"
            for label, row in zip(best, probabilities, strict=True)
        ]

    def answers(self, results: Sequence[np.ndarray], prepared: Prepared) -> Iterator[dict]:
        """One `{"entities": […]}` a text; for words also their `tags`.

        An entity has its `type`, its `text`, that text's characters [`start`, `end`) and a `score`,
        the mean of its words' probabilities. Of words, characters count as if a blank stood
        between them, and `words` says which [start, end).
        """
        for sentence, probabilities in zip(prepared.details[1], results, strict=True):
            tags, scores = self.tags_of(probabilities), probabilities.max(axis=-1, initial=0)
            found = entities(tags)
            answer = {"entities": [_answer(sentence, entity, scores) for entity in found]}
            if sentence.given:
                answer["tags"] = from_iob2(tags, self.scheme)
            yield answer

    def scores(self, results: Sequence[np.ndarray], records) -> dict[str, Any]:
        """Figures on records with their tags, as conlleval and seqeval count them.

        An entity is found if its type, its first and its last word are right. Precision, recall
        and F1 of all types together (micro), then of each; accuracy of the words' tags.
        """
        return {
            **entity_scores(
                [self.tags_of(probabilities) for probabilities in results],
                [record[self.tags] for record in records],
            ),
            "examples": len(records),
        }

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """The served functions; see `entities.entity_signatures`."""
        packer = self.packer(tokenizer)
        return entity_signatures(self.labels, packer, self.stride, logits, encode, tokenizer)


def _answer(sentence: Sentence, entity: Entity, scores: np.ndarray) -> dict[str, Any]:
    words = slice(entity.start, entity.end)
    start, end = int(sentence.starts[entity.start]), int(sentence.ends[words].max())
    answer = {
        "type": entity.type, "text": sentence.text[start:end], "start": start, "end": end,
        "score": float(scores[words].mean()),
    }  # fmt: skip
    return answer | ({"words": [entity.start, entity.end]} if sentence.given else {})
