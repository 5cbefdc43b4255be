"""`windows` as TensorFlow operations: a served graph cuts long texts and answers them whole.

    found = windows_in_graph(token_ids, window, stride)        or packed_windows_in_graph(…)
    answers of the model, (W, …)  →  mean_of_windows, best_spans, own_outputs  →  (N, …)

Letters: N texts, W windows, T columns of a packed row.
"""

import tensorflow as tf

from kbert.inputs.packer import Packer
from kbert.inputs.windows import Span, Window, boundary, check_window, window_in


def windows_in_graph(ids: tf.RaggedTensor, window, stride: int) -> Window:
    """`windows` of all texts, in their order.

    Args:
        ids: int32 (N, None), token ids without special tokens.
        window: tokens in a window: int, or int32 (N,) for each text its own.
        stride: tokens that two neighbours share.

    Returns:
        A `Window` of tensors: ids int32 (W, None), the others int32 (W,).

    Raises:
        InputError: the stride is not smaller than the window, or negative. Where the windows are a
            tensor, the graph fails with InvalidArgumentError instead.
    """
    window = _checked(window, stride)
    lengths = tf.cast(ids.row_lengths(), tf.int32)  # (N,)
    window = tf.broadcast_to(window, tf.shape(lengths))
    step = window - stride
    counts = 1 + (tf.maximum(lengths - window, 0) + step - 1) // step
    text = tf.repeat(tf.range(tf.size(counts)), counts)  # (W,)
    number = tf.range(tf.size(text)) - tf.gather(tf.cumsum(counts, exclusive=True), text)
    lengths, step, window = (tf.gather(field, text) for field in (lengths, step, window))
    start = number * step
    end = tf.minimum(start + window, lengths)
    middle, most = boundary(start, end, start + step, tf.minimum(start + step + window, lengths))
    own_end = tf.where(most > 0, tf.minimum(tf.maximum(middle, start + step), end), end)
    own_end = tf.where(end == lengths, end, own_end)
    own_start = tf.where(number == 0, 0, tf.concat([[0], own_end], axis=0)[:-1])
    first = tf.cast(tf.gather(ids.row_starts(), text), tf.int32)
    cut = tf.gather(ids.values, tf.ragged.range(first + start, first + end))
    return Window(cut, text, start, end, own_start, own_end, tf.zeros_like(text))


def packed_windows_in_graph(
    packer: Packer,
    texts: tf.RaggedTensor,
    stride: int,
    questions: tf.RaggedTensor | None = None,
    pad_to_multiple: int = 1,
) -> tuple[Window, dict[str, tf.Tensor]]:
    """`packed_windows` of all texts as one batch: `(windows, features)`.

    Args:
        packer: its `max_length` is the length of a full row.
        texts: int32 (N, None), token ids without special tokens.
        stride: tokens that two neighbours share.
        questions: int32 (N, None), which stand whole before each window of their text.
        pad_to_multiple: see `Packer.pack_in_graph`.
    """
    if questions is None:
        window, column = window_in(packer, 0, 1)
        found = windows_in_graph(texts, window, stride)
        parts, column = [found.ids], tf.fill(tf.shape(found.text), column)
    else:
        asked = tf.cast(questions.row_lengths(), tf.int32)
        window, column = window_in(packer, asked, 2)
        found = windows_in_graph(texts, window, stride)
        parts, column = [tf.gather(questions, found.text), found.ids], tf.gather(column, found.text)
    features = packer.pack_in_graph(*parts, pad_to_multiple=pad_to_multiple)
    return found._replace(column=column), features


def mean_of_windows(outputs: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """The mean of the windows of each text, float (W, …) → (N, …); give it probabilities."""
    return tf.math.segment_mean(outputs, texts)


def span_scores(start_scores, end_scores, found: Window, longest: int) -> tf.Tensor:
    """The scores of all answers in each window, float (W, T, longest), from scores (W, T).

    At [w, i, n] the answer of n + 1 tokens from column i on; -inf where that is none of the
    window's.
    """
    position = tf.range(tf.shape(start_scores)[1])
    column, length = found.column[:, tf.newaxis], (found.end - found.start)[:, tf.newaxis]
    inside = (position >= column) & (position < column + length)  # (W, T)
    nothing = tf.constant(float("-inf"), start_scores.dtype)
    starts, ends = (tf.where(inside, scores, nothing) for scores in (start_scores, end_scores))
    ends = tf.pad(ends, [[0, 0], [0, longest - 1]], constant_values=nothing)
    return starts[:, :, tf.newaxis] + tf.signal.frame(ends, longest, 1, axis=1)


def spans_of_windows(start_scores, end_scores, found: Window, longest: int) -> Span:
    """The best answer in each window, from scores (W, T): spans (W,), in tokens of the texts."""
    return likeliest_spans(span_scores(start_scores, end_scores, found, longest), found)


def likeliest_spans(scores: tf.Tensor, found: Window) -> Span:
    """The best answer in each window, of `span_scores`: spans (W,), in tokens of the texts."""
    longest = scores.shape[2]
    flat = tf.reshape(scores, [tf.shape(scores)[0], tf.shape(scores)[1] * longest])
    best = tf.argmax(flat, axis=1, output_type=tf.int32)
    score = tf.reduce_max(flat, axis=1)
    start = found.start + best // longest - found.column
    none = score == tf.constant(float("-inf"), scores.dtype)
    return Span(
        found.text,
        tf.where(none, found.start, start),
        tf.where(none, found.start, start + best % longest + 1),
        score,
    )


def best_spans(spans: Span) -> Span:
    """One answer a text: the best of its windows' spans (W,) → (N,); of equal ones the first."""
    best = tf.gather(tf.math.segment_max(spans.score, spans.text), spans.text)
    number = tf.range(tf.size(spans.text))
    number = tf.where(spans.score == best, number, tf.size(spans.text))
    chosen = tf.math.segment_min(number, spans.text)
    return Span(*(tf.gather(field, chosen) for field in spans))


def own_outputs(outputs: tf.Tensor, found: Window) -> tf.RaggedTensor:
    """Each token's output from its window with the most context: (W, T, …) → (N, None, …)."""
    shift = found.column - found.start
    columns = tf.ragged.range(found.own_start + shift, found.own_end + shift)
    places = tf.stack([tf.cast(columns.value_rowids(), tf.int32), columns.values], axis=1)
    lengths = tf.math.segment_sum(found.own_end - found.own_start, found.text)
    return tf.RaggedTensor.from_row_lengths(tf.gather_nd(outputs, places), lengths)


def first_tokens(words: tf.RaggedTensor) -> tf.RaggedTensor:
    """Where words begin: their numbers, int32 (N, None), -1 for none → bool (N, None).

    With it, `tf.ragged.boolean_mask(outputs, first)` is one output a word.
    """

    def differs(values):
        return values != tf.concat([[-1], values], axis=0)[:-1]

    is_first = differs(words.values) | differs(tf.cast(words.value_rowids(), tf.int32))
    return words.with_values((words.values >= 0) & is_first)


def _checked(window, stride: int):
    if isinstance(window, int):
        check_window(window, stride)
        return window
    check_window(stride + 1, stride)  # whether it is negative; the windows are not known yet
    message = (
        f"the questions leave windows that are not longer than the stride of {stride} tokens: "
        "raise max_length, shorten the questions, or take a smaller stride."
    )
    check = tf.debugging.Assert(tf.reduce_all(window > stride), [message, window])
    with tf.control_dependencies([check]):
        return tf.identity(window)
