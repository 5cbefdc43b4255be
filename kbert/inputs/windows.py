"""Long texts: overlapping windows of their tokens, and the way back to one answer a text.

    tokens      0 1 2 3 4 5 6 7 8 9      window 5, stride 2
    window 0    0 1 2 3 4                its own: 0 1 2 3
    window 1          3 4 5 6 7                   4 5 6
    window 2                6 7 8 9               7 8 9

`stride` is Hugging Face's: the tokens that two neighbours share. (BERT's `doc_stride` is the step
from one window to the next, window - stride.) Windows come one at a time and only one is held, so
that a text of any length costs the memory of the batch that is made of them.

The way back: `mean_of_windows` for classes; `spans_of_windows` and `best_spans` for answers;
`own_outputs`, and `first_tokens` of words, for entities. `windows_in_graph` has the same as
TensorFlow operations. Letters: N texts, W windows, T columns of a packed row.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, NamedTuple

import numpy as np

from kbert.errors import InputError
from kbert.inputs.packer import Packer, Row


class Window(NamedTuple):
    """A stretch of one text's tokens; or W of them, every field an array (W,), from `stack`.

    Attributes:
        ids: the token ids.
        text: the number of the text.
        start, end: its tokens [start, end) in the text.
        own_start, own_end: of these, the ones that no other window sees with more context. Every
            token of a text is one window's own.
        column: where the first of its tokens stands in the packed row.
    """

    ids: Any
    text: Any
    start: Any
    end: Any
    own_start: Any
    own_end: Any
    column: Any


class Span(NamedTuple):
    """Answers: tokens [start, end) of a text and their score, each an array (W,) or (N,).

    Where a text has no tokens, start = end = 0 and the score is -inf.
    """

    text: Any
    start: Any
    end: Any
    score: Any


def windows(ids: Iterable[int], window: int, stride: int, text: int = 0) -> Iterator[Window]:
    """Windows over one text, the last one as short as it comes, as `transformers` cuts them.

    Args:
        ids: token ids without special tokens; an iterator is read as windows are asked for.
        window: tokens in a window.
        stride: tokens that two neighbours share.
        text: the number of the text.

    Returns:
        An iterator of one window or more; an empty text has one, empty.

    Raises:
        InputError: the stride is not smaller than the window, or negative.
    """
    check_window(window, stride)
    return _windows(iter(ids), window, window - stride, text)


def packed_windows(
    packer: Packer,
    texts: Iterable[Iterable[int]],
    stride: int,
    questions: Iterable[Sequence[int]] | None = None,
) -> Iterator[tuple[Window, Row]]:
    """The windows of many texts as packed rows, one at a time.

    Args:
        packer: its `max_length` is the length of a full row.
        texts: token ids of each text; iterators are read as windows are asked for.
        stride: tokens that two neighbours share.
        questions: token ids of one for each text, which stands whole before each of its windows.

    Yields:
        `(window, row)`.

    Raises:
        InputError: what the special tokens and a question leave of `max_length` is not more than
            the stride.
    """
    pairs = zip(texts, repeat(None)) if questions is None else zip(texts, questions, strict=True)
    for number, (ids, question) in enumerate(pairs):
        before = [] if question is None else [question]
        room, column = window_in(packer, len(question or ()), len(before) + 1)
        check_window(room, stride, f" (max_length={packer.max_length}, text {number})")
        for window in windows(ids, room, stride, number):
            yield window._replace(column=column), packer.pack(*before, window.ids)


def window_in(packer: Packer, question, num_texts: int):
    """The tokens of a full window in a packed row, and the column of its first token.

    Args:
        packer: adds the special tokens.
        question: the tokens of what stands before it, 0 if nothing; or int32 (N,) in the graph.
        num_texts: 1, or 2 with a question.
    """
    special = len(packer.form.prefix) + len(packer.form.between) * (num_texts - 1)
    return packer.room(num_texts) - question, special + question


def stack(parts: Sequence[Window]) -> Window:
    """W windows as one whose fields are int64 arrays (W,), and whose ids are a list of lists."""
    ids, *numbers = zip(*parts, strict=True) if parts else [()] * len(Window._fields)
    return Window(list(ids), *(np.array(field, np.int64) for field in numbers))


def mean_of_windows(outputs: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """One output a text: the mean of those of its windows.

    Give it probabilities, not logits. Every window then has one vote of the same size and the
    result is again probabilities; a mean of logits lets one window that is very sure outvote all.

    Args:
        outputs: float (W, …).
        texts: int (W,), the number of each window's text, 0 to N - 1.

    Returns:
        (N, …), dtype of `outputs`.
    """
    counts = np.bincount(texts)
    sums = np.zeros((len(counts), *outputs.shape[1:]), outputs.dtype)
    np.add.at(sums, texts, outputs)
    return sums / counts.reshape(-1, *[1] * (outputs.ndim - 1)).astype(outputs.dtype)


def span_scores(start_scores: np.ndarray, end_scores: np.ndarray, longest: int) -> np.ndarray:
    """The scores of all answers in a window, start + end.

    Args:
        start_scores, end_scores: float (L,), of the window's tokens.
        longest: most tokens in an answer.

    Returns:
        (L, longest): at [i, n] the answer of n + 1 tokens from token i on; -inf beyond the window.
    """
    if not len(start_scores):
        return np.zeros((0, longest), end_scores.dtype)
    beyond = np.full(longest - 1, -np.inf, end_scores.dtype)
    ends = np.concatenate([end_scores, beyond])
    return start_scores[:, np.newaxis] + np.lib.stride_tricks.sliding_window_view(ends, longest)


def spans_of_windows(start_scores, end_scores, stacked: Window, longest: int) -> Span:
    """The best answer in each window: the highest start + end score, start first, not too long.

    Args:
        start_scores, end_scores: float (W, T), for every column of the packed rows.
        stacked: the W windows.
        longest: most tokens in an answer.

    Returns:
        Spans (W,), in tokens of the texts. Of equal scores the first start wins, then first end.
    """
    spans = []
    for number, (start, end, column) in enumerate(
        zip(stacked.start, stacked.end, stacked.column, strict=True)
    ):
        columns = slice(column, column + end - start)
        sums = span_scores(start_scores[number, columns], end_scores[number, columns], longest)
        if not sums.size:
            spans.append((start, start, -np.inf))
            continue
        first, more = np.unravel_index(sums.argmax(), sums.shape)
        spans.append((start + first, start + first + more + 1, sums[first, more]))
    starts, ends, scores = zip(*spans, strict=True) if spans else ((), (), ())
    score = np.array(scores, start_scores.dtype)
    return Span(stacked.text, np.array(starts, np.int64), np.array(ends, np.int64), score)


def best_spans(spans: Span) -> Span:
    """One answer a text: the best of its windows' spans (W,) → (N,); of equal ones the first."""
    order = np.lexsort((-spans.score, spans.text))  # equals stay in the order they came
    _, first = np.unique(spans.text[order], return_index=True)
    return Span(*(field[order[first]] for field in spans))


def own_outputs(outputs: np.ndarray, stacked: Window) -> np.ndarray:
    """Each token's output from the window where it has the most context (BERT, run_squad.py).

    Context is the smaller of the numbers of tokens to its left and right in the window, and a
    hundredth of the window's length; of equal windows the first is taken.

    Args:
        outputs: (W, T, …), for every column of the packed rows.
        stacked: the W windows.

    Returns:
        (tokens, …): of the windows' own tokens, in their order. So batches can be merged one by
        one: a text's tokens are complete with its last window.
    """
    rows, columns = [], []
    for number, window in enumerate(zip(*stacked[1:], strict=True)):
        _, start, _, own_start, own_end, column = window
        columns.append(np.arange(own_start, own_end) + (column - start))
        rows.append(np.full(own_end - own_start, number))
    if not rows:
        return outputs[:0, 0]
    return outputs[np.concatenate(rows), np.concatenate(columns)]


def own_columns(window: Window) -> slice:
    """The columns of a window's own tokens in its packed row."""
    shift = window.column - window.start
    return slice(window.own_start + shift, window.own_end + shift)


def first_tokens(words: Sequence[int | None]) -> np.ndarray:
    """Where words begin: a word's answer is that of its first token (Devlin et al. 2019, 5.3).

    Args:
        words: the number of each token's word (`Encoding.words`), None for none.

    Returns:
        bool (tokens,), True = the first token of its word. A word without tokens has none.
    """
    numbers = np.array([-1 if word is None else word for word in words], np.int64)
    before = np.concatenate([[-1], numbers])[:-1]
    return (numbers >= 0) & (numbers != before)


def check_window(window: int, stride: int, where: str = "") -> None:
    """Raises an InputError if windows cannot move on; `where` tells what left so little room."""
    if window < 1:
        raise InputError(
            f"Expected room for a window of one token or more, came {window}{where}: raise "
            "max_length, or shorten the question."
        )
    if not 0 <= stride < window:
        raise InputError(
            f"Expected a stride, the tokens that two windows share, of 0 or more and less than "
            f"the window of {window} tokens{where}, came {stride}: take a smaller stride or a "
            "longer window."
        )


def boundary(start, end, next_start, next_end):
    """The first token that a window's successor sees with more context than the window.

    What the successor has more of, from token to token: below zero at first; then, where the
    window's context shrinks and the successor's still grows, two tokens more at each; at last
    `most`. This solves for zero, in hundredths of a token, for ints and for int32 tensors (W,).

    Returns:
        (middle, most): the token is `middle`, but at least `next_start` and at most `end`; and it
        is `end` if `most` is not above zero.
    """
    shorter = (end - start) - (next_end - next_start)  # a hundredth of a token each
    middle = (100 * (end - 1 + next_start) + shorter) // 200 + 1
    return middle, 100 * (next_end - end) - shorter


def _windows(ids: Iterator[int], window: int, step: int, text: int) -> Iterator[Window]:
    held = list(islice(ids, window))
    start = own_start = 0
    while True:
        more = list(islice(ids, step)) if len(held) == window else []
        end = start + len(held)
        own_end = end
        if more:
            middle, most = boundary(start, end, start + step, end + len(more))
            own_end = min(max(middle, start + step), end) if most > 0 else end
        yield Window(held, text, start, end, own_start, own_end, 0)
        if not more:
            return
        held = held[step:] + more
        start, own_start = start + step, own_end
