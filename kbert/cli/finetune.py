"""`kbert finetune`: train a checkpoint on a task."""

import sys

import click

from kbert.cli.shared import naming, show_scores


@click.group()
def finetune():
    """Train a checkpoint on a task; one subcommand per task."""


@finetune.command("text-classification")
@click.option("--train", required=True, metavar="FILE", help="CSV, TSV, JSONL or Parquet.")
@click.option("--test", metavar="FILE", help="Measured once, after training.")
@click.option("--validation", metavar="FILE", help="Measured after each epoch; the best is kept.")
@click.option("--text", default="text", help="Column with the texts.")
@click.option("--label", default="label", help="Column with the labels.")
@click.option("--checkpoint", required=True, metavar="FOLDER|HUB_NAME", help="Where to start.")
@click.option("--output", required=True, metavar="FOLDER", help="The run folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace the run folder if it exists.")
@click.option("--epochs", default=3, type=click.IntRange(1), help="Passes over the data.")
@click.option("--batch-size", default=32, type=click.IntRange(1), help="Rows in a batch.")
@click.option(
    "--token-budget", default=0, type=click.IntRange(0), help="Tokens in a batch, instead of rows."
)
@click.option(
    "--learning-rate", default=3e-4, type=click.FloatRange(0, min_open=True),
    help="The highest one.",
)  # fmt: skip
@click.option(
    "--schedule", default="linear", type=click.Choice(["linear", "cosine", "constant"]),
    help="The learning rate after the warm-up.",
)  # fmt: skip
@click.option("--warmup", default=0.1, type=click.FloatRange(0, 1), help="Share of all steps.")
@click.option(
    "--weight-decay", default=0.01, type=click.FloatRange(0), help="Not on biases, norms."
)
@click.option(
    "--clip-norm", default=1.0, type=click.FloatRange(0), help="Of all gradients; 0: off."
)
@click.option("--max-length", default=128, type=click.IntRange(3), help="Tokens; the rest is cut.")
@click.option(
    "--stride", default=None, type=click.IntRange(0), metavar="TOKENS",
    help="Answer longer texts whole: in windows of --max-length that share this many tokens.",
)  # fmt: skip
@click.option(
    "--pooling", default="pooler", type=click.Choice(["pooler", "cls", "mean", "max"]),
    help="One vector per text; transformers can open pooler only.",
)  # fmt: skip
@click.option(
    "--dropout", default=None, type=click.FloatRange(0, 1, max_open=True),
    help="Of the encoder and before the classifier; 0 learns more in few epochs."
    "  [default: the checkpoint's]",
)  # fmt: skip
@click.option(
    "--dtype", default="auto", type=click.Choice(["auto", "float32", "mixed_bfloat16"]),
    help="auto: bfloat16 where the device is faster with it.",
)  # fmt: skip
@click.option(
    "--strategy", default="none", type=click.Choice(["none", "mirrored", "data-parallel"]),
    help="Devices: mirrored on TensorFlow, data-parallel on JAX.",
)  # fmt: skip
@click.option("--seed", default=0, type=int, help="Of data order, dropout and new weights.")
def finetune_text_classification(
    train, test, validation, text, label, checkpoint, output, overwrite, max_length, stride,
    pooling, **recipe,
):  # fmt: skip
    """Learn one label for a text from a table with a text and a label column.

    Leaves a run folder: a Hugging Face folder (transformers opens it) with metrics.json,
    history.csv, settings.json and TensorBoard logs. Ctrl-C leaves a usable one.
    """
    from kbert.inputs.records import read_records
    from kbert.tasks.text_classification import TextClassification
    from kbert.training.finetune import Recipe
    from kbert.training.finetune import finetune as run_finetune

    sets = {
        name: read_records(file, (text, label)) if file else None
        for name, file in {"train": train, "test": test, "validation": validation}.items()
    }
    with naming(train):
        task = TextClassification.from_records(
            sets["train"], label=label, text=text, max_length=max_length, stride=stride,
            pooling=pooling, dropout=0.1 if recipe["dropout"] is None else recipe["dropout"],
        )  # fmt: skip
    for name, file in {"train": train, "test": test, "validation": validation}.items():
        with naming(file):
            task.check(sets[name] or ())
    click.echo(f"{len(sets['train']):,} training records, {len(task.labels)} labels.")
    run = run_finetune(
        task, sets["train"], sets["test"], checkpoint, output, Recipe(**recipe),
        validation=sets["validation"], overwrite=overwrite,
        verbose=1 if sys.stdout.isatty() else 2,
    )  # fmt: skip
    if sets["test"]:
        show_scores(run.metrics["test"], "test")
    click.echo(f"Run folder: {run.folder}")
