"""Entities, measured and served: what `token_classification` and its like have of their own."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kbert.inputs.packer import PAD_STEP, Packer
from kbert.inputs.tags import entities, split_tag
from kbert.tasks import parts


def entity_scores(found: Sequence[Sequence[str]], due: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Figures of tags as conlleval and seqeval count them: an entity is right, or is not.

    Args:
        found: the tags of each sentence.
        due: those that are right.

    Returns:
        f1, precision and recall of all types together (micro), accuracy of the tags; and of each
        of the `types` its own, with the number of its entities.
    """
    of_types: dict[str, list[int]] = {}
    right = words = 0
    for tags, right_tags in zip(found, due, strict=True):
        words += len(right_tags)
        right += sum(map(str.__eq__, tags, right_tags))
        marked, expected = set(entities(tags)), set(entities(right_tags))
        for place, some in enumerate((marked & expected, marked, expected)):
            for entity in some:
                of_types.setdefault(entity.type, [0, 0, 0])[place] += 1
    total = np.sum([*of_types.values(), [0, 0, 0]], axis=0).tolist()
    return {
        **_figures(*total),
        "accuracy": right / max(words, 1),
        "types": {
            kind: {**_figures(*counts), "examples": counts[2]}
            for kind, counts in sorted(of_types.items())
        },
    }


def _figures(right: int, found: int, due: int) -> dict[str, Any]:
    return {
        "f1": 2 * right / max(found + due, 1),
        "precision": right / max(found, 1),
        "recall": right / max(due, 1),
    }


class EntityF1(keras.metrics.Metric):
    """Micro F1 of the entities in rows of labels while a model trains, as `entity_scores` has it.

    Call it on labels int (B, T), logits (B, T, C), and weights (B, T) that are 0 where a token has
    no label of its own. An entity is right if its type and all its tokens are. Entities that two
    windows share count in each of them, as far as they go.

    Args:
        labels: the C labels.
    """

    def __init__(self, labels: Sequence[str], name="f1", **kwargs):
        super().__init__(name=name, **kwargs)
        # One label more: of what is no word.
        prefixes, kinds = zip(*map(split_tag, [*labels, "O"]), strict=True)
        self.kinds = [sorted(set(kinds)).index(kind) for kind in kinds]
        self.begins = [prefix in "BS" for prefix in prefixes]
        self.ends = [prefix in "OES" for prefix in prefixes]
        self.outside = [prefix == "O" for prefix in prefixes]
        self.right, self.found, self.due = (
            self.add_variable((), initializer="zeros", name=name)
            for name in ("right", "found", "due")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        chosen = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        due = ops.cast(y_true, "int32")
        place = ops.arange(due.shape[1] or ops.shape(due)[1], dtype="int32")
        if sample_weight is not None:
            # The words of a row come together, before what is none.
            is_word = ops.cast(sample_weight, "float32") > 0
            order = ops.argsort(ops.where(is_word, place, place + ops.shape(due)[1]), axis=-1)
            nothing = len(self.kinds) - 1
            due, chosen = (
                ops.take_along_axis(ops.where(is_word, x, nothing), order, axis=-1)
                for x in (due, chosen)
            )
        starts, ends, kind, since = self._edges(due, place)
        its_starts, its_ends, its_kind, its_since = self._edges(chosen, place)
        both = ends & its_ends & (kind == its_kind) & (since == its_since)
        for total, flags in ((self.right, both), (self.due, starts), (self.found, its_starts)):
            total.assign_add(ops.sum(ops.cast(flags, total.dtype)))

    def _edges(self, labels, place):
        """Labels (B, T) → whether an entity starts and ends there, its type, its first token."""

        def of(table, x):
            return ops.take(ops.convert_to_tensor(table), x, axis=0)

        nothing = ops.full_like(labels[:, :1], len(self.kinds) - 1)
        before = ops.concatenate([nothing, labels[:, :-1]], axis=1)
        kind, inside = of(self.kinds, labels), ~of(self.outside, labels)
        is_apart = (
            of(self.begins, labels) | of(self.ends, before) | (kind != of(self.kinds, before))
        )
        starts = inside & is_apart
        after = ops.concatenate([(starts | ~inside)[:, 1:], nothing > -1], axis=1)
        return starts, inside & after, kind, _highest_so_far(ops.where(starts, place, 0))

    def result(self):
        return 2 * self.right / ops.maximum(self.found + self.due, 1.0)


def _highest_so_far(x):
    """The running maximum of the rows of x, int (B, T), T up to 16,384.

    Keras 3.15's associative_scan does not go through XLA on TensorFlow if T is open.
    """
    for step in (2**n for n in range(14)):
        before = ops.concatenate([ops.zeros_like(x[:, :step]), x[:, :-step]], axis=1)
        x = ops.maximum(x, before)
    return x


def entity_signatures(
    labels: Sequence[str], packer: Packer, stride: int | None, logits, encode, tokenizer
) -> dict:
    """The served functions of a task that labels words, as TensorFlow operations.

    `serving_default` takes `text`, string (N,), and gives `type`, `text`, `start`, `end`, `score`
    (N, most) and `count` (N,), see `words_in_graph.rectangular`. `tokens` takes `token_ids`, int32
    (B, T), and gives `label` and `score`, (B, T).

    Args:
        labels: the C labels.
        packer: of rows; what is longer is cut, or with a stride seen in windows.
        logits: features → logits (B, T, C).
        encode: the tokenizer in the graph; its `with_offsets` is used.
        tokenizer: text → token ids.

    Raises:
        InputError: in the graph, the tokenizer does not tell characters.
    """
    import tensorflow as tf

    from kbert.inputs import windows_in_graph, words_in_graph
    from kbert.text.in_graph.engine import as_utf_8

    encode.with_offsets(tf.constant([""]))  # refuses, where it does, before anything is traced
    find_words = words_in_graph.word_finder(tokenizer)
    room = packer.room() if stride is None else None

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serving_default(text):
        text = as_utf_8(text)
        ids, starts, ends = encode.with_offsets(text)
        windows, features = windows_in_graph.packed_windows_in_graph(
            packer, ids[:, :room], stride or 0, pad_to_multiple=PAD_STEP
        )
        outputs = windows_in_graph.own_outputs(logits(**features), windows)
        words = find_words(text, ids, starts, ends)
        chosen, scores = words_in_graph.labels_of_words(words, outputs)
        found = words_in_graph.entities_in_graph(labels, words, chosen, scores)
        return words_in_graph.rectangular(found, text)

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")]
    )
    def tokens(token_ids):
        features = parts.features_in_graph(token_ids, tokenizer)
        probabilities = tf.nn.softmax(tf.cast(logits(**features), tf.float32))
        best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        label = tf.gather(tf.constant(labels), best)
        return {"label": label, "score": tf.reduce_max(probabilities, axis=-1)}

    return {"serving_default": serving_default, "tokens": tokens}
