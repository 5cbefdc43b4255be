"""Figure 2: token ids are those of `transformers`, eager and in the graph."""

import json

from benchmarks import material
from benchmarks.systems import Settings, System, progress
from benchmarks.tables import number, table

TITLE = "2. Texts whose token ids differ from transformers'"
ROUNDS = 1


def systems(settings: Settings) -> list[System]:
    cases = {
        "SQuAD questions, bert-base-uncased": ("squad", "bert-base-uncased"),
        "Banking77, MiniLM": ("banking77", "minilm"),
        "Machado, BERTimbau cased": ("machado", "bertimbau-cased"),
        "Machado, bert-base-uncased": ("machado", "bert-base-uncased"),
    }
    return [
        System(name, mismatches, given={"texts": texts, "vocabulary": vocabulary})
        for name, (texts, vocabulary) in cases.items()
    ]


def report(measured) -> str:
    columns = ("texts", "eager", "in_graph", "eager_published", "as_it_comes")
    rows = [
        [name, *(number(turns[0].get(column)) for column in columns)]
        for name, turns in measured.items()
    ]
    head = (
        "texts, vocabulary", "texts", "eager", "in graph", "eager, published ids",
        "FastBertTokenizer as it comes",
    )  # fmt: skip
    return f"{table(head, rows)}\n\nWanted: none. The last column is TensorFlow Text's own."


def mismatches(settings: Settings, texts: str, vocabulary: str) -> dict:
    import tensorflow as tf
    import tensorflow_text as tf_text
    from transformers import AutoTokenizer, BertTokenizerFast

    from kbert.text.in_graph import in_graph
    from kbert.text.tokenizer import Tokenizer

    is_minilm = vocabulary == "minilm"
    folder = material.minilm() if is_minilm else material.shared_data() / "vocab" / vocabulary
    kind = AutoTokenizer if is_minilm else BertTokenizerFast
    chosen, published = _texts(texts, settings.size(10**9, 200))
    progress("  transformers")
    expected = kind.from_pretrained(folder)(
        chosen, add_special_tokens=False, return_token_type_ids=False, return_attention_mask=False
    )["input_ids"]
    progress("  eager")
    tokenizer = Tokenizer.from_folder(folder)
    eager = tokenizer(chosen)
    progress("  in graph")
    raw = tf.constant([text.encode() for text in chosen], tf.string)
    graph = tf.function(in_graph(tokenizer), input_signature=[tf.TensorSpec([None], tf.string)])
    fast = tf_text.FastBertTokenizer(
        tokenizer.vocab, lower_case_nfd_strip_accents=bool(tokenizer.lowercase)
    )
    return {
        "texts": len(chosen),
        "eager": _count(expected, eager),
        "in_graph": _count(expected, graph(raw).to_list()),
        "as_it_comes": _count(expected, fast.tokenize(raw).to_list()),
        "eager_published": _count(published, eager) if published else None,
    }


def _texts(name: str, most: int) -> tuple[list[str], list[list[int]] | None]:
    """Texts, and their published ids where there are some."""
    if name == "machado":
        return material.machado(min(20_000, most)), None
    if name == "banking77":
        records = material.banking("train") + material.banking("test")
        return [record["text"] for record in records][:most], None
    folder = material.shared_data() / "tokenizer_goldens"
    questions = json.loads((folder / "question_tokens.json").read_text("utf-8"))
    ids = json.loads((folder / "tokenized_questions.json").read_text("utf-8"))
    return [question["original"] for question in questions][:most], ids[:most]


def _count(expected, found) -> int:
    return sum(list(e) != list(f) for e, f in zip(expected, found, strict=True))
