"""What tasks ask that read a text or a pair: rows for a model, cut or in windows.

Letters: N texts or pairs, R rows, B a batch, C outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kbert.errors import InputError
from kbert.inputs.packer import PAD_STEP, Packer, Row
from kbert.inputs.windows import check_window, mean_of_windows, packed_windows
from kbert.tasks import parts
from kbert.tasks.parts import Prepared


@dataclass(frozen=True)
class Texts:
    """A text or a pair → rows of at most `max_length` tokens.

    Attributes:
        columns: the column of the text; of a pair, both.
        max_length: in tokens with the special ones.
        stride: None: what is too long is cut. Else the tokens that two windows share: of a text
            (of a pair, its second), in so many windows as it needs. The first text of a pair
            stands whole in each, or its first half of the room that the stride leaves.
    """

    columns: tuple[str, ...]
    max_length: int
    stride: int | None = None

    def packer(self, tokenizer) -> Packer:
        """[CLS] text [SEP], or the form that the model has, cut to `max_length`.

        Raises:
            InputError: `max_length` leaves no room, or no more than the stride.
        """
        packer = Packer.of(tokenizer, self.max_length)
        room = packer.room(len(self.columns))
        if self.stride is not None:
            check_window(room, self.stride, f" (max_length={self.max_length})")
        return packer

    def ids(self, inputs: Sequence[Any], tokenizer) -> list[tuple[list[int], ...]]:
        """The token ids of each input: of its text, or of both.

        Raises:
            InputError: an input has not as many texts as the task asks.
        """
        found = parts.columns_of(inputs, self.columns)
        for texts in found:
            if len(texts) != len(self.columns):
                raise InputError(
                    f"expected {len(self.columns)} texts together ({', '.join(self.columns)}), "
                    f"came {len(texts)}: {texts!r}."
                )
        columns = zip(*found, strict=True)
        return list(zip(*(tokenizer(texts) for texts in columns), strict=True))

    def rows(self, inputs: Sequence[Any], tokenizer) -> tuple[list[Row], int]:
        """One row an input, and how many inputs were cut."""
        packer, found = self.packer(tokenizer), self.ids(inputs, tokenizer)
        rows = [packer.pack(*ids) for ids in found]
        room = packer.room(len(self.columns))
        return rows, sum(sum(map(len, ids)) > room for ids in found)

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        """Rows as answers need them: one an input, or with a stride one or more."""
        if self.stride is None:
            rows, cut = self.rows(inputs, tokenizer)
            return Prepared(rows, np.arange(len(rows)), inputs, cut=cut)
        packer, rows, numbers = self.packer(tokenizer), [], []
        *first, texts = zip(*self.ids(inputs, tokenizer), strict=True) if inputs else [()]
        most = self.most_of_first(packer)
        questions = [ids[:most] for ids in first[0]] if first else None
        for window, row in packed_windows(packer, texts, self.stride, questions):
            rows.append(row)
            numbers.append(window.text)
        return Prepared(rows, np.array(numbers, int), inputs)

    def most_of_first(self, packer: Packer) -> int:
        """The tokens that the first text of a pair keeps before windows of the second."""
        # A longer one would leave windows that hardly move on, thousands of them for one text.
        return (packer.room(2) - self.stride) // 2 if len(self.columns) == 2 else 0

    def merged(self, outputs: Sequence[np.ndarray], prepared: Prepared, form) -> np.ndarray:
        """Outputs, (C,) a row → of inputs, float32 (N, C): the mean of the votes of the windows.

        Args:
            form: its `votes` are what a mean is taken of, its `logits` the way back.
        """
        outputs = np.array(outputs, "float32").reshape(-1, len(form.labels))
        if self.stride is None:
            return outputs
        mean = mean_of_windows(form.votes(outputs), prepared.numbers)
        return form.logits(mean).astype("float32")

    def in_graph(self, logits, tokenizer, form):
        """`prepare`, the model and `merged` as TensorFlow operations: ids of texts → (N, C)."""
        from kbert.inputs import windows_in_graph

        packer = self.packer(tokenizer)
        most = self.most_of_first(packer) if self.stride is not None else 0

        def whole(*ids):
            return logits(**packer.pack_in_graph(*ids, pad_to_multiple=PAD_STEP))

        def in_windows(*ids):
            *first, texts = ids
            questions = first[0][:, :most] if first else None
            found, features = windows_in_graph.packed_windows_in_graph(
                packer, texts, self.stride, questions, PAD_STEP
            )
            votes = form.votes_in_graph(logits(**features))
            return form.logits_in_graph(windows_in_graph.mean_of_windows(votes, found.text))

        return whole if self.stride is None else in_windows
