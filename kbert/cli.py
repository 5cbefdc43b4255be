"""The `kbert` command."""

import contextlib
import json
import os
import sys
from pathlib import Path

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from kbert import __version__  # noqa: E402
from kbert.errors import InputError  # noqa: E402

SHOWN = {"context_settings": {"show_default": True, "max_content_width": 100}}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kbert")
def cli():
    """BERT-family models in Keras 3: fine-tune, evaluate, predict, export for TF Serving.

    \b
    The road from labelled text to a served model:
      kbert finetune text-classification --train train.csv --test test.csv \\
          --text text --label category --checkpoint FOLDER_OR_HUB_NAME --output runs/mine
      kbert evaluate runs/mine --data test.csv
      kbert predict  runs/mine "a text"
      kbert export   runs/mine saved_models/mine

    The backend is Keras's: set KERAS_BACKEND to tensorflow (default), jax or torch.
    """


@cli.group()
def finetune():
    """Train a checkpoint on a task; one subcommand per task."""


@finetune.command("text-classification", **SHOWN)
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
    train, test, validation, text, label, checkpoint, output, overwrite, max_length, pooling,
    **recipe,
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
    with _naming(train):
        task = TextClassification.from_records(
            sets["train"], label=label, text=text, max_length=max_length, pooling=pooling,
            dropout=0.1 if recipe["dropout"] is None else recipe["dropout"],
        )  # fmt: skip
    for name, file in {"train": train, "test": test, "validation": validation}.items():
        with _naming(file):
            task.check(sets[name] or ())
    click.echo(f"{len(sets['train']):,} training records, {len(task.labels)} labels.")
    run = run_finetune(
        task, sets["train"], sets["test"], checkpoint, output, Recipe(**recipe),
        validation=sets["validation"], overwrite=overwrite,
        verbose=1 if sys.stdout.isatty() else 2,
    )  # fmt: skip
    if sets["test"]:
        _show(run.metrics["test"], "test")
    click.echo(f"Run folder: {run.folder}")


@cli.command(**SHOWN)
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
    with _naming(data):
        task.check(records)
    logits = predictor.logits([record[task.text] for record in records])
    _show(task.scores(logits, records), data)


@cli.command(**SHOWN)
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


@cli.command(**SHOWN)
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


@contextlib.contextmanager
def _naming(file):
    """What is wrong with records is told with the name of their file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _predictor(run, dtype, batch_size):
    from kbert.training.finetune import load_predictor

    predictor = load_predictor(_run_folder(run), dtype)[1]
    predictor.batch_size = batch_size
    return predictor


def _run_folder(run) -> Path:
    if not Path(run).is_dir():
        raise InputError(f"{run}: no such run folder.")
    return Path(run)


def _show(figures: dict, name):
    click.echo(
        f"{name}: accuracy {figures['accuracy']:.2%}, macro F1 {figures['macro_f1']:.2%}, "
        f"loss {figures['loss']:.4f}, {figures['examples']:,} examples"
    )


def main():
    """Run the command; what the user can mend is printed without a traceback, exit code 2."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except InputError as error:
        click.echo(f"kbert: {error}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("kbert: interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
