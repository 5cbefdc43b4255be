"""Questions answered from a text, by the piece of it that is the answer; or by none."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kbert.errors import InputError, InputWarning
from kbert.heads.span import span
from kbert.inputs import squad
from kbert.inputs.batches import batched_dataset
from kbert.inputs.candidates import Candidates, Found
from kbert.inputs.packer import Packer, Row
from kbert.inputs.windows import Window, check_window, packed_windows
from kbert.tasks import parts
from kbert.tasks.answers import answer_signatures, scores_of_answers, scores_with_nothing
from kbert.tasks.parts import Prepared, setting
from kbert.weights import names

# The logit of a token that is padding: no probability, and no infinity that a mean could meet.
NEVER = -1e9


@dataclass(frozen=True)
class QuestionAnswering:
    """Question and context → the answer, a piece of the context; or none (SQuAD 1 and 2).

    As in Devlin et al. 2019, 4.2 and 4.3: the context in windows behind the question; of each token
    the scores of beginning and ending the answer; [CLS] stands for no answer.

    Args:
        max_length: the longest row in tokens, with question and special tokens.
        stride: tokens that two windows of a longer context share.
        max_question_length: tokens of a question; what is longer is cut.
        max_answer_length: most tokens in an answer.
        max_answer_characters: most characters in it, or None for any number.
        num_answers: how many answers are given, the likeliest first.
        threshold: no answer is given where its score is above that of the likeliest by more than
            this (`null_odds`); None where every question has an answer.
        realign: whether files may have answers that do not stand where they say: they are moved to
            the nearest place where they do.
    """

    name: ClassVar[str] = "question-answering"
    head: ClassVar[str] = "QuestionAnswering"
    monitor: ClassVar[str] = "val_accuracy"
    files: ClassVar[str] = "SQuAD's JSON; or JSONL, Parquet with id, question, context, answers."
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")

    max_length: int = setting(384, "Tokens of a window, with the question.", least=5)
    stride: int = setting(128, "Tokens that two windows share.", least=0)
    max_question_length: int = setting(64, "Tokens of a question; the rest is cut.", least=1)
    max_answer_length: int = setting(30, "Most tokens in an answer.", least=1)
    max_answer_characters: int | None = setting(
        None, "Most characters in an answer.", kind=int, least=1
    )
    num_answers: int = setting(1, "How many answers are given, the likeliest first.", least=1)
    threshold: float | None = setting(
        None, "Of no answer's score above the likeliest's, for none to be given.  [default: 0 if "
        "training has questions without answer]", kind=float,
    )  # fmt: skip
    realign: bool = setting(False, "Move answers to where their text stands, if offsets are off.")

    # Records and settings

    @classmethod
    def read(cls, path, realign=False, **_) -> list[dict[str, Any]]:
        """The questions of a file; see `squad.read_squad`."""
        return squad.read_squad(path, realign)

    @classmethod
    def read_inputs(cls, path) -> Iterator[dict[str, str]]:
        """The questions of a file, without their answers."""
        return squad.read_questions(path)

    @classmethod
    def from_records(
        cls, records: Sequence[Mapping[str, Any]], threshold=None, **settings
    ) -> "QuestionAnswering":
        """The task; it gives no answer to some questions if some records have none."""
        if threshold is None and not all(squad.answers_of(record) for record in records):
            threshold = 0.0
        return cls(threshold=threshold, **settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "QuestionAnswering":
        """The task that a saved `config.json` describes."""
        return cls(**parts.own_settings(settings, cls.name))

    def settings(self, encoder_settings: Mapping[str, Any]) -> dict:
        """`config.json` of a model with this head: the encoder's, with the class, without labels.

        As many as an encoder's file has, so many numbers transformers would want for a token.
        """
        labels = ("id2label", "label2id", "num_labels", "problem_type")
        kept = {key: value for key, value in encoder_settings.items() if key not in labels}
        return {**kept, "kbert": parts.saved(self, *vars(self))}

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises an InputError if a record cannot be learned; see `squad.check_questions`."""
        squad.check_questions(records)

    # Training

    def model(self, encoder: keras.Model) -> keras.Model:
        """The encoder with a head for spans: inputs → logits of start and end, float32 (B, 2, T).

        Where a row is padded they are very low. What the encoder's checkpoint holds for the head
        is loaded; else it is new.
        """
        model = span(encoder)
        real = ops.expand_dims(model.input["padding_mask"], 1)
        logits = ops.where(real, ops.transpose(model.output, (0, 2, 1)), NEVER)
        model = keras.Model(model.input, logits, name="question_answering")
        names.load_head(model, encoder, self.head)
        return model

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy over the places of a row, the mean of start and end."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy: the share of starts and ends that are found."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def dataset(self, records, tokenizer, batch_size=None, **settings):
        """Records → a `tf.data.Dataset` of (features, targets) for `model.fit`.

        A row is a window; its targets, int32 (2,), are the columns of the first and last token of
        the question's first answer, or of [CLS] where the window has not all of it. Questions
        whose answers have no place (see `squad.read_squad`) are left out.

        Args:
            records: mappings with question, context and answers.
            tokenizer: text → token ids.
            batch_size: rows; or `token_budget=`, tokens in a batch with padding.
            settings: see `inputs.batches.batched_dataset` (shuffle, seed, remainder, …).
        """
        self.check(records)
        records = [record for record in records if self._can_be_learned(record)]
        rows, targets = [], []
        found, encodings = self._packed(records, tokenizer)
        spans = [
            _tokens_of_answer(record, encoding)
            for record, encoding in zip(records, encodings, strict=True)
        ]
        for window, row in found:
            start, end = spans[window.text]
            inside = window.start <= start < end <= window.end
            shift = window.column - window.start
            targets.append((start + shift, end + shift - 1) if inside else (0, 0))
            rows.append(row)
        targets = np.array(targets, np.int32).reshape(-1, 2)
        packer = self.packer(tokenizer)
        dataset = batched_dataset(packer, rows, targets, batch_size=batch_size, **settings)
        # A row's weight, if it has one, is that of both its targets.
        return dataset.map(
            lambda inputs, due, *weights: (inputs, due, *(x[:, None] for x in weights))
        )

    @staticmethod
    def _can_be_learned(record) -> bool:
        answers = squad.answers_of(record)
        return not answers or any(start is not None for _, start in answers)

    def packer(self, tokenizer) -> Packer:
        """[CLS] question [SEP] context [SEP], or the form that the model has.

        Raises:
            InputError: nothing stands before the texts that could mean "no answer"; or what the
                longest question leaves of `max_length` is not more than the stride.
        """
        packer = Packer.of(tokenizer, self.max_length, "only_second")
        if not packer.form.prefix:
            raise InputError(
                "Expected a tokenizer that puts a token before the texts, as BERT's [CLS], which "
                "stands for no answer; this one does not."
            )
        room = packer.room(2) - self.max_question_length
        check_window(
            room, self.stride,
            f" (max_length={self.max_length}, max_question_length={self.max_question_length})",
        )  # fmt: skip
        return packer

    def _packed(self, records, tokenizer) -> tuple[Iterator[tuple[Window, Row]], list]:
        """The windows of all questions' contexts as rows, and the contexts' encodings."""
        packer = self.packer(tokenizer)
        asked = parts.columns_of(records, self.inputs)
        parts.check_texts([dict(zip(self.inputs, x, strict=True)) for x in asked], self.inputs)
        questions = tokenizer([question for question, _ in asked])
        cut = sum(len(ids) > self.max_question_length for ids in questions)
        if cut:
            warnings.warn(
                f"{cut:,} of {len(questions):,} questions are longer than max_question_length="
                f"{self.max_question_length} tokens and were cut.",
                InputWarning,
                stacklevel=3,
            )
        questions = [ids[: self.max_question_length] for ids in questions]
        # Many questions have one context.
        contexts = list(dict.fromkeys(context for _, context in asked))
        encoded = dict(zip(contexts, tokenizer.encode(contexts), strict=True))
        encodings = [encoded[context] for _, context in asked]
        texts = (encoding.ids for encoding in encodings)
        return packed_windows(packer, texts, self.stride, questions), encodings

    # Answers

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Questions and contexts → a row for each window of a context."""
        found, encodings = self._packed(inputs, tokenizer)
        found = list(found)
        windows = [window._replace(ids=None) for window, _ in found]
        numbers = np.array([window.text for window in windows], int)
        rows = [row for _, row in found]
        contexts = [context for _, context in parts.columns_of(inputs, self.inputs)]
        offsets = [encoding.offsets for encoding in encodings]
        return Prepared(rows, numbers, inputs, (windows, contexts, offsets))

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared) -> list[Found]:
        """Logits, (2, T) a row → what was found for each question, over all windows."""
        windows, contexts, offsets = prepared.details
        limits = self.max_answer_length, self.max_answer_characters
        questions = [
            Candidates(context, of_context, *limits)
            for context, of_context in zip(contexts, offsets, strict=True)
        ]
        for window, output in zip(windows, outputs, strict=True):
            questions[window.text].add(window, *output)
        return [
            candidates.found(self.num_answers, self.threshold is not None)
            for candidates in questions
        ]

    def chosen(self, found: Found) -> dict[str, Any]:
        """The one answer, as the threshold has it."""
        is_none = self.threshold is not None and found.null_odds > self.threshold
        return found.nothing if is_none else found.likeliest

    def answers(self, results: Sequence[Found], prepared=None) -> Iterator[dict[str, Any]]:
        """One `{"answer", "start", "end", "score"}` a question: characters [start, end) of its
        context, and the probability among all answers that it could have.

        No answer is "" with start = end = 0. Where that is possible, `null_odds` tells by how much
        its score is above the likeliest's. With several to give, `answers` lists them.
        """
        for found in results:
            answer = {
                "answer" if key == "text" else key: x for key, x in self.chosen(found).items()
            }
            if self.threshold is not None:
                answer["null_odds"] = found.null_odds
            if self.num_answers > 1:
                answer["answers"] = found.answers
            yield answer

    def scores(self, results: Sequence[Found], records) -> dict[str, float]:
        """Exact match and F1 as the official scripts have them, in shares of 1.

        That of SQuAD 1.1, or where a question may have no answer that of 2.0; see `tasks.answers`.
        """
        found = [self.chosen(result)["text"] for result in results]
        due = [[text for text, _ in squad.answers_of(record)] for record in records]
        if self.threshold is None and all(due):
            scores = scores_of_answers(found, due)
        else:
            likeliest = [result.likeliest["text"] for result in results]
            odds = [result.null_odds for result in results]
            scores = scores_with_nothing(found, due, likeliest, odds)
        return {**scores, "examples": len(records)}

    # Serving

    def signatures(self, logits, encode, tokenizer) -> dict:
        """The served functions; see `tasks.answers.answer_signatures`."""
        return answer_signatures(self, self.packer(tokenizer), logits, encode, tokenizer)


def _tokens_of_answer(record, encoding) -> tuple[int, int]:
    """The tokens [start, end) of a record's first answer that has a place; (-1, -1) for none."""
    for text, start in squad.answers_of(record):
        if start is not None:
            starts, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T
            inside = np.flatnonzero((ends > start) & (starts < start + len(text)))
            return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (-1, -1)
    return -1, -1
