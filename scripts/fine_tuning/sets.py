"""The sets of `scripts/compare_finetuning.py`: files, task, figures and recipe."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Devlin et al. 2019, A.3, but for the learning rate: MiniLM is small and wants a higher one.
RECIPE = {"epochs": 3, "batch_size": 32, "learning_rate": 1e-4, "dropout": 0.1, "dtype": "float32"}


Split = Callable[[list, list, Path], tuple[list, list]]


def as_it_is(learn, test, file):
    return learn, test


@dataclass(frozen=True)
class Set:
    """One set of real data.

    Attributes:
        name: of its line in the results.
        task: name of the task.
        files: of training and of test, in the folder of real data; may be the same.
        figures: which of the task's figures the table shows.
        settings: of the task, and of how its files are read.
        split: their records, and the file of the test → what is trained on, what is tested.
        recipe: what differs from RECIPE; 0 epochs: not trained, as the checkpoint is.
    """

    name: str
    task: str
    files: tuple[str, str]
    figures: tuple[str, ...]
    settings: Mapping[str, Any]
    split: Split = as_it_is
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def material(self, data: Path, limit: int | None):
        """The task, and records of training and test; `limit` of the former at most."""
        from kbert import tasks

        kind = tasks.task_class(self.task)
        files = [data / file for file in self.files]
        records = [kind.read(file, **self.settings) for file in files]
        learn, test = self.split(*records, files[1])
        task = kind.from_records(learn, **self.settings)
        return task, learn[:limit], test


def some(number: int) -> Split:
    """As many training records, drawn once; all of the test's."""
    return lambda learn, test, _: (random.Random(0).sample(learn, number), test)


def hotels(learn, test, _):
    """Records are in no order: the first 4,000, and the last 1,000."""
    return learn[:4000], test[-1000:]


def articles(learn, test, file):
    """Questions about the first 40 articles of SQuAD's 48, and about the other 8."""
    found = json.loads(file.read_text("utf-8"))["data"]
    later = {
        question["id"]
        for article in found[40:]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }
    return [x for x in learn if x["id"] not in later], [x for x in test if x["id"] in later]


CLASSIFICATION, REGRESSION = "text-classification", "regression"
PLAIN = {"quoting": False, "delimiter": "tab"}  # how GLUE writes its tables
STS_B = ("glue/STS-B/sts-train.csv", "glue/STS-B/sts-test.csv")
STS_B_COLUMNS = {**PLAIN, "header": False, "text": "6", "text_pair": "7", "label": "5"}
HOTELS = "ratings/hotels_seven_criteria.jsonl.gz"
CRITERIA = "overall,value,rooms,location,cleanliness,checkin,service"
SQUAD = "qa/squad_v1.1/dev-v1.1.json"
SMALL = {"epochs": 5, "batch_size": 16}

ALL = (
    Set(
        "rte", CLASSIFICATION, ("glue/RTE/train.tsv", "glue/RTE/dev.tsv"), ("accuracy",),
        {**PLAIN, "text": "sentence1", "text_pair": "sentence2"}, recipe=SMALL,
    ),
    Set(
        "mrpc", CLASSIFICATION,
        ("glue/MRPC/msr_paraphrase_train.txt", "glue/MRPC/msr_paraphrase_test.txt"),
        ("f1", "accuracy"),
        {**PLAIN, "text": "#1 String", "text_pair": "#2 String", "label": "Quality"},
        recipe=SMALL,
    ),
    Set(
        "cola", CLASSIFICATION, ("glue/CoLA/train.tsv", "glue/CoLA/dev.tsv"), ("matthews",),
        {**PLAIN, "header": False, "text": "4", "label": "2"}, recipe=SMALL,
    ),
    Set(
        "sst2", CLASSIFICATION, ("glue/SST-2/train.tsv", "glue/SST-2/dev.tsv"), ("accuracy",),
        {**PLAIN, "text": "sentence"}, split=some(8000),
    ),
    Set("stsb", REGRESSION, STS_B, ("spearman", "pearson"), STS_B_COLUMNS),
    Set("stsb-cosines", "sentence-embedding", STS_B, ("spearman", "pearson"), STS_B_COLUMNS),
    Set(
        "stsb-untrained", "sentence-embedding", STS_B, ("spearman", "pearson"), STS_B_COLUMNS,
        recipe={"epochs": 0},
    ),
    Set("hotels", REGRESSION, (HOTELS, HOTELS), ("mae",), {"label": CRITERIA}, split=hotels),
    Set(
        "conll", "token-classification", ("ner/conll2003/eng.train", "ner/conll2003/eng.testb"),
        ("f1",), {},
    ),
    Set(
        "lener", "token-classification",
        ("ner/lener_br/train.conll", "ner/lener_br/test.conll"), ("f1",), {"repair": True},
    ),
    Set(
        "squad", "question-answering", (SQUAD, SQUAD), ("exact_match", "f1"), {}, split=articles,
        recipe={"epochs": 2, "batch_size": 16},
    ),
)  # fmt: skip
SETS = {chosen.name: chosen for chosen in ALL}
