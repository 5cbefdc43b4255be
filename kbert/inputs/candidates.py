"""The answers that the windows of a context offer, and the likeliest of them.

Any piece of the context may be the answer, if it is not too long. Its score is that of its first
token as a start and of its last as an end; its probability is the softmax of the scores over all
pieces in all windows (a piece that two windows see, in each), and "no answer" where that may be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kbert.inputs.windows import Window, span_scores

NO_SCORE = -1e9  # of the likeliest answer in a context without tokens


@dataclass(frozen=True)
class Found:
    """What was found for a question; an answer has text, start and end (characters), and score.

    Attributes:
        answers: the likeliest, with "no answer" in its place if that is allowed.
        likeliest: the first that has a text.
        nothing: no answer, "".
        null_odds: by how much the score of no answer is above the likeliest's.
    """

    answers: list[dict[str, Any]]
    likeliest: dict[str, Any]
    nothing: dict[str, Any]
    null_odds: float


class Candidates:
    """Collects the answers of one question's windows.

    Args:
        context: the text.
        offsets: the characters [start, end) of its tokens.
        longest: most tokens in an answer.
        most_characters: most characters in it, or None.
    """

    def __init__(
        self,
        context: str,
        offsets: Sequence[tuple[int, int]],
        longest: int,
        most_characters: int | None = None,
    ):
        self.context = context
        self.starts, self.ends = np.array(offsets, np.int64).reshape(-1, 2).T
        self.longest = longest
        self.most_characters = most_characters
        self.scores: list[np.ndarray] = []
        self.first: list[int] = []  # the first token of each window
        self.null_score = np.inf

    def add(self, window: Window, start_logits: np.ndarray, end_logits: np.ndarray) -> None:
        """The answers of one window; logits (T,) of every column of its row."""
        columns = slice(window.column, window.column + window.end - window.start)
        starts, ends = (x[columns].astype("float64") for x in (start_logits, end_logits))
        scores = span_scores(starts, ends, self.longest)
        if self.most_characters is not None and len(scores):
            inside = slice(window.start, window.end)
            size = span_scores(-self.starts[inside], self.ends[inside].astype(float), self.longest)
            scores = np.where(size <= self.most_characters, scores, -np.inf)
        self.scores.append(scores)
        self.first.append(window.start)
        # [CLS]: of windows without the answer it is high, of the one that has it low.
        self.null_score = min(self.null_score, float(start_logits[0]) + float(end_logits[0]))

    def found(self, number: int, may_be_none: bool) -> Found:
        """The likeliest answers.

        Args:
            number: how many.
            may_be_none: whether "no answer" is one.
        """
        spans = self._likeliest(number)
        scores = [scores[np.isfinite(scores)] for scores in self.scores]
        everything = np.concatenate([*scores, [self.null_score][: int(may_be_none)]])
        highest = everything.max(initial=NO_SCORE)
        total = highest + np.log(np.exp(everything - highest).sum()) if len(everything) else 0.0

        def answer(start: int, end: int, score: float) -> dict[str, Any]:
            text = self.context[start:end]
            start += len(text) - len(text.lstrip())
            text = text.strip()  # tokens of bytes have the blank before
            probability = float(np.exp(score - total))
            return {"text": text, "start": start, "end": start + len(text), "score": probability}

        nothing = answer(0, 0, self.null_score if may_be_none else -np.inf)
        answers = [answer(int(self.starts[a]), int(self.ends[b]), x) for a, b, x in spans]
        best = spans[0][2] if spans else NO_SCORE
        likeliest = answers[0] if answers else nothing
        if may_be_none:
            answers.append(nothing)
            answers.sort(key=lambda answer: -answer["score"])
        return Found(answers[:number], likeliest, nothing, self.null_score - best)

    def _likeliest(self, number: int) -> list[tuple[int, int, float]]:
        """(first token, last token, score) of the best, each piece once, the best first."""
        flat = np.concatenate([scores.ravel() for scores in self.scores])
        sizes = [scores.size for scores in self.scores]
        # A piece may stand in as many windows as there are.
        wanted = min(number * len(sizes), len(flat))
        if not wanted:
            return []
        least = np.partition(flat, len(flat) - wanted)[len(flat) - wanted]
        places = np.flatnonzero((flat >= least) & np.isfinite(flat))
        places = places[np.argsort(-flat[places], kind="stable")]
        window = np.searchsorted(np.cumsum(sizes), places, side="right")
        inside = places - (np.cumsum(sizes) - sizes)[window]
        first = np.array(self.first)[window] + inside // self.longest
        last = first + inside % self.longest
        best: dict[tuple[int, int], float] = {}
        for start, end, place in zip(first.tolist(), last.tolist(), places, strict=True):
            best.setdefault((start, end), float(flat[place]))
            if len(best) == number:
                break
        return [(*tokens, score) for tokens, score in best.items()]
