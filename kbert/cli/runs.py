"""`kbert evaluate`, `predict` and `export`: what is done with a run folder."""

import json
import sys
from pathlib import Path

import click

from kbert.cli.shared import naming, show_scores
from kbert.errors import InputError


@click.command()
@click.argument("run")
@click.option("--data", required=True, metavar="FILE", help="CSV, TSV, JSONL or Parquet.")
@click.option("--text", default=None, help="Column with the texts.  [default: as in training]")
@click.option("--label", default=None, help="Column with the labels.  [default: as in training]")
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]), help="Of the model."
)
def evaluate(run, data, text, label, batch_size, dtype):
    """Measure a run folder on labelled data: accuracy, macro F1, loss."""
    from dataclasses import replace

    from kbert.inputs.records import read_records

    predictor = _predictor(run, dtype, batch_size)
    task = predictor.task
    task = replace(task, text=text or task.text, label=label or task.label)
    records = read_records(data, (task.text, task.label))
    with naming(data):
        task.check(records)
    logits = predictor.logits([record[task.text] for record in records])
    show_scores(task.scores(logits, records), data)


@click.command()
@click.argument("run")
@click.argument("texts", nargs=-1)
@click.option("--input", "file", metavar="FILE", help="One text a line, or a table (see --text).")
@click.option("--text", default="text", help="Column with the texts, if the input is a table.")
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]), help="Of the model."
)
def predict(run, texts, file, text, batch_size, dtype):
    """Answer texts: one line of JSON each, in order.

    TEXTS are given as arguments, in a file (--input), or on standard input, one a line.
    """
    from itertools import tee

    from kbert.inputs.records import read_texts

    if texts and file:
        raise click.UsageError("give texts as arguments or --input FILE, not both.")
    source = texts or read_texts(file or sys.stdin.buffer, text)
    predictor = _predictor(run, dtype, batch_size)
    asked, shown = tee(source)
    for answer, asked_text in zip(predictor(asked), shown, strict=False):
        click.echo(json.dumps({"text": asked_text, **answer}, ensure_ascii=False))


@click.command()
@click.argument("run")
@click.argument("folder")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]),
    help="Of the served weights.",
)  # fmt: skip
def export(run, folder, dtype):
    """Write the next version of a SavedModel: raw text in, labels out.

    FOLDER is saved_models/NAME; the version is one above the highest there. Serve it with
    TensorFlow Serving: --model_name=NAME --model_base_path=FOLDER.
    """
    from kbert import checkpoint
    from kbert.export.saved_model import export as write
    from kbert.training.finetune import load_task_model

    loaded = checkpoint.load(_run_folder(run), dtype=dtype)
    task, model = load_task_model(loaded, run)
    click.echo(write(model, task, loaded.tokenizer, folder))


def _predictor(run, dtype, batch_size):
    from kbert.training.finetune import load_predictor

    predictor = load_predictor(_run_folder(run), dtype)[1]
    predictor.batch_size = batch_size
    return predictor


def _run_folder(run) -> Path:
    if not Path(run).is_dir():
        raise InputError(f"{run}: no such run folder.")
    return Path(run)
