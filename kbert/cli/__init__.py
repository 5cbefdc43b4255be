"""The `kbert` command: a file for each group of commands; what is heavy is imported within them."""

import os
import sys
import warnings
from functools import partial

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from kbert import __version__  # noqa: E402
from kbert.cli import (  # noqa: E402
    convert,
    corpus,
    features,
    finetune,
    listing,
    query,
    runs,
    serve,
    similar,
    tokenizer,
)
from kbert.errors import InputError, InputWarning, Terminated  # noqa: E402

SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "show_default": True,
}


@click.group(context_settings=SETTINGS)
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
      kbert serve    saved_models
      kbert query    http://localhost:8501/v1/models/mine "a text"

    \b
    A vocabulary of your own, what a tokenizer makes of a text, and of documents to pretrain on:
      kbert tokenizer learn --output vocabulary corpus.txt
      kbert tokenizer show vocabulary "a text"
      kbert corpus build --tokenizer vocabulary --output corpus FILE_OR_FOLDER

    \b
    Checkpoints of Hugging Face, Google and keras-hub, each into the others:
      kbert convert uncased_L-12_H-768_A-12 bert --to hugging-face

    The backend is Keras's: set KERAS_BACKEND to tensorflow (default), jax or torch.
    """


COMMANDS = (
    finetune.finetune, listing.runs, runs.evaluate, runs.predict, runs.export, similar.similar,
    tokenizer.tokenizer, corpus.corpus, convert.convert, features.features, serve.serve,
    query.query,
)  # fmt: skip
for command in COMMANDS:
    cli.add_command(command)


def show_warning(others, message, category, *where, **settings):
    """What is told of the user's input stands in one line; other warnings as they were."""
    if issubclass(category, InputWarning):
        click.echo(f"kbert: {message}", err=True)
    else:
        others(message, category, *where, **settings)


def main():
    """Run the command; what the user can mend is printed without a traceback, exit code 2."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(show_warning, warnings.showwarning)
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
    except Terminated:
        click.echo("kbert: terminated; the same command with --resume goes on", err=True)
        sys.exit(143)
