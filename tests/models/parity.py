"""Every head of an architecture against transformers: the same weights, the same outputs.

    check_heads(kbert.models.roberta, REFERENCE_SETTINGS)

A model of transformers with random weights is read by kbert; what kbert would save goes into
another model of transformers; the three agree on padded inputs, on whichever backend runs.
"""

import importlib

import keras
import numpy as np
from harness import BACKEND, run

from kbert import checkpoint
from kbert.features import hidden_states
from kbert.heads.classification import classification
from kbert.heads.masked_lm import masked_lm
from kbert.heads.multiple_choice import multiple_choice
from kbert.heads.next_sentence import next_sentence
from kbert.heads.replaced_token import replaced_token
from kbert.heads.sentence_order import sentence_order
from kbert.heads.span import span
from kbert.heads.tokens import token_classification
from kbert.weights import names

B, T, LABELS, CHOICES = 6, 13, 7, 3
TOLERANCE = 5e-5

# A head's name → encoder → model, and what transformers calls its outputs.
BUILDERS = {
    "SequenceClassification": lambda encoder: classification(encoder, LABELS),
    "TokenClassification": lambda encoder: token_classification(encoder, LABELS),
    "QuestionAnswering": span,
    "MultipleChoice": lambda encoder: multiple_choice(encoder, CHOICES),
    "MaskedLM": masked_lm,
    "NextSentencePrediction": next_sentence,
}
OUTPUTS = {"QuestionAnswering": ("start_logits", "end_logits")}
# PreTraining holds what it is called to hold: the output's name → the builder of that part.
PRETRAINING = {
    "prediction_logits": masked_lm,
    "seq_relationship_logits": next_sentence,
    "sop_logits": sentence_order,
    "logits": replaced_token,
}
PER_TOKEN = ("TokenClassification", "QuestionAnswering", "MaskedLM", "prediction_logits", "logits")


def random_inputs(architecture, config):
    """Pairs, one of them whole and others padded; without segments where there are none."""
    draw = np.random.default_rng(1)
    padding_mask = np.arange(T) < np.array([13, 7, 11, 2, 13, 5])[:, None]
    inputs = {
        # Not the first ids: RoBERTa reads positions off the padding's id.
        "token_ids": np.where(padding_mask, draw.integers(5, config.vocab_size, (B, T)), 1),
        "segment_ids": np.where(padding_mask & (np.arange(T) > 4), 1, 0),
        "padding_mask": padding_mask,
    }
    inputs = {name: x if x.dtype == bool else x.astype("int32") for name, x in inputs.items()}
    used = architecture.encoder(config, "float32").input
    return {name: x for name, x in inputs.items() if name in used}


def reference(class_name, settings, seed=7, scale=0.2):
    """transformers' model, every weight random."""
    import torch
    import transformers

    kind = getattr(transformers, class_name)
    # Start and end; and in ALBERT the labels of the sentences' order.
    two = class_name.endswith(("QuestionAnswering", "PreTraining"))
    num_labels = 2 if two else LABELS
    model = kind(kind.config_class(**settings, num_labels=num_labels)).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(scale * torch.randn_like(weight))
    return model


def tensors_of(model):
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def reference_outputs(model, inputs, outputs, num_choices=None, **asked):
    """Arrays of the outputs that transformers calls `outputs`, side by side if more than one."""
    import torch

    theirs = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    theirs["padding_mask"] = "attention_mask"
    given = {theirs[name]: torch.from_numpy(x).long() for name, x in inputs.items()}
    if num_choices:
        given = {name: x.reshape(-1, num_choices, x.shape[-1]) for name, x in given.items()}
    with torch.no_grad():
        found = model(**given, **asked)
    if outputs == ("hidden_states",):
        return [state.numpy() for state in found.hidden_states]
    arrays = [found[name].numpy() for name in outputs]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, -1)


def difference(got, expected, real, per_token):
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 0.1  # random weights say something
    far = np.abs(got - expected)
    return float((far[real] if per_token else far).max())


def stem_of(architecture, settings):
    stem = architecture.STEM
    return stem(settings) if callable(stem) else stem


def check_encoder(architecture, settings, tolerance=TOLERANCE, scale=0.2):
    """The bare model's sequence and hidden states, with its weights here and ours there.

    `scale` is how far from their first values the weights are; less where nothing normalises.
    """
    config = architecture.config_from_hugging_face(settings)
    inputs = random_inputs(architecture, config)
    name = f"{stem_of(architecture, settings)}Model"
    theirs = reference(name, settings, scale=scale)
    encoder = architecture.encoder(config, "float32")
    checkpoint.assign(encoder, tensors_of(theirs), architecture, "test")
    expected = reference_outputs(theirs, inputs, ("last_hidden_state",))
    # Of all layers, the last is the sequence: what `kbert features` reads.
    got = run(keras.Model(encoder.input, hidden_states(encoder)), inputs)
    states = reference_outputs(theirs, inputs, ("hidden_states",), output_hidden_states=True)
    assert np.array_equal(states[-1], expected)
    real = inputs["padding_mask"]
    found = difference(got[-1], states[-1], real, True)
    # What no norm has scaled yet is compared in shares of its largest value.
    sizes = [max(1.0, np.abs(state).max()) for state in states]
    inner = zip(got[:-1], states[:-1], sizes[:-1], strict=True)
    found = max([found, *(difference(x, y, real, True) / size for x, y, size in inner)])
    print(f"{architecture.__name__} encoder {BACKEND} {found:.1e}")
    assert found <= tolerance
    other = reference(name, settings, seed=8)
    give(other, checkpoint.tensors_of(encoder, architecture))
    again = reference_outputs(other, inputs, ("last_hidden_state",))
    assert difference(again, expected, inputs["padding_mask"], True) <= tolerance


def check_heads(architecture, settings, heads=None, tolerance=TOLERANCE):
    """Every head that the architecture's HEADS name, or those of `heads`."""
    for head in heads or architecture.HEADS:
        check_head(architecture, settings, head, tolerance)


def check_head(architecture, settings, head, tolerance=TOLERANCE, scale=0.2):
    """One head, all of its outputs."""
    name = f"{stem_of(architecture, settings)}For{head}"
    theirs, other = (reference(name, settings, seed, scale) for seed in (7, 8))
    parts = {head: (BUILDERS.get(head), OUTPUTS.get(head, ("logits",)))}
    if head == "PreTraining":
        fields = importlib.import_module(type(theirs).__module__)
        fields = getattr(fields, f"{name}Output").__dataclass_fields__
        parts = {n: (build, (n,)) for n, build in PRETRAINING.items() if n in fields}
    for part, (build, outputs) in parts.items():
        found = check_part(architecture, settings, head, part, build, outputs, theirs, other)
        print(f"{architecture.__name__} {head} {part} {BACKEND} {found:.1e}")
        assert found <= tolerance, (name, part)


def check_part(architecture, settings, head, part, build, outputs, theirs, other):
    config = architecture.config_from_hugging_face(settings)
    inputs = random_inputs(architecture, config)
    real, per_token = inputs["padding_mask"], part in PER_TOKEN
    num_choices = CHOICES if head == "MultipleChoice" else None
    encoder = architecture.encoder(config, "float32")
    checkpoint.assign(encoder, tensors_of(theirs), architecture, "test")
    model = build(encoder)
    new = names.load_head(model, encoder, head)
    assert new == [], (new, list(encoder.head_weights[head]))
    expected = reference_outputs(theirs, inputs, outputs, num_choices)
    found = difference(run(model, inputs), expected, real, per_token)
    tensors = checkpoint.tensors_of(model, architecture, head)
    give(other, tensors, whole=head != "PreTraining")
    again = reference_outputs(other, inputs, outputs, num_choices)
    assert difference(again, expected, real, per_token) <= TOLERANCE
    return found


def give(model, tensors, whole=True):
    """Load our tensors into a model of transformers: nothing unknown, missing only what is tied."""
    import torch

    found = model.load_state_dict(
        {n: torch.from_numpy(a) for n, a in tensors.items()}, strict=False
    )
    assert not found.unexpected_keys
    tied = getattr(model, "all_tied_weights_keys", {})
    missing = [n for n in found.missing_keys if n not in tied and "pooler" not in n]
    missing = [n for n in missing if not n.endswith(("position_ids", "token_type_ids"))]
    assert not whole or not missing, missing
