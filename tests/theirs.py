"""What transformers and a SavedModel make of what kbert saved."""

import numpy as np

NAMES = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
NAMES["padding_mask"] = "attention_mask"


def opened(folder, class_name):
    """transformers' model of a saved folder; every weight of it must be there, and no other."""
    import transformers

    kind = getattr(transformers, class_name)
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def logits(model, features, num_choices=None, output="logits"):
    """transformers' logits for the features of a packer; `num_choices` rows to an example."""
    import torch

    given = {NAMES[name]: torch.from_numpy(array).long() for name, array in features.items()}
    if num_choices:
        given = {k: x.reshape(-1, num_choices, x.shape[-1]) for k, x in given.items()}
    with torch.no_grad():
        return model(**given)[output].numpy()


def served(version, signature="serving_default", **inputs):
    """A SavedModel's answers: lists of strings, arrays of numbers."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    function = tf.saved_model.load(str(version)).signatures[signature]
    outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
    assert {output.dtype.name for output in outputs.values()} <= {"string", "float32", "int32"}
    return {
        name: np.char.decode(output.numpy().astype("S")).tolist()
        if output.dtype == tf.string else output.numpy()
        for name, output in outputs.items()
    }  # fmt: skip
