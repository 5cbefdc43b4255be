"""Answers to questions, measured as SQuAD's official scripts do.

evaluate-v1.1.py for data in which every question has an answer, evaluate-v2.0.py (Rajpurkar et al.
2018) for others. Both compare words without case, punctuation and English articles.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from kbert.inputs.packer import PAD_STEP
from kbert.tasks import parts

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words_of(answer: str) -> list[str]:
    """The words that are compared: "The dog's!" → ["dogs"]."""
    return ARTICLES.sub(" ", answer.lower().translate(WITHOUT_PUNCTUATION)).split()


def exact(answer: str, due: str) -> float:
    """1 if both have the same words in the same order."""
    return float(words_of(answer) == words_of(due))


def f1(answer: str, due: str) -> float:
    """F1 of the words, as version 1.1 has it: 0 where one has none."""
    found, expected = words_of(answer), words_of(due)
    common = sum((Counter(found) & Counter(expected)).values())
    return 2 * common / (len(found) + len(expected)) if common else 0.0


def f1_or_nothing(answer: str, due: str) -> float:
    """F1 of the words, as version 2.0 has it: 1 where both have none."""
    found, expected = words_of(answer), words_of(due)
    return f1(answer, due) if found and expected else float(found == expected)


def best(measure: Callable[[str, str], float], answer: str, due: Sequence[str]) -> float:
    """The measure against the answer that it likes best."""
    return max(measure(answer, text) for text in due)


def scores_of_answers(found: Sequence[str], due: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match and F1, as evaluate-v1.1.py has them, but as shares of 1.

    Args:
        found: an answer to each question.
        due: the answers that are right.
    """
    pairs = list(zip(found, due, strict=True))
    return {
        "exact_match": _mean([best(exact, answer, right) for answer, right in pairs]),
        "f1": _mean([best(f1, answer, right) for answer, right in pairs]),
    }


def scores_with_nothing(
    found: Sequence[str],
    due: Sequence[Sequence[str]],
    likeliest: Sequence[str],
    odds: Sequence[float],
) -> dict[str, float]:
    """Exact match and F1 as evaluate-v2.0.py has them, where a question may have no answer.

    Args:
        found: an answer to each question, "" for none.
        due: the answers that are right; of a question without one, nothing.
        likeliest: the likeliest answer that is not "".
        odds: by how much the score of no answer is above that of the likeliest.

    Returns:
        exact_match and f1; the same of the questions with an answer (`answerable_…`) and without
        (`unanswerable_…`); and the best that a threshold of the odds could make of the likeliest
        answers, with that threshold (`best_…`).
    """
    has_answer = np.array([bool(right) for right in due])
    # An answer of which no word is left ("the") is like none.
    due = [[text for text in right if words_of(text)] or [""] for right in due]
    scores = {}
    for name, measure in (("exact_match", exact), ("f1", f1_or_nothing)):

        def measured(answers, measure=measure):
            pairs = zip(answers, due, strict=True)
            return np.array([best(measure, answer, right) for answer, right in pairs])

        of_found = measured(found)
        scores[name] = _mean(of_found)
        for part, of_part in (("answerable", has_answer), ("unanswerable", ~has_answer)):
            if of_part.any():
                scores[f"{part}_{name}"] = _mean(of_found[of_part])
        best_score, threshold = _best_threshold(measured(likeliest), likeliest, has_answer, odds)
        scores[f"best_{name}"], scores[f"best_{name}_threshold"] = best_score, threshold
    return scores


def _best_threshold(scores, answers, has_answer, odds) -> tuple[float, float]:
    """The mean score if questions up to the best of all odds are answered, and those odds."""
    total = highest = float((~has_answer).sum())
    threshold = 0.0
    for number in np.argsort(odds, kind="stable"):
        total += scores[number] if has_answer[number] else -float(bool(answers[number]))
        if total > highest:
            highest, threshold = float(total), float(odds[number])
    return highest / max(len(scores), 1), threshold


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def answer_signatures(task, packer, logits, encode, tokenizer) -> dict:
    """The served functions of a task that finds answers, as TensorFlow operations.

    `serving_default` takes `question` and `context`, string (N,), and gives what
    `candidates_in_graph.best_answers` does. `tokens` takes `token_ids`, int32 (B, T), and
    `segment_ids` where the model has them, and gives `start_logits` and `end_logits`, (B, T).

    Args:
        task: has the limits and the threshold.
        packer: of question and context.
        logits: features → logits (B, 2, T).
        encode: the tokenizer in the graph; its `with_offsets` is used.
        tokenizer: text → token ids.

    Raises:
        InputError: in the graph, the tokenizer does not tell characters.
    """
    import tensorflow as tf

    from kbert.inputs import windows_in_graph
    from kbert.inputs.candidates_in_graph import best_answers
    from kbert.text.in_graph.engine import as_utf_8

    encode.with_offsets(tf.constant([""]))  # refuses, where it does, before anything is traced
    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ("question", "context")]

    @tf.function(autograph=False, input_signature=specs)
    def serving_default(question, context):
        context = as_utf_8(context)
        ids, starts, ends = encode.with_offsets(context)
        asked = encode(question)[:, : task.max_question_length]
        windows, features = windows_in_graph.packed_windows_in_graph(
            packer, ids, task.stride, asked, PAD_STEP
        )
        limits = task.max_answer_length, task.max_answer_characters
        wanted = task.num_answers, task.threshold
        return best_answers(logits(**features), windows, context, (starts, ends), limits, wanted)

    names = ["token_ids", "segment_ids"][: 1 + tokenizer.with_segments]
    ids_specs = [tf.TensorSpec([None, None], tf.int32, name=name) for name in names]

    @tf.function(autograph=False, input_signature=ids_specs)
    def tokens(token_ids, *segment_ids):
        found = logits(**parts.features_in_graph(token_ids, tokenizer, *segment_ids))
        starts, ends = tf.unstack(tf.cast(found, tf.float32), axis=1)
        return {"start_logits": starts, "end_logits": ends}

    return {"serving_default": serving_default, "tokens": tokens}
