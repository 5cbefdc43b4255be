"""`kbert serve`: a server of the SavedModels in a folder."""

import contextlib
import shlex
import signal
import sys
from pathlib import Path

import click

from kbert.cli.shared import needs_serving
from kbert.errors import InputError

ENGINES = ("auto", "tensorflow-serving", "docker", "embedded")


@click.command()
@click.argument("folder", default="saved_models")
@click.option("--port", default=8500, type=click.IntRange(1, 65535), help="Of gRPC.")
@click.option("--rest-port", default=8501, type=click.IntRange(1, 65535), help="Of the REST API.")
@click.option(
    "--engine", default="auto", type=click.Choice(ENGINES),
    help="auto: tensorflow_model_server if it is on the path, else Docker. embedded: REST only, by "
    "kbert itself, for a laptop and for tests.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", help="Where the embedded engine listens.")
@click.option(
    "--batching/--no-batching", default=True, help="Whether parallel requests are joined."
)
@click.option("--image", default=None, help="Docker's.  [default: tensorflow/serving:latest]")
@click.option("--wait", default=300.0, metavar="SECONDS", help="For the models to be up.")
@click.option("--dry-run", is_flag=True, help="Write the files, show the command, start nothing.")
def serve(folder, port, rest_port, engine, host, batching, image, wait, dry_run):
    """Serve every SavedModel of FOLDER, TF Serving's layout: FOLDER/NAME/VERSION.

    Writes models.config, batching.config and monitoring.config into FOLDER where they are missing
    (a models.config that is there is kept; new models are added to it), starts TensorFlow Serving
    with them and waits until the models are up. New versions are served as they come.
    """
    with needs_serving():
        from kbert.serving import deployment, launch

    configs = deployment.prepare(folder)
    config = Path(folder).absolute() / deployment.MODELS
    if engine == "embedded":
        embed(config, configs, host, rest_port, batching, dry_run)
        return
    if not dry_run or engine == "auto":  # what is named is shown, there or not
        engine = launch.resolved(engine)
    words = launch.command(
        engine, Path(folder), port, rest_port, batching=batching, image=image or launch.IMAGE
    )
    click.echo(f"{'Would start' if dry_run else 'Starting'}: {shlex.join(words)}")
    if not dry_run:
        run(words, [config.name for config in configs], port, rest_port, wait)


def run(words, models, port, rest_port, wait):
    """Runs TensorFlow Serving until it ends, or we are told to."""
    from kbert.serving import launch

    process = launch.start(words)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        url = f"http://localhost:{rest_port}"
        show(launch.wait_until_up(process, url, models, wait), url, f", gRPC localhost:{port}")
        code = process.wait()
    except KeyboardInterrupt:
        click.echo("kbert: stopping the server", err=True)
        return
    finally:
        signal.signal(signal.SIGTERM, before)
        stop(process)
    if code:
        raise InputError(f"{words[0]} ended with code {code}; what it printed says why.")


def stop(process):
    """Lets the server end; one that does not is killed after a while."""
    process.terminate()
    try:
        process.wait(30)
    except Exception:
        process.kill()
        raise


def embed(config, configs, host, rest_port, batching, dry_run):
    """Serves by this process."""
    if dry_run:
        click.echo(f"Would serve {', '.join(c.name for c in configs)} on http://{host}:{rest_port}")
        return
    with needs_serving():
        import tensorflow as tf

        from kbert.serving import deployment, embedded

    tf.get_logger().setLevel("ERROR")  # what a session is loaded by is called deprecated
    click.echo(f"Starting kbert's own server on http://{host}:{rest_port} …")
    rows = deployment.BATCH_SIZE if batching else 1
    with embedded.serving(config, host=host, port=rest_port, batch_size=rows) as served:
        server, url, repository = served
        up = {name: sorted(model.loaded) for name, model in repository.models.items()}
        for name, loaded in up.items():
            if not loaded:
                told = [state.message for state in repository.models[name].states.values()]
                raise InputError(f"{name}: no version could be loaded: {'; '.join(told)}")
        show(up, url)
        with contextlib.suppress(KeyboardInterrupt):  # not raised where a shell's & ignores Ctrl-C
            server.run(server.sockets)
        click.echo("kbert: stopped", err=True)


def show(up, url, others=""):
    for name, versions in up.items():
        numbers = ", ".join(map(str, versions))
        click.echo(f"{name}: version{'s' * (len(versions) > 1)} {numbers} AVAILABLE")
    click.echo(f"REST {url}/v1/models/NAME:predict{others}")
    click.echo(f'Ask it: kbert query {url}/v1/models/{next(iter(up))} "a text"')
