"""What the tests of the graph's tokenizers share."""

import json
import subprocess
import sys

import tensorflow as tf

SERVED = """
import json, sys
import tensorflow as tf
import tensorflow_text

served = tf.saved_model.load(sys.argv[1])
texts = json.load(open(sys.argv[2], encoding="utf-8"))
outputs = served.signatures["serving_default"](texts=tf.constant(texts))
found = tf.RaggedTensor.from_tensor(outputs["token_ids"], lengths=outputs["lengths"]).to_list()
assert not {"kbert", "tokenizers", "transformers", "sentencepiece"} & set(sys.modules)
print(json.dumps(found))
"""


def compiled(graph: tf.Module):
    """As a tf.function of string (B,)."""
    return tf.function(graph, input_signature=[tf.TensorSpec([None], tf.string)])


def graph_ids(graph, texts) -> list[list[int]]:
    """Ids of str or bytes through `graph`, a tf.function."""
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return graph(tf.constant(raw, tf.string)).to_list()


def assert_equal(tokenizer, graph: tf.Module, texts):
    """Ids, and ids with offsets, are those of the eager tokenizer."""
    encodings = tokenizer.encode(texts)
    raw = tf.constant([text.encode() for text in texts], tf.string)
    ids, starts, ends = (part.to_list() for part in tf.function(graph.with_offsets)(raw))
    offsets = [list(zip(*both, strict=True)) for both in zip(starts, ends, strict=True)]
    rows = zip(texts, encodings, graph_ids(compiled(graph), texts), ids, offsets, strict=True)
    different = [
        (text, encoding, *found)
        for text, encoding, *found in rows
        if found != [encoding.ids, encoding.ids, encoding.offsets]
    ]
    assert not different, different[:3]


def served_elsewhere(graph: tf.Module, texts, folder) -> list[list[int]]:
    """Ids from a SavedModel, in a process with TensorFlow and TensorFlow Text alone."""
    served = tf.Module()
    served.tokenize = graph

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def serve(texts):
        ids = served.tokenize(texts)
        return {"token_ids": ids.to_tensor(), "lengths": ids.row_lengths()}

    tf.saved_model.save(served, folder / "model", signatures=serve)
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    arguments = [sys.executable, "-c", SERVED, folder / "model", folder / "texts.json"]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])
