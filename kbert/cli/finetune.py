"""`kbert finetune TASK`: train a checkpoint on a task; the tasks tell their own options."""

import ast
import dataclasses
from importlib.util import find_spec
from pathlib import Path

import click

from kbert import hub, tasks
from kbert.cli.shared import naming, show_scores
from kbert.cli.tuning import SPEED, TUNING

FILES = [
    click.option("--train", required=True, metavar="FILE", help="{files}"),
    click.option("--test", metavar="FILE", help="Measured once, after training."),
    click.option(
        "--validation", metavar="FILE", help="Measured after each epoch; the best is kept."
    ),
]
RUN = [
    click.option("--checkpoint", required=True, metavar="FOLDER|HUB_NAME", help="Where to start."),
    click.option("--output", required=True, metavar="FOLDER", help="The run folder to make."),
    click.option("--overwrite", is_flag=True, help="Replace the run folder if it exists."),
    click.option(
        "--resume", is_flag=True, help="Go on with a run that was broken off, or begin it."
    ),
]
SAVING = [
    click.option(
        "--save-steps", default=0, type=click.IntRange(0), metavar="N",
        help="Save the run's state every N steps, too; it is saved at each epoch's end.",
    ),
    click.option(
        "--save-minutes", default=10.0, type=click.FloatRange(0), help="And so often; 0: not."
    ),
    click.option("--keep-states", default=1, type=click.IntRange(1), help="The latest ones."),
]  # fmt: skip
STRATEGIES = (
    "none", "auto", "mirrored", "tpu", "multi-worker", "data-parallel", "model-parallel",
)  # fmt: skip
RECIPE = [
    click.option("--epochs", default=3, type=click.IntRange(1), help="Passes over the data."),
    click.option("--batch-size", default=32, type=click.IntRange(1), help="Rows in a batch."),
    click.option(
        "--token-budget",
        default=0,
        type=click.IntRange(0),
        help="Tokens in a batch, instead of rows.",
    ),
    click.option(
        "--learning-rate",
        default=3e-4,
        type=click.FloatRange(0, min_open=True),
        help="The highest one.",
    ),
    click.option(
        "--schedule",
        default="linear",
        type=click.Choice(["linear", "cosine", "constant"]),
        help="The learning rate after the warm-up.",
    ),
    click.option("--warmup", default=0.1, type=click.FloatRange(0, 1), help="Share of all steps."),
    click.option(
        "--weight-decay", default=0.01, type=click.FloatRange(0), help="Not on biases, norms."
    ),
    click.option(
        "--clip-norm", default=1.0, type=click.FloatRange(0), help="Of all gradients; 0: off."
    ),
    click.option(
        "--dropout",
        default=None,
        type=click.FloatRange(0, 1, max_open=True),
        help="Of the encoder and before the classifier; 0 learns more in few epochs."
        "  [default: the checkpoint's]",
    ),
    click.option(
        "--dtype",
        default="auto",
        type=click.Choice(["auto", "float32", "mixed_bfloat16", "mixed_float16"]),
        help="auto: bfloat16 where the device is faster with it.",
    ),
    click.option(
        "--strategy",
        default="none",
        type=click.Choice(STRATEGIES),
        help="Devices: mirrored and tpu on TensorFlow, data-parallel and model-parallel on JAX.",
    ),
    click.option(
        "--mesh", metavar="BATCHxMODEL", help="Of model-parallel: devices for each, as 2x4."
    ),
    click.option("--seed", default=0, type=int, help="Of data order, dropout and new weights."),
    click.option("--deterministic", is_flag=True, help="The same bits each time; slower on a GPU."),
]
AFTER = """
Leaves a run folder: a Hugging Face folder (transformers opens it) with metrics.json,
history.csv, curves.png, settings.json and TensorBoard logs. Ctrl-C leaves a usable
one. A run that was killed, or stopped by Ctrl-C or SIGTERM, goes on with the same
command and --resume.
"""


class Tasks(click.Group):
    """One subcommand per file of tasks/, made when it is asked for: tasks import Keras."""

    def list_commands(self, context):
        return list(tasks.names())

    def get_command(self, context, name):
        return command_of(tasks.task_class(name)) if name in tasks.names() else None

    def format_commands(self, context, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_line(name)) for name in self.list_commands(context)])


@click.group(cls=Tasks)
def finetune():
    """Train a checkpoint on a task; one subcommand per task."""


def first_line(name: str) -> str:
    """The first line of a task's file, read without importing it."""
    file = Path(find_spec("kbert.tasks").origin).with_name(f"{name.replace('-', '_')}.py")
    return ast.get_docstring(ast.parse(file.read_text("utf-8"))).partition("\n")[0]


def command_of(task_class) -> click.Command:
    """`kbert finetune NAME`: options of its files, of the task's fields and of the recipe."""
    settings = [f for f in dataclasses.fields(task_class) if "help" in f.metadata]
    names = [field.name for field in settings]

    def callback(train, test, validation, checkpoint, output, **options):
        task_settings = {name: options.pop(name) for name in names}
        files = {"train": train, "test": test, "validation": validation}
        run(task_class, task_settings, files, checkpoint, output, options)

    description = f"{task_class.__doc__.partition(chr(10))[0]}\n{AFTER}"
    command = click.Command(task_class.name, callback=callback, help=description)
    read = getattr(task_class, "files", "CSV, TSV, JSONL or Parquet.")
    for option in (*FILES, *map(option_of, settings), *RUN, *SAVING, *RECIPE, *TUNING, *SPEED):
        option(command)
    for parameter in command.params:
        parameter.help = parameter.help.format(files=read)
    return command


def option_of(field: dataclasses.Field):
    """The option of one of a task's settings."""
    kind, least = field.metadata["kind"], field.metadata["least"]
    shown = {"help": field.metadata["help"], "default": field.default}
    name = f"--{field.name.replace('_', '-')}"
    if kind is bool:
        return click.option(f"{name}/--no-{name[2:]}", **shown)
    if choices := field.metadata["choices"]:
        kind = click.Choice(choices)
    elif least is not None:
        kind = click.IntRange(least) if kind is int else click.FloatRange(least)
    return click.option(name, type=kind, metavar=field.metadata["metavar"], **shown)


def with_dropout(task, dropout: float | None, checkpoint):
    """The task with that dropout before its classifier; None for what the checkpoint's config says.

    A folder of another format than Hugging Face's says nothing: the task's own default stays.
    """
    from kbert.tasks import parts

    if dropout is None:
        folder = hub.find_folder(checkpoint)
        settings = hub.read_settings(folder) if (folder / hub.CONFIG).is_file() else {}
        dropout = parts.head_dropout(settings, task.name)
    return task if dropout is None else dataclasses.replace(task, dropout=dropout)


def run(task_class, task_settings, files, checkpoint, output, recipe):
    """Read the files, make the task of the training records, train, and tell what came out."""
    from kbert.training.distribution import chosen
    from kbert.training.finetune import Recipe, Saving
    from kbert.training.finetune import finetune as run_finetune

    how = {name: recipe.pop(name) for name in ("overwrite", "resume")}
    saving = Saving(recipe.pop("save_steps"), recipe.pop("save_minutes"), recipe.pop("keep_states"))
    sets = {
        name: task_class.read(file, **task_settings) if file else None
        for name, file in files.items()
    }
    fields = {field.name for field in dataclasses.fields(task_class)}
    with naming(files["train"]):
        task = task_class.from_records(sets["train"], **task_settings)
    for name, file in files.items():
        with naming(file):
            task.check(sets[name] or ())
    if "dropout" in fields:
        task = with_dropout(task, recipe["dropout"], checkpoint)
    labels = f", {len(task.labels)} labels" if "labels" in fields else ""
    click.echo(f"{len(sets['train']):,} training records{labels}.")
    if recipe["strategy"] == "auto":
        click.echo(f"Strategy for the devices found: {chosen('auto')}.")
    done = run_finetune(
        task, sets["train"], sets["test"], checkpoint, output, Recipe(**recipe),
        validation=sets["validation"], saving=saving, **how,
    )  # fmt: skip
    if "test" in done.metrics:
        show_scores(done.metrics["test"], "test")
    click.echo(f"Run folder: {done.folder}")
