"""`kbert evaluate`, `predict` and `export`: what is done with a run folder."""

import json
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
    """Measure a run folder on labelled data, by the figures of its task."""
    predictor = _predictor(run, dtype, batch_size)
    task = predictor.task = _with_columns(predictor.task, text=text, label=label)
    records = task.read(data, **vars(task))
    with naming(data):
        task.check(records)
    show_scores(task.scores(predictor.logits(records), records), data)


@click.command()
@click.argument("run")
@click.argument("texts", nargs=-1)
@click.option("--input", "file", metavar="FILE", help="One text a line, or a table (see --text).")
@click.option(
    "--text", default=None,
    help="Column with the texts, if the input is a table.  [default: text]",
)  # fmt: skip
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]), help="Of the model."
)
def predict(run, texts, file, text, batch_size, dtype):
    """Answer texts: one line of JSON each, in order.

    TEXTS are given as arguments, in a file (--input), or on standard input, one a line. Where the
    task asks more than one text (a pair, a question and its context), arguments are taken in
    their order, and a file or standard input holds records with a column of each name.
    """
    from itertools import tee

    from kbert.tasks import parts

    if texts and file:
        raise click.UsageError("give texts as arguments or --input FILE, not both.")
    predictor = _predictor(run, dtype, batch_size)
    task = predictor.task
    source = parts.asked(task, texts) if texts else parts.read_inputs(task, file, text)
    asked, shown = tee(source)
    for answer, came in zip(predictor(asked), shown, strict=False):
        named = came if isinstance(came, dict) else {"text": came}
        click.echo(json.dumps({**named, **answer}, ensure_ascii=False))


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
    from kbert.loading import task_model

    loaded = checkpoint.load(_run_folder(run), dtype=dtype)
    task, model = task_model(loaded, run)
    click.echo(write(model, task, loaded.tokenizer, folder))


def _predictor(run, dtype, batch_size):
    from kbert.training.finetune import load_predictor

    predictor = load_predictor(_run_folder(run), dtype)[1]
    predictor.batch_size = batch_size
    return predictor


def _with_columns(task, **columns):
    """The task with other columns than in training, of those it has."""
    from dataclasses import replace

    given = {name: column for name, column in columns.items() if column}
    for name in given:
        if not hasattr(task, name):
            raise click.UsageError(f"--{name}: {task.name} has no such column.")
    return replace(task, **given)


def _run_folder(run) -> Path:
    if not Path(run).is_dir():
        raise InputError(f"{run}: no such run folder.")
    return Path(run)
