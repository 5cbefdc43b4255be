"""Tokens per second: WordPiece in the graph beside `tokenizers` and TensorFlow Text's own."""

import json
import os

from benchmarks import material
from benchmarks.systems import Settings, System, fastest_in_turns, progress, use
from benchmarks.tables import best, number, ratio, table

TITLE = "Text. Thousand tokens per second, from strings to ids"
ROUNDS = 1  # turns are taken within a process
TURNS = 5
LEAST = 0.4  # seconds of a turn
ONE_CORE = "tokenizers, 1 core"
# Name → what its texts are, and the vocabulary for them.
TEXTS = {
    "Banking77": "bert-base-uncased",
    "SQuAD questions": "bert-base-uncased",
    "Gutenberg lines": "bert-base-uncased",
    "Machado lines": "bertimbau-cased",
}


def systems(settings: Settings) -> list[System]:
    return [
        System(ONE_CORE, eager, given={"make": "rust", "cores": 1}),
        *(
            System(
                f"{name}, 1 core, {size} a call", in_graph,
                given={"make": make, "size": size, "cores": 1},
            )
            for name, make, size in (
                ("kbert in graph", "kbert", 64),
                ("kbert in graph", "kbert", 1024),
                ("FastBertTokenizer", "fast", 1024),
            )
        ),
        System("tokenizers, all cores", eager, given={"make": "rust"}),
        System("kbert eager, all cores", eager, given={"make": "kbert"}),
        System(
            "kbert in graph, all cores, tf.data", in_graph, given={"make": "kbert", "size": 1024}
        ),
    ]  # fmt: skip


def report(measured) -> str:
    rows = []
    for name, turns in measured.items():
        row = [name]
        for texts in TEXTS:
            rate, base = best(turns, texts), best(measured[ONE_CORE], texts)
            row += [number(rate and rate / 1000), ratio(rate, base)]
        rows.append(row)
    head = ["", *(column for texts in TEXTS for column in (texts, "×"))]
    return (
        f"{table(head, rows)}\n\n× is beside {ONE_CORE}. Machado is Portuguese, cased; the "
        "others are English in lower case. A process of one core is bound to it. A call is one "
        "from Python; tf.data takes 1024 texts a batch, in as many calls at once as it likes. "
        "FastBertTokenizer's ids are not all BERT's (figure 2). Wanted: kbert in graph at 4.00 or "
        "more with 1024 a call."
    )


def eager(settings: Settings, make: str, cores: int | None = None) -> dict:
    """Tokens per second of the Rust tokenizer, bare or within kbert's."""
    os.environ["TOKENIZERS_PARALLELISM"] = str(cores != 1).lower()
    if cores:
        use("tensorflow", cores)
    from kbert.text.tokenizer import Tokenizer

    def ids_of(vocabulary: str):
        tokenizer = Tokenizer.from_folder(material.shared_data() / "vocab" / vocabulary)
        if make == "kbert":
            return tokenizer
        return lambda texts: [
            encoding.ids
            for encoding in tokenizer.rust.encode_batch_fast(texts, add_special_tokens=False)
        ]

    tokenize = {vocabulary: ids_of(vocabulary) for vocabulary in {*TEXTS.values()}}
    calls, tokens = {}, {}
    for name, vocabulary in TEXTS.items():
        texts, ids = chosen(name, settings), tokenize[vocabulary]
        tokens[name] = sum(map(len, ids(texts)))
        calls[name] = lambda ids=ids, texts=texts: ids(texts)
    return _rates(calls, tokens, settings)


def in_graph(settings: Settings, make: str, size: int, cores: int | None = None) -> dict:
    """Tokens per second of a tokenizer of TensorFlow operations.

    Args:
        make: "kbert" or "fast" (FastBertTokenizer).
        size: texts at a time.
        cores: to call it on from Python, or None: in a tf.data pipeline on all.
    """
    if cores:
        use("tensorflow", cores)
    import tensorflow as tf

    from kbert.text.tokenizer import Tokenizer

    calls, tokens = {}, {}
    folder = material.shared_data() / "vocab"
    tokenizers = {name: Tokenizer.from_folder(folder / name) for name in {*TEXTS.values()}}
    functions = {name: _function(make, tokenizer) for name, tokenizer in tokenizers.items()}
    for name, vocabulary in TEXTS.items():
        texts, call = chosen(name, settings), functions[vocabulary]
        tokens[name] = sum(map(len, tokenizers[vocabulary](texts)))
        batches = [tf.constant(texts[at : at + size]) for at in range(0, len(texts), size)]
        if cores:
            calls[name] = lambda call=call, batches=batches: [call(batch) for batch in batches]
        else:
            calls[name] = _pipeline(texts, size, call)
    return _rates(calls, tokens, settings)


def _function(make: str, tokenizer):
    """A tf.function of string (B,)."""
    import tensorflow as tf
    import tensorflow_text as tf_text

    from kbert.text.in_graph import in_graph

    if make == "kbert":
        module = in_graph(tokenizer)
    else:
        lowers = bool(tokenizer.lowercase)
        fast = tf_text.FastBertTokenizer(tokenizer.vocab, lower_case_nfd_strip_accents=lowers)
        module = fast.tokenize
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(lambda x: module(x), input_signature=signature, autograph=False)


def _pipeline(texts: list[str], size: int, call):
    """Calls `call` in tf.data with all texts, read from memory."""
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices(texts).batch(size).cache()
    done = batches.map(call, num_parallel_calls=tf.data.AUTOTUNE)
    return lambda: done.reduce(0, lambda number, _: number + 1).numpy()


def chosen(name: str, settings: Settings) -> list[str]:
    """Texts as they stand in their files, mixed, at most 10,000."""
    import random

    data = material.shared_data()
    if name == "Banking77":
        texts = [record["text"] for record in material.banking("train")]
    elif name == "SQuAD questions":
        file = data / "tokenizer_goldens" / "question_tokens.json"
        texts = [question["original"] for question in json.loads(file.read_text("utf-8"))]
    elif name == "Gutenberg lines":
        files = sorted((data / "corpus" / "en_gutenberg").glob("*.txt"))
        texts = [line for file in files for line in file.read_text("utf-8").split("\n")]
    else:
        texts = material.machado(10**9)
    texts = [text for text in texts if text.strip()]
    random.Random(0).shuffle(texts)
    return texts[: settings.size(10_000, 200)]


def _rates(calls, tokens, settings: Settings) -> dict:
    progress(f"  {sum(tokens.values()):,} tokens")
    least = LEAST if not settings.quick else 0.0
    measured = fastest_in_turns(calls, settings.size(TURNS, 1), least)
    for name, result in measured.items():
        if "error" in result:
            return {"error": f"{name}: {result['error']}"}
    return {name: tokens[name] / result["seconds"] for name, result in measured.items()}
