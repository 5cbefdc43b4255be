"""What the tests of the graph's tokenizers share."""

import json
import subprocess
import sys
from pathlib import Path

import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from tokenizer_check import subjects as subjects
from tokenizer_check.graph import Graph, eager_offsets

SERVED = """
import json, sys
import tensorflow as tf
import tensorflow_text

texts = tf.constant(json.load(open(sys.argv[1], encoding="utf-8")))
models = [tf.saved_model.load(folder) for folder in sys.argv[2:]]
found = []
for model in models:
    outputs = model.signatures["serving_default"](texts=texts)
    ids = tf.RaggedTensor.from_tensor(outputs["token_ids"], lengths=outputs["lengths"])
    found.append(ids.to_list())
assert not {"kbert", "tokenizers", "transformers", "sentencepiece"} & set(sys.modules)
print(json.dumps(found))
"""


def assert_ids(graph: Graph, texts):
    """Ids are those of the eager tokenizer."""
    rows = zip(texts, graph.tokenizer(texts), graph.ids(texts), strict=True)
    different = [row for row in rows if row[1] != row[2]]
    assert not different, (len(different), different[:3])


def assert_equal(graph: Graph, texts):
    """Ids, and ids with offsets, are those of the eager tokenizer."""
    assert_ids(graph, texts)
    expected = eager_offsets(graph.tokenizer, texts)
    rows = zip(texts, expected, graph.with_offsets(texts), strict=True)
    different = [row for row in rows if row[1] != row[2]]
    assert not different, (len(different), different[:3])


def served_elsewhere(modules: dict[str, tf.Module], texts, folder) -> dict[str, list[list[int]]]:
    """Ids from SavedModels, all in one process with TensorFlow and TensorFlow Text alone."""
    signature = [tf.TensorSpec([None], tf.string, name="texts")]
    for name, module in modules.items():
        served = tf.Module()
        served.tokenize = module

        @tf.function(input_signature=signature, autograph=False)
        def serve(texts, tokenize=module):
            ids = tokenize(texts)
            return {"token_ids": ids.to_tensor(), "lengths": ids.row_lengths()}

        tf.saved_model.save(served, folder / name, signatures=serve)
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    paths = [folder / "texts.json", *(folder / name for name in modules)]
    arguments = [sys.executable, "-c", SERVED, *paths]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return dict(zip(modules, json.loads(run.stdout.splitlines()[-1]), strict=True))
