"""Options of `kbert finetune` that say what of a model learns, how fast, and how the steps run."""

import click

TUNING = [
    click.option(
        "--freeze", default="", metavar="PARTS", show_default="nothing",
        help="What does not learn, as embeddings,0-7.",
    ),
    click.option(
        "--unfreeze", default=0, type=click.IntRange(0), metavar="BLOCKS", show_default="all",
        help="Begin with the head; so many blocks more learn in each epoch.",
    ),
    click.option(
        "--lora-rank", default=0, type=click.IntRange(0),
        help="Learn products of this rank beside the encoder's weights; 0: the weights.",
    ),
    click.option(
        "--lora-targets", default="query,value", metavar="NAMES",
        help="Beside which: query, key, value, output, inner, outer.",
    ),
    click.option(
        "--lora-alpha", default=None, type=click.FloatRange(0, min_open=True), show_default="rank",
        help="The products count alpha / rank.",
    ),
    click.option(
        "--layer-decay", default=1.0, type=click.FloatRange(0, 1, min_open=True),
        help="Learning rate of a block, as a share of the next one's.",
    ),
    click.option(
        "--accumulate", default=1, type=click.IntRange(1), help="Batches that make one step."
    ),
    click.option(
        "--class-weights", default="", metavar="balanced|LABEL=W,…", show_default="1 for all",
        help="What a label counts in the loss; balanced: rare ones the more.",
    ),
    click.option(
        "--label-smoothing", default=0.0, type=click.FloatRange(0, 1, max_open=True),
        help="Share of a label that all labels have in common.",
    ),
    click.option(
        "--average", default=0.0, type=click.FloatRange(0, 1, max_open=True),
        help="Share that a step keeps of the weights' moving average, which is saved; 0: off.",
    ),
    click.option(
        "--patience", default=0, type=click.IntRange(0),
        help="Stop after so many epochs without a better one; 0: never.",
    ),
]  # fmt: skip
SPEED = [
    click.option(
        "--steps-per-execution", default=1, type=click.IntRange(1),
        help="Batches between two looks at the callbacks.",
    ),
    click.option(
        "--rematerialise", is_flag=True,
        help="Compute a block again for its gradient: less memory, more time.",
    ),
    click.option(
        "--jit", default="auto", type=click.Choice(["auto", "on", "off"]),
        help="Compile the step by XLA; auto: on JAX.",
    ),
]  # fmt: skip
