"""`kbert convert`: a checkpoint from one format into another."""

import click

FORMATS = ["hugging-face", "google", "keras"]


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--to", "to", required=True, type=click.Choice(FORMATS), help="The format to write.")
@click.option(
    "--allow-pickle", is_flag=True,
    help="Read pytorch_model.bin, through PyTorch's weights_only reader.",
)  # fmt: skip
@click.option("--drop-head", is_flag=True, help="Leave the head's weights behind, and name them.")
@click.option("--overwrite", is_flag=True, help="Replace DST if it exists.")
def convert(source, target, to, **settings):
    """Write the checkpoint SRC in another format, as DST, with its vocabulary.

    SRC is a Hugging Face folder or hub name, a folder of Google's BERT (bert_config.json,
    bert_model.ckpt), or a keras-hub preset; which of them is recognised.

    \b
    --to hugging-face  config.json and model.safetensors, as kbert and transformers open
    --to google        bert_config.json and bert_model.ckpt of TensorFlow 1; BERT only
    --to keras         a preset that keras_hub.models.Backbone.from_preset(DST) opens; or,
                       if DST ends in .keras, one file with kbert's model, without vocabulary

    Heads go along where the format has a place for them. Where it has none, nothing is written and
    the weights are named; --drop-head converts the encoder alone.
    """
    from kbert.convert import convert as run

    report = run(source, target, to, **settings)
    click.echo(f"{source} ({report.source_format}) -> {target}: {report.class_name}, {to}")
    for what, found in {
        "left out, no weights of the model": report.left_out,
        "dropped": report.dropped,
        "not copied": report.not_copied,
    }.items():
        if found:
            shown = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
            click.echo(f"  {what}: {shown} ({len(found):,})")
    for note in report.notes:
        click.echo(f"  note: {note}")
