"""Answers texts from a SavedModel as a server would: with TensorFlow alone.

    python serve.py SAVED_MODEL REQUEST_JSON ANSWERS_JSON

A request is a list of [signature, input name, value]; a text's bytes come in Latin-1.
"""

import json
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401 (registers its operations)

folder, request, answers = sys.argv[1:]
served = tf.saved_model.load(folder)


def tensor(value):
    if value and isinstance(value[0], list):
        return tf.constant(value, tf.int32)
    return tf.constant([text.encode("latin-1") for text in value], tf.string)


def listed(output):
    values = output.numpy().tolist()
    return [v.decode() for v in values] if output.dtype == tf.string else values


def answer(signature, name, value):
    outputs = served.signatures[signature](**{name: tensor(value)})
    dtypes = {key: output.dtype.name for key, output in outputs.items()}
    return {"dtypes": dtypes, **{key: listed(output) for key, output in outputs.items()}}


with open(request, encoding="utf-8") as file:
    result = [answer(*asked) for asked in json.load(file)]
assert not {"kbert", "keras_nlp", "tokenizers"} & set(sys.modules)
with open(answers, "w", encoding="utf-8") as file:
    json.dump(result, file)
