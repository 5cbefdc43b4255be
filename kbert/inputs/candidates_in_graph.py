"""`candidates` as TensorFlow operations: a served graph answers questions.

Letters: N questions, W windows, T columns of a packed row, L most tokens in an answer.
"""

import tensorflow as tf

from kbert.inputs.candidates import NO_SCORE
from kbert.inputs.windows import Span, Window
from kbert.inputs.windows_in_graph import best_spans, likeliest_spans, span_scores


def best_answers(
    logits: tf.Tensor,
    windows: Window,
    contexts: tf.Tensor,
    offsets: tuple[tf.RaggedTensor, tf.RaggedTensor],
    limits: tuple[int, int | None],
    wanted: tuple[int, float | None],
) -> dict[str, tf.Tensor]:
    """The answer to each question: `Candidates` and the choice between answer and none.

    Args:
        logits: float (W, 2, T), of start and end.
        windows: of the N contexts, in their order, one or more each.
        contexts: string (N,).
        offsets: starts and ends of their tokens, int32 ragged (N, None).
        limits: most tokens and, or None, characters in an answer.
        wanted: how many answers; the threshold of `null_odds`, or None where there is always one.

    Returns:
        `answer` string, `start` and `end` int32, `score` float32, (N,) each; with a threshold
        `null_odds` float32 (N,). Where K > 1 answers are wanted, also `answers`, `starts`, `ends`
        and `scores`, (N, K), the likeliest first, "no answer" ("") among them where that is
        allowed, and their `count` (N,); "", -1, -1 and 0 follow.
    """
    number, threshold = wanted
    longest, most_characters = limits
    logits = tf.cast(logits, tf.float32)
    scores = span_scores(logits[:, 0], logits[:, 1], windows, longest)  # (W, T, L)
    nothing = tf.constant(float("-inf"), tf.float32)
    if most_characters is not None:
        starts, ends = (_of_columns(values, windows, tf.shape(logits)[2]) for values in offsets)
        size = span_scores(-starts, ends, windows, longest)
        scores = tf.where(size <= float(most_characters), scores, nothing)
    best = best_spans(likeliest_spans(scores, windows))  # (N,)
    likeliest = tf.maximum(best.score, NO_SCORE)
    null_score = tf.math.segment_min(logits[:, 0, 0] + logits[:, 1, 0], windows.text)
    highest = likeliest if threshold is None else tf.maximum(likeliest, null_score)
    shares = tf.exp(scores - tf.gather(highest, windows.text)[:, tf.newaxis, tf.newaxis])
    total = tf.math.segment_sum(tf.reduce_sum(shares, [1, 2]), windows.text)
    has_tokens = best.score > nothing
    first, last = (
        tf.gather(values.values, tf.boolean_mask(_place(values, tokens), has_tokens))
        for values, tokens in ((offsets[0], best.start), (offsets[1], best.end - 1))
    )
    start, end = (_spread(values, has_tokens) for values in (first, last))
    score = tf.where(has_tokens, tf.exp(likeliest - highest), 0.0)
    answer = {}
    if threshold is not None:
        null_share = tf.exp(null_score - highest)
        total += null_share
        answer["null_odds"] = null_score - likeliest
        is_none = answer["null_odds"] > threshold
        score = tf.where(is_none, null_share, score)
        start, end = (tf.where(is_none, 0, x) for x in (start, end))
    text = tf.strings.substr(contexts, start, end - start, unit="UTF8_CHAR")
    score = tf.math.divide_no_nan(score, total)
    if number > 1:
        pieces = _likeliest(scores, windows, number)
        null_scores = None if threshold is None else null_score
        scale = highest, total
        answer |= _listed(pieces, contexts, offsets, number, scale, null_scores)
    return {"answer": text, "start": start, "end": end, "score": score, **answer}


def _likeliest(scores: tf.Tensor, windows: Window, number: int) -> Span:
    """The best pieces of each text, each once, at most `number`, the best first: (P,)."""
    longest = scores.shape[2]
    flat = tf.reshape(scores, [tf.shape(scores)[0], -1])
    # What is among the best of a text is among the best of a window, where a piece stands once.
    score, place = tf.math.top_k(flat, tf.minimum(number, tf.shape(flat)[1]))  # (W, K)
    start = (windows.start - windows.column)[:, tf.newaxis] + place // longest
    end = start + place % longest + 1
    text = tf.broadcast_to(windows.text[:, tf.newaxis], tf.shape(place))
    real = score > tf.constant(float("-inf"), tf.float32)
    found = Span(*(tf.boolean_mask(x, real) for x in (text, start, end, score)))
    found = _sorted(found)
    size = tf.cast(1 + tf.reduce_max(tf.concat([[0], found.end], 0)), tf.int64)
    text, start, end = (tf.cast(x, tf.int64) for x in found[:3])
    _, same = tf.unique((text * size + start) * size + end)
    rank = tf.range(tf.size(same))
    first = tf.math.unsorted_segment_min(rank, same, tf.size(same))
    is_first = tf.gather(first, same) == rank
    return _first_of_each(Span(*(tf.boolean_mask(x, is_first) for x in found)), number)


def _listed(pieces: Span, contexts, offsets, number: int, scale, null_score) -> dict:
    """Pieces (P,) as answers with characters and probabilities, (N, K).

    Args:
        scale: for each text the highest score and the sum of all shares, float32 (N,).
        null_score: of no answer, float32 (N,), or None.
    """
    highest, total = scale
    start, end = (
        tf.gather(values.values, _place_of(values, pieces.text, tokens))
        for values, tokens in ((offsets[0], pieces.start), (offsets[1], pieces.end - 1))
    )
    found = pieces._replace(start=start, end=end)
    rows = tf.shape(contexts)[0]
    if null_score is not None:
        nothing = tf.zeros([rows], tf.int32)
        nothing = Span(tf.range(rows), nothing, nothing, null_score)
        found = Span(*(tf.concat(both, 0) for both in zip(found, nothing, strict=True)))
        found = _first_of_each(_sorted(found), number)
    size = found.end - found.start
    text = tf.strings.substr(tf.gather(contexts, found.text), found.start, size, "UTF8_CHAR")
    share = tf.exp(found.score - tf.gather(highest, found.text)) / tf.gather(total, found.text)
    counts = tf.math.bincount(found.text, minlength=rows, dtype=tf.int32)
    fields = {
        "answers": (text, ""), "starts": (found.start, -1), "ends": (found.end, -1),
        "scores": (share, 0.0),
    }  # fmt: skip
    listed = {
        name: tf.RaggedTensor.from_row_lengths(values, counts).to_tensor(fill, shape=[None, number])
        for name, (values, fill) in fields.items()
    }
    return {**listed, "count": counts}


def _sorted(found: Span) -> Span:
    """By text, then the best first; equals in the order they came."""
    best = tf.argsort(-found.score, stable=True)
    order = tf.gather(best, tf.argsort(tf.gather(found.text, best), stable=True))
    return Span(*(tf.gather(x, order) for x in found))


def _first_of_each(found: Span, number: int) -> Span:
    """Of spans sorted by their texts, the first `number` of each."""
    rank = tf.range(tf.size(found.text))
    before = tf.searchsorted(found.text, found.text)  # how many are of texts before
    return Span(*(tf.boolean_mask(x, rank - before < number) for x in found))


def _of_columns(values: tf.RaggedTensor, windows: Window, width) -> tf.Tensor:
    """Numbers of tokens (N, None) as those of the columns of windows, float32 (W, T)."""
    first = tf.gather(tf.cast(values.row_starts(), tf.int32), windows.text)
    column = tf.range(width) - windows.column[:, tf.newaxis]
    place = tf.clip_by_value(column, 0, tf.maximum(windows.end - windows.start - 1, 0)[:, None])
    place += (first + windows.start)[:, tf.newaxis]
    padded = tf.concat([values.values, [0]], 0)  # a text without tokens has one to look at
    return tf.cast(tf.gather(padded, place), tf.float32)


def _place_of(values: tf.RaggedTensor, texts: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.cast(values.row_starts(), tf.int32), texts) + tokens


def _place(values: tf.RaggedTensor, tokens: tf.Tensor) -> tf.Tensor:
    return tf.cast(values.row_starts(), tf.int32) + tokens


def _spread(values: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Values for the places that are true, 0 for others."""
    zeros = tf.zeros(tf.shape(where), values.dtype)
    return tf.tensor_scatter_nd_update(zeros, tf.where(where), values)
