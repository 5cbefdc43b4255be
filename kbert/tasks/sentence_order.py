"""Whether two texts stand in their order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import keras

from kbert.heads.sentence_order import sentence_order
from kbert.inputs.sentence_pairs import sentence_orders
from kbert.tasks.next_sentence import NextSentence
from kbert.tasks.parts import setting


@dataclass(frozen=True)
class SentenceOrder(NextSentence):
    """A pair of texts → the probability that they stand in their order.

    As `NextSentence` in all but these: a false pair is a real one exchanged (Lan et al. 2020, 3.1).
    ALBERT was pretrained on it; on other architectures the head is kbert's own.

    Args:
        label: the column that says yes (or 1) where they are in order, no (or 0) where exchanged.
    """

    name: ClassVar[str] = "sentence-order"
    head: ClassVar[str] = "PreTraining"
    classes: ClassVar[tuple[str, str]] = ("InOrder", "Exchanged")
    answer: ClassVar[str] = "in_order"

    label: str = setting("label", "Column with yes or no (1 or 0): whether they are in order.")

    @staticmethod
    def pairs(texts: Sequence[Sequence[str]]):
        """Documents → pairs, half of them in order; always the same."""
        return sentence_orders(texts)

    @staticmethod
    def with_head(encoder: keras.Model) -> keras.Model:
        """The encoder with the head of the task."""
        return sentence_order(encoder)
