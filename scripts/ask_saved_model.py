"""Ask a SavedModel, with nothing but TensorFlow: python scripts/ask_saved_model.py FOLDER TEXT…"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
import tensorflow_text  # noqa: E402, F401 (registers the tokenizer's operations)

folder, *texts = sys.argv[1:]
serve = tf.saved_model.load(folder).signatures["serving_default"]
answers = serve(text=tf.constant(texts))
for text, label, score in zip(texts, answers["label"], answers["score"], strict=True):
    print(f"{text!r}: {label.numpy().decode()} ({score.numpy():.3f})")
