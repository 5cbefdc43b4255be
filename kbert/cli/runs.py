"""`kbert evaluate`, `predict` and `export`: what is done with a run folder."""

import json

import click

from kbert.cli.shared import naming, run_folder, show_scores
from kbert.inputs.tables import DELIMITERS

COLUMNS = {
    "--text": "Column with the texts.",
    "--text-pair": "Column with the second text of a pair.",
    "--label": "Column with the labels.",
}


def as_in_training(*names):
    """Options for columns and for how tables are written, where they differ from training's."""

    def add(command):
        table = [
            click.option("--delimiter", type=click.Choice(tuple(DELIMITERS)), help="Of tables."),
            click.option("--quoting/--no-quoting", default=None, help="Whether tables quote."),
            click.option("--header/--no-header", default=None, help="Whether tables have names."),
        ]
        columns = [click.option(name, metavar="COLUMN", help=COLUMNS[name]) for name in names]
        for option in reversed([*columns, *table]):
            option(command)
        return command

    return add


@click.command(epilog="Columns and the form of tables are those of the training, if not given.")
@click.argument("run")
@click.option("--data", required=True, metavar="FILE", help="CSV, TSV, JSONL or Parquet.")
@as_in_training("--text", "--text-pair", "--label")
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]), help="Of the model."
)
def evaluate(run, data, batch_size, dtype, **other):
    """Measure a run folder on labelled data, by the figures of its task."""
    predictor = _predictor(run, dtype, batch_size)
    task = predictor.task = _with(predictor.task, other)
    records = task.read(data, **vars(task))
    with naming(data):
        task.check(records)
    show_scores(predictor.scores(records), data)


@click.command(epilog="Columns and the form of tables are those of the training, if not given.")
@click.argument("run")
@click.argument("texts", nargs=-1)
@click.option("--input", "file", metavar="FILE", help="One text a line, or a table (see --text).")
@as_in_training("--text", "--text-pair")
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]), help="Of the model."
)
def predict(run, texts, file, batch_size, dtype, **other):
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
    task = predictor.task = _with(predictor.task, other)
    source = parts.asked(task, texts) if texts else parts.read_inputs(task, file)
    asked, shown = tee(source)
    for answer, came in zip(predictor(asked), shown, strict=False):
        named = came if isinstance(came, dict) else {"text": came}
        click.echo(json.dumps({**named, **answer}, ensure_ascii=False))


@click.command()
@click.argument("run")
@click.argument("folder")
@click.option(
    "--dtype",
    default="float32",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of the served weights.",
)
@click.option(
    "--signatures",
    metavar="A,B",
    help="Beside serving_default: tokens, embedding, attention, …  [default: all but attention]",
)
@click.option(
    "--max-length", type=click.IntRange(1), help="Tokens of a row.  [default: as in training]"
)
@click.option(
    "--keep",
    type=click.IntRange(2),
    metavar="N",
    help="Remove all but the N newest versions, once the new one stands.  [default: all stay]",
)
@click.option(
    "--version", type=click.IntRange(1), metavar="N", help="[default: one above the highest]"
)
def export(run, folder, signatures, **settings):
    """Write the next version of a SavedModel: raw text in, answers out.

    FOLDER is saved_models/NAME; the version is one above the highest there. Serve it with
    TensorFlow Serving: --model_name=NAME --model_base_path=FOLDER.
    """
    from kbert.export.saved_model import export_run

    names = signatures and [name.strip() for name in signatures.split(",")]
    click.echo(export_run(run_folder(run), folder, signatures=names, **settings))


def _predictor(run, dtype, batch_size):
    from kbert.training.finetune import load_predictor

    predictor = load_predictor(run_folder(run), dtype)[1]
    predictor.batch_size = batch_size
    return predictor


def _with(task, settings):
    """The task with other settings than in training, of those it has."""
    from dataclasses import replace

    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if not hasattr(task, name):
            raise click.UsageError(f"--{name.replace('_', '-')}: {task.name} has no such setting.")
    return replace(task, **given)
