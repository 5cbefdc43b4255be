"""`kbert query`: asks a server."""

import json
import re
import sys

import click

from kbert.cli.shared import needs_serving
from kbert.errors import InputError

ADDRESS = re.compile(r"(.*?)/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(?::predict)?")
FIRST = ("text", "question")  # of two inputs, the one that is named TEXTS


@click.command()
@click.argument("url")
@click.argument("texts", nargs=-1)
@click.option("--model", help="Its name, where URL has none.")
@click.option("--pair", multiple=True, metavar="TEXT", help="The second text, one for each first.")
@click.option("--input", "file", metavar="FILE", help="A text a line, or a table of the inputs.")
@click.option("--signature", default="serving_default", help="Of the model's.")
@click.option("--deadline", default=60.0, metavar="SECONDS", help="With all attempts.")
@click.option("--batch-size", default=64, type=click.IntRange(1), help="Texts sent at once.")
def query(url, texts, model, pair, file, signature, deadline, batch_size):
    """Ask a server texts: one line of JSON each, in order.

    URL is http://HOST:8501/v1/models/NAME, with /versions/N or /labels/LABEL if one is meant; or
    http://HOST:8501 (REST), grpc://HOST:8500 and --model. Texts are given as arguments, in a file
    (--input) or on standard input, one a line.
    """
    with needs_serving():
        from kbert.serving import Client

    version = None
    if match := ADDRESS.fullmatch(url):
        url, model, version = match[1], match[2], match[4] or (match[3] and int(match[3]))
    if not model:
        raise click.UsageError("which model? Give --model NAME, or URL as http://…/v1/models/NAME")
    if texts and file:
        raise click.UsageError("give texts as arguments or --input FILE, not both.")
    with Client(url, deadline=deadline, batch_size=batch_size) as client:
        signatures = client.metadata(model, version)["metadata"]["signature_def"]["signature_def"]
        if signature not in signatures:
            known = ", ".join(sorted(set(signatures) - {"__saved_model_init_op"}))
            raise InputError(f"{model} has no signature {signature!r}; it has {known}.")
        names = sorted(signatures[signature]["inputs"], key=lambda x: (x not in FIRST, x))
        columns = read(names, texts, pair, file)
        answers = client.predict(model, columns, signature=signature, version=version)
    for *asked, answer in zip(*columns.values(), answers, strict=True):
        named = dict(zip(names, asked, strict=True))
        click.echo(json.dumps({**named, **answer}, ensure_ascii=False, default=bytes.hex))


def read(names, texts, pair, file):
    """The columns of the signature's inputs."""
    from kbert.inputs.records import read_texts, stream

    if file and len(names) > 1:
        records = [record for _, record in stream(file, names)]
        return {name: [record[name] for record in records] for name in names}
    texts = list(texts or read_texts(file or sys.stdin.buffer, names[0]))
    if len(names) == 1 and not pair:
        return {names[0]: texts}
    if len(names) != 2 or len(pair) != len(texts):
        raise InputError(
            f"this signature asks {', '.join(names)}; came {len(texts)} texts and {len(pair)} "
            "--pair. Give --pair once for each text of a pair, or --input FILE with columns of "
            "these names."
        )
    return dict(zip(names, (texts, list(pair)), strict=True))
