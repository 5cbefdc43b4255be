"""`candidates` as TensorFlow operations: a served graph answers questions.

Letters: N questions, W windows, T columns of a packed row, L most tokens in an answer.
"""

import tensorflow as tf

from kbert.inputs.candidates import NO_SCORE
from kbert.inputs.windows import Window
from kbert.inputs.windows_in_graph import best_spans, likeliest_spans, span_scores


def best_answers(
    logits: tf.Tensor,
    windows: Window,
    contexts: tf.Tensor,
    offsets: tuple[tf.RaggedTensor, tf.RaggedTensor],
    limits: tuple[int, int | None],
    threshold: float | None,
) -> dict[str, tf.Tensor]:
    """The answer to each question: `Candidates` and the choice between answer and none.

    Args:
        logits: float (W, 2, T), of start and end.
        windows: of the N contexts, in their order, one or more each.
        contexts: string (N,).
        offsets: starts and ends of their tokens, int32 ragged (N, None).
        limits: most tokens and, or None, characters in an answer.
        threshold: of `null_odds`, or None where there is always an answer.

    Returns:
        `answer` string, `start` and `end` int32, `score` float32, (N,) each; with a threshold
        `null_odds` float32 (N,).
    """
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
    return {"answer": text, "start": start, "end": end, "score": score, **answer}


def _of_columns(values: tf.RaggedTensor, windows: Window, width) -> tf.Tensor:
    """Numbers of tokens (N, None) as those of the columns of windows, float32 (W, T)."""
    first = tf.gather(tf.cast(values.row_starts(), tf.int32), windows.text)
    column = tf.range(width) - windows.column[:, tf.newaxis]
    place = tf.clip_by_value(column, 0, tf.maximum(windows.end - windows.start - 1, 0)[:, None])
    place += (first + windows.start)[:, tf.newaxis]
    padded = tf.concat([values.values, [0]], 0)  # a text without tokens has one to look at
    return tf.cast(tf.gather(padded, place), tf.float32)


def _place(values: tf.RaggedTensor, tokens: tf.Tensor) -> tf.Tensor:
    return tf.cast(values.row_starts(), tf.int32) + tokens


def _spread(values: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Values for the places that are true, 0 for others."""
    zeros = tf.zeros(tf.shape(where), values.dtype)
    return tf.tensor_scatter_nd_update(zeros, tf.where(where), values)
