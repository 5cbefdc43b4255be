"""`kbert similar`: how near texts are, and which of a list are nearest."""

import json

import click

from kbert.cli.shared import run_folder
from kbert.errors import InputError


@click.command()
@click.argument("run")
@click.argument("texts", nargs=-1, required=True)
@click.option("--in", "file", metavar="FILE", help="A list: one text a line, or a table.")
@click.option("--text", default="text", metavar="COLUMN", help="Column of a table with the texts.")
@click.option("--top", default=5, type=click.IntRange(1), help="How many of the list.")
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]), help="Of the model."
)
def similar(run, texts, file, text, top, batch_size, dtype):
    """Compare texts by their vectors: one line of JSON each, in order.

    RUN is the folder of a sentence embedding, of kbert or of sentence-transformers. With --in,
    the nearest texts of a list for each of TEXTS; without, the cosine between every two of TEXTS.
    """
    from itertools import combinations

    from kbert import loading
    from kbert.inference import Predictor
    from kbert.inputs.records import read_texts
    from kbert.tasks.pairs import nearest, of_length_one

    if file is None and len(texts) < 2:
        raise click.UsageError("give two texts or more, or a list: --in FILE.")
    listed = list(read_texts(file, text)) if file else []
    if file and not listed:
        raise InputError(f"{file}: expected texts to compare with, came none.")
    loaded = loading.load(run_folder(run), "sentence-embedding", dtype=dtype)
    predictor = Predictor(loaded.model, loaded.task, loaded.tokenizer, batch_size)
    asked = of_length_one(predictor.logits(texts))
    if file is None:
        for a, b in combinations(range(len(texts)), 2):
            cosine = float(asked[a] @ asked[b])
            show({"text": texts[a], "text_pair": texts[b], "similarity": cosine})
        return
    places, cosines = nearest(asked, of_length_one(predictor.logits(listed)), top)
    for text, row, scores in zip(texts, places, cosines, strict=True):
        found = [
            {"text": listed[place], "number": int(place) + 1, "similarity": float(score)}
            for place, score in zip(row, scores, strict=True)
        ]
        show({"text": text, "nearest": found})


def show(answer):
    click.echo(json.dumps(answer, ensure_ascii=False))
