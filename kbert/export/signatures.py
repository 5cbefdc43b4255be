"""The signatures of a served model: a task's own, and those that every model or a few have.

    serving_default   text (B,), or what the task asks           → the task's answers
    tokens            token_ids int32 (B, T), padded             → the same, or nearly
    embedding         text (B,)                                  → embedding float32 (B, D)
    attention         text (B,), or the task's two texts         → pieces string (B, T) and
                      attention float32 (B, L, H, T, T), for L layers and H heads; only if asked for
    classify          inputs (B,), serialized tf.Example         → classes, scores (B, C)
    regress           the same                                   → outputs float32 (B, 1)

classify and regress are TensorFlow Serving's own methods; an example has the features `text` and,
of pairs, `text_pair`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from kbert.errors import InputError
from kbert.inputs.gaps import PLACES
from kbert.inputs.packer import PAD_STEP, Packer
from kbert.inputs.pieces_in_graph import in_pieces

DEFAULT, ATTENTION = "serving_default", "attention"
METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}


def check_asked(asked: Sequence[str] | None, has: Sequence[str]) -> list[str]:
    """The names of the signatures to export: the default one, and those that are asked.

    Args:
        asked: None for all but attention, which costs memory and is large.
        has: the names that there are.

    Raises:
        InputError: a name is none of them.
    """
    if asked is None:
        return [name for name in has if name != ATTENTION]
    if strange := sorted(set(asked) - set(has)):
        raise InputError(
            f"no such signature: {', '.join(strange)}; of this model there are {', '.join(has)}."
        )
    return [name for name in has if name == DEFAULT or name in asked]


def all_signatures(task, served: Callable, encode, tokenizer) -> dict:
    """All of them by name; nothing is computed before one is traced.

    Args:
        task: one of `kbert.tasks`.
        served: of `graph.served_function`.
        encode: the tokenizer in the graph.
        tokenizer: text → token ids.
    """
    import tensorflow as tf

    def part(name):
        return lambda **features: served(**features)[name]

    together = getattr(task, "num_choices", 1)
    logits = in_pieces(part("output"), tf.float32, together=together)
    found = task.signatures(logits, encode, tokenizer)
    default = found[DEFAULT]
    if task.name == "sentence-embedding":
        found["embedding"] = default
    else:
        vectors = in_pieces(part("embedding"), tf.float32)
        found["embedding"] = _embedding(vectors, task, encode, tokenizer)
    maps = in_pieces(part(ATTENTION), tf.float32)
    found[ATTENTION] = _attention(maps, task, encode, tokenizer)
    if task.name == "text-classification":
        found["classify"] = _classify(default, task)
    if task.name == "regression" and len(task.criteria) == 1:
        found["regress"] = _regress(default, task)
    return found


def _embedding(vectors, task, encode, tokenizer):
    import tensorflow as tf

    packer = Packer.of(tokenizer, task.max_length)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def embedding(text):
        features = packer.pack_in_graph(encode(text), pad_to_multiple=PAD_STEP)
        return {"embedding": vectors(**_with_places(features, task))}

    return embedding


def _attention(maps, task, encode, tokenizer):
    import tensorflow as tf

    packer = Packer.of(tokenizer, task.max_length)
    names = ("text", "text_pair")[: len(task.inputs)]
    names = task.inputs if task.name == "question-answering" else names
    vocabulary = [tokenizer.rust.id_to_token(i) or "" for i in range(tokenizer.vocab_size)]

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([None], tf.string, name=name) for name in names],
    )
    def attention(*texts):
        features = packer.pack_in_graph(*(encode(text) for text in texts))
        pieces = tf.gather(tf.constant(vocabulary), features["token_ids"])
        pieces = tf.where(features["padding_mask"], pieces, "")
        return {"pieces": pieces, ATTENTION: maps(**_with_places(features, task))}

    return attention


def _with_places(features: dict, task) -> dict:
    """The features of a text of which nothing is asked that the task asks."""
    import tensorflow as tf

    if task.name != "fill-mask":
        return features
    return {**features, PLACES: tf.zeros_like(features["token_ids"][:, :1])}


def _classify(default, task):
    import tensorflow as tf

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(inputs):
        scores = default(*_texts_of(inputs, task))["probabilities"]
        classes = tf.repeat(tf.constant([task.labels]), tf.shape(scores)[0], axis=0)
        return {"classes": classes, "scores": scores}

    return classify


def _regress(default, task):
    import tensorflow as tf

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(inputs):
        return {"outputs": default(*_texts_of(inputs, task))["numbers"]}

    return regress


def _texts_of(examples, task) -> list:
    """The texts, string (B,) each, of serialized tf.Example."""
    import tensorflow as tf

    names = ("text", "text_pair")[: len(task.inputs)]
    wanted = {name: tf.io.FixedLenFeature([], tf.string) for name in names}
    found = tf.io.parse_example(examples, wanted)
    return [found[name] for name in names]


def set_methods(version: Path) -> None:
    """Make classify and regress what they are named: Keras and TensorFlow write predict alone."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file, saved = version / "saved_model.pb", SavedModel()
    saved.ParseFromString(file.read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    if here := [name for name in METHODS if name in signatures]:
        for name in here:
            signatures[name].method_name = METHODS[name]
        file.write_bytes(saved.SerializeToString(deterministic=True))
        # It is of the file as it was.
        (version / "fingerprint.pb").unlink(missing_ok=True)
