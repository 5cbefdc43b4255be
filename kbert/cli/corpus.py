"""`kbert corpus`: documents → the token ids that a model is pretrained on."""

import sys

import click

from kbert.cli.shared import tokenizer_of


@click.group()
def corpus():
    """Make of documents what a model is pretrained on."""


@corpus.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE_OR_FOLDER...")
@click.option(
    "--tokenizer", required=True, metavar="DIR|NAME", help="Whose token ids: any checkpoint's."
)
@click.option("--output", required=True, metavar="DIR", help="The folder to make.")
@click.option(
    "--document", "part", default="blank-line", type=click.Choice(["blank-line", "line", "file"]),
    help="What ends a document of plain text; of records each is one.",
)  # fmt: skip
@click.option("--column", default="text", help="Of records, the column with their text.")
@click.option(
    "--clean/--no-clean", default=True, help="Without HTML's tags and control characters."
)
@click.option(
    "--deduplicate/--no-deduplicate", default=True, help="A document that came before is left out."
)
@click.option(
    "--shard-tokens", default=50_000_000, type=click.IntRange(1), help="Tokens in a file of ids."
)
@click.option("--resume", is_flag=True, help="Go on with a corpus that was broken off.")
def build(paths, tokenizer, output, resume, **settings):
    """Tokenize plain text, JSONL or Parquet, gzipped or not, on all cores.

    Bytes that are no UTF-8 are replaced and counted. Shows what the corpus holds.
    """
    from kbert.inputs.corpus_building import CorpusSettings
    from kbert.inputs.corpus_building import build as run_build

    report = run_build(
        paths, tokenizer_of(tokenizer), output, CorpusSettings(**settings), resume=resume,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    click.echo(
        f"{output}: {report['documents']:,} documents, {report['sentences']:,} sentences, "
        f"{report['tokens']:,} tokens ({report['unknown']:.3%} unknown); left out: "
        f"{report['duplicates']:,} duplicates, {report['empty']:,} empty ones; "
        f"{report['undecodable']:,} undecodable places."
    )
    for length, number in report["documents_by_length"].items():
        click.echo(f"  {length}: {number:,}")
