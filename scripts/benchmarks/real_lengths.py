"""Texts as long as they are: training's tokens per second, without what is only padding."""

import gzip
import json
import random

import numpy as np

from benchmarks import material
from benchmarks.systems import Settings, System, fastest, progress
from benchmarks.tables import best, number, ratio, table

TITLE = "Real lengths: training MiniLM's classifier on texts of their own length"
SETS = {"Banking77": 128, "SST-2": 128, "IMDB": 512}  # the longest row, in tokens
BATCH = 32
OURS, PADDED, LOOP = "kbert", "kbert, all padded", "PyTorch loop, padded to the batch's longest"


def systems(settings: Settings) -> list[System]:
    return [
        system
        for name in SETS
        for system in (
            System(f"{name}: {OURS}", kbert, given={"name": name}),
            System(f"{name}: {PADDED}", kbert, given={"name": name, "padded": True}),
            System(f"{name}: {OURS} on torch", kbert, "torch", {"name": name}),
            System(f"{name}: {LOOP}", pytorch_loop, "torch", {"name": name}),
        )
    ]


def report(measured) -> str:
    rates = {name: best(turns, "rate") for name, turns in measured.items()}
    rows = []
    for name, rate in rates.items():
        chosen = name.partition(":")[0]
        padded, loop = (rates.get(f"{chosen}: {other}") for other in (PADDED, LOOP))
        share = best(measured[name], "padding")
        shown = None if share is None else f"{share:.1%}"
        rows.append([name, number(rate), shown, ratio(rate, padded), ratio(rate, loop)])
    head = ("system", "tokens/s", "padding", "to all padded", "to the loop")
    return (
        f"{table(head, rows)}\n\n"
        "Tokens of text, without padding, in float32; Banking77 and SST-2 of at most 128, IMDB of "
        f"512; batches of {BATCH} (IMDB 8). Wanted: 3 times the padded loop, which texts nearly as "
        "long as the maximum cannot give, and 1.2 times PyTorch's."
    )


def texts(settings: Settings, name: str) -> list[str]:
    """Texts of a set, the same for all, in an order by chance."""
    data = material.shared_data()
    if name == "Banking77":
        found = [record["text"] for record in material.banking("train")]
    elif name == "SST-2":
        lines = (data / "glue" / "SST-2" / "train.tsv").read_text("utf-8").splitlines()[1:]
        found = [line.split("\t")[0] for line in lines]
    else:
        with gzip.open(data / "corpus" / "en_reviews" / "imdb_train.jsonl.gz", "rt") as file:
            found = [json.loads(line)["text"] for line in file]
    full = 96 if name == "IMDB" else 1280
    return random.Random(0).sample(found, settings.size(full, 64))


def batch_of(name: str) -> int:
    return 8 if name == "IMDB" else BATCH


def kbert(settings: Settings, name: str, padded: bool = False) -> dict:
    """Passes of `model.fit` behind a first one, which compiles."""
    import keras

    import kbert

    records = [{"text": x, "label": f"{n % 2}"} for n, x in enumerate(texts(settings, name))]
    task = kbert.TextClassification.from_records(records, max_length=SETS[name])
    loaded = kbert.load(material.minilm(), dtype="float32")
    model = task.model(loaded.encoder)
    model.compile(kbert.adamw(3e-5), task.loss(), jit_compile=False)
    counted = []
    dataset = task.dataset(
        records, loaded.tokenizer, batch_size=batch_of(name), count=counted.append,
        buckets=[SETS[name]] if padded else None,
    )  # fmt: skip
    computed = sum(int(np.prod(batch[0]["token_ids"].shape)) for batch in dataset)
    real = sum(counted)
    seconds = fastest(lambda: model.fit(dataset, shuffle=False, verbose=0), 1)
    progress(f"  {real:,} tokens in {seconds:.1f} s on {keras.backend.backend()}")
    return {"rate": real / seconds, "padding": 1 - real / computed, "seconds": seconds}


def pytorch_loop(settings: Settings, name: str) -> dict:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(material.minilm())
    model = BertForSequenceClassification.from_pretrained(material.minilm(), num_labels=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-5, weight_decay=0.01, fused=True)
    rows = tokenizer(texts(settings, name), truncation=True, max_length=SETS[name])
    number_of_rows, computed = len(rows["input_ids"]), 0
    real = sum(map(len, rows["input_ids"]))
    targets = torch.arange(number_of_rows) % 2

    def epoch():
        nonlocal computed
        computed = 0
        for chosen in torch.randperm(number_of_rows).split(batch_of(name)):
            picked = {key: [rows[key][i] for i in chosen] for key in rows}
            batch = tokenizer.pad(picked, return_tensors="pt")
            computed += batch["input_ids"].numel()
            model(**batch, labels=targets[chosen]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    seconds = fastest(epoch, 1)
    progress(f"  {real:,} tokens in {seconds:.1f} s")
    return {"rate": real / seconds, "padding": 1 - real / computed, "seconds": seconds}
