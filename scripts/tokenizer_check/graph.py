"""A tokenizer and its form in the graph, to compare."""

from collections.abc import Sequence

Offsets = list[tuple[int, int, int]]
"""(id, start, end) of each token of a text."""


class Graph:
    """A tokenizer in the graph, as functions that are traced once.

    Attributes:
        tokenizer: the eager one.
        module: what `in_graph` gave for it.
    """

    def __init__(self, tokenizer):
        import tensorflow as tf

        from kbert.text.in_graph import in_graph

        self.tokenizer, self.module = tokenizer, in_graph(tokenizer)
        signature = [tf.TensorSpec([None], tf.string)]
        self._ids, self._offsets = (
            tf.function(function, input_signature=signature, autograph=False)
            for function in (self.module.__call__, self.module.with_offsets)
        )

    def ids(self, texts: Sequence[str | bytes]) -> list[list[int]]:
        """The ids of texts."""
        return lists(self._ids(tensor(texts)))

    def with_offsets(self, texts: Sequence[str | bytes]) -> list[Offsets]:
        """Ids and offsets of texts; raises InputError where there are none in the graph."""
        parts = [lists(part) for part in self._offsets(tensor(texts))]
        return [list(zip(*row, strict=True)) for row in zip(*parts, strict=True)]


def eager_offsets(tokenizer, texts: Sequence[str]) -> list[Offsets]:
    """What `Graph.with_offsets` is compared with."""
    return [
        [(number, *offset) for number, offset in zip(e.ids, e.offsets, strict=True)]
        for e in tokenizer.encode(texts)
    ]


def tensor(texts: Sequence[str | bytes]):
    """Strings as TensorFlow takes them."""
    import tensorflow as tf

    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return tf.constant(raw, tf.string)


def lists(ragged) -> list[list[int]]:
    """A `tf.RaggedTensor` (B, None) as lists, faster than its own `to_list`."""
    values, splits = ragged.values.numpy().tolist(), ragged.row_splits.numpy().tolist()
    return [values[a:b] for a, b in zip(splits, splits[1:], strict=False)]
