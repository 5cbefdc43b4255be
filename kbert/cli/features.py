"""`kbert features`: vectors of texts for a classical classifier."""

from pathlib import Path

import click

from kbert.errors import InputError
from kbert.inputs.tables import DELIMITERS

POOLINGS = ("cls", "mean", "max", "pooler")


@click.command()
@click.argument("checkpoint")
@click.option("--input", "file", required=True, metavar="FILE", help="One text a line, or a table.")
@click.option("--output", required=True, metavar="FILE.npz", help="The file to make.")
@click.option("--text", default="text", metavar="COLUMN", help="Column of a table with the texts.")
@click.option("--label", default=None, metavar="COLUMN", help="Column to keep beside, as labels.")
@click.option("--layer", default=-1, help="0: embeddings, 1: the first block …; -1: the last.")
@click.option(
    "--pooling", default="cls", type=click.Choice(POOLINGS), help="One vector of all tokens'."
)
@click.option("--max-length", default=128, type=click.IntRange(3), help="Tokens; the rest is cut.")
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--dtype", default="float32", type=click.Choice(["float32", "bfloat16"]), help="Of the model."
)
@click.option("--delimiter", type=click.Choice(tuple(DELIMITERS)), help="Of tables.")
@click.option("--quoting/--no-quoting", default=True, help="Whether tables quote.")
@click.option("--header/--no-header", default=True, help="Whether tables have names.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def features(checkpoint, file, output, text, label, overwrite, dtype, **settings):
    """Write one vector a text, for scikit-learn and others.

    CHECKPOINT is a folder or a name on the hub. The file has `features`, float32 (texts, width),
    and with --label `labels`; numpy.load reads it.
    """
    from tqdm import tqdm

    import kbert
    from kbert import features as extraction

    _check_output(Path(output), overwrite)
    form = {name: settings.pop(name) for name in ("delimiter", "quoting", "header")}
    labels: list[str] = []
    texts = _texts(file, text, label, labels, form)
    loaded = kbert.load(checkpoint, dtype=dtype)
    vectors = extraction.features(loaded, texts, **settings)
    shown = tqdm(vectors, unit=" texts", disable=None)  # where a terminal is
    columns = {"labels": labels} if label else {}
    number = extraction.write(output, shown, **columns)
    click.echo(f"{output}: {number:,} vectors.")


def _texts(file, text, label, labels, form):
    """The texts of a file one after another; their labels go into `labels` as they are read."""
    from kbert.inputs.records import read_texts, stream
    from kbert.tasks.parts import check_texts

    if label is None:
        yield from read_texts(file, text, **form)
        return
    for row, record in stream(file, (text, label), **form):
        try:
            check_texts([record], (text,))
        except InputError as error:
            raise InputError(f"{file}, row {row}: {error}") from None
        labels.append(str(record[label]))
        yield record[text]


def _check_output(output: Path, overwrite: bool):
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}.")
    if output.is_dir():
        raise InputError(f"{output}: expected a file to make, came a folder.")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists. Choose another name, or pass --overwrite.")
