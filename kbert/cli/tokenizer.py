"""`kbert tokenizer`: learn a vocabulary, and look at what a tokenizer makes of a text."""

import sys

import click

from kbert.cli.shared import tokenizer_of
from kbert.errors import InputError


class ListAtTheEnd(click.Command):
    """A command whose option --compare takes all arguments after it, up to the next option."""

    def parse_args(self, context, arguments):
        spread, is_list = [], False
        for argument in arguments:
            is_option = argument.startswith("--") or argument == "-h"
            if is_list and not is_option:
                spread.append(f"--compare={argument}")
                continue
            is_list = argument == "--compare"
            if not is_list:
                spread.append(argument)
        return super().parse_args(context, spread)


@click.group()
def tokenizer():
    """Learn a vocabulary; show what a tokenizer makes of a text."""


@tokenizer.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--kind", default="wordpiece", type=click.Choice(["wordpiece", "bpe", "byte-bpe", "unigram"]),
    help="As BERT's; of characters; of bytes, as RoBERTa's; as ALBERT's.",
)  # fmt: skip
@click.option(
    "--vocab-size", default=30_000, type=click.IntRange(1),
    help="Pieces, with special tokens and alphabet.",
)  # fmt: skip
@click.option("--lowercase", is_flag=True, help="Take texts in lower case.")
@click.option("--strip-accents", is_flag=True, help="Take texts without accents.")
@click.option(
    "--numbers-to-unk", is_flag=True, help="Any number is the unknown token; none is learned."
)
@click.option(
    "--special", multiple=True, metavar="TOKEN",
    help="A special token beyond the five of the kind; may be given many times.",
)  # fmt: skip
@click.option("--output", required=True, metavar="DIR", help="The folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it holds a tokenizer only.")
def learn(files, output, **settings):
    """Learn a vocabulary from plain text files (UTF-8) of any size.

    Writes a Hugging Face folder that transformers.AutoTokenizer opens. The same files and settings
    give the same vocabulary.
    """
    from kbert.text.learn import learn as run_learn

    learned = run_learn(files, output, **settings, progress=sys.stderr.isatty())
    asked = settings["vocab_size"]
    less = f"; the files give no more of the {asked:,}" if learned.vocab_size < asked else ""
    click.echo(f"{output}: {settings['kind']}, {learned.vocab_size:,} pieces{less}")


@tokenizer.command(cls=ListAtTheEnd)
@click.argument("folder", metavar="DIR|NAME")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT [TEXT]...")
@click.option(
    "--max-length", type=click.IntRange(1), help="Tokens to cut and pad to, with the special ones."
)
@click.option(
    "--compare", multiple=True, metavar="DIR|NAME...",
    help="Show the pieces of these tokenizers side by side; comes last.",
)  # fmt: skip
def show(folder, texts, max_length, compare):
    """Show what a tokenizer makes of a text, or of texts that go into one row.

    DIR is a folder of tokenizer files, or any checkpoint that kbert loads; NAME a model's on the
    Hugging Face hub. A line for each token: its place, piece, id, segment, mask, and the characters
    it covers.
    """
    from kbert.inputs.packer import Packer
    from kbert.text import show

    if compare and max_length:
        raise click.UsageError("give --max-length or --compare, not both.")
    if compare:
        if len({folder, *compare}) <= len(compare):
            raise InputError(f"Expected different folders to compare, came {', '.join(compare)}.")
        loaded = {name: tokenizer_of(name) for name in (folder, *compare)}
        click.echo(show.comparison(loaded, texts))
        return
    loaded = tokenizer_of(folder)
    packer = max_length and Packer(loaded.form, loaded.pad_id, max_length)
    click.echo(show.table(loaded, texts, packer))
