"""Load on served classifiers: kbert's export beside keras-hub's, in one run on this machine.

    python scripts/benchmark_serving.py [--seconds 8] [--clients 1,8] [--run runs/banking77]

Real messages (Banking77's test set), one a request, to MiniLM's sizes with 77 classes, float32:
kbert's export, padded to the longest text of a batch, and keras-hub's BertTextClassifier with its
preprocessor, padded to 128 tokens. Both in the embedded engine over a socket, with requests
joined and not, and by calling the loaded signature. Without --run the weights are random, which
takes the same time. The clients are threads of another process than the server.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import material  # noqa: E402
from benchmarks.systems import Settings  # noqa: E402
from benchmarks.tables import number, ratio, table  # noqa: E402

SYSTEMS = ("kbert", "keras-hub")
WAYS = ("signature", "engine, one by one", "engine")
HEAD = (
    "way",
    "clients",
    "system",
    "requests/s",
    "p50, ms",
    "p99, ms",
    "times keras-hub",
    "p99 share",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of load, for each figure")
    parser.add_argument("--clients", default="1,8")
    parser.add_argument("--run", help="a run folder on Banking77")
    parser.add_argument("--folder", help="for the exports; keep it to measure again")
    parser.add_argument("--export", help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, metavar=("WAY", "SYSTEM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or temporary
        if options.export:
            export(Settings(folder=options.folder, run=options.run), options.export)
        elif options.serve:
            serve(options, *options.serve)
        else:
            measure(options)


def measure(options):
    for system in SYSTEMS:
        if not model(options, system).is_dir():  # each by a process: it leaves a gigabyte behind
            command = [sys.executable, __file__, "--folder", options.folder, "--export", system]
            command += ["--run", options.run] if options.run else []
            subprocess.run(command, check=True)
    clients = [int(number) for number in options.clients.split(",")]
    found = {}
    for way in WAYS:
        for system in SYSTEMS:
            for number_of, result in load(options, way, system, clients).items():
                found[way, number_of, system] = result
                shown = ", ".join(f"{value:.1f}" for value in result)
                print(f"{way}, {number_of} clients, {system}: {shown}", file=sys.stderr, flush=True)
    rows = []
    for (way, number_of, system), (rate, p50, p99) in sorted(found.items(), key=str):
        theirs = found[way, number_of, "keras-hub"]
        is_ours = system == "kbert"
        rows.append([
            way, number_of, system, number(rate, 1), number(p50, 1), number(p99, 1),
            ratio(rate, theirs[0]) if is_ours else None, ratio(p99, theirs[2]) if is_ours else None,
        ])  # fmt: skip
    print(table(HEAD, rows))


def model(options, system: str) -> Path:
    return Path(options.folder, system, "banking77")


def export(settings: Settings, system: str):
    """The classifier as a SavedModel, each by its own library."""
    folder = Path(settings.folder, system, "banking77")
    if system == "kbert":
        import kbert
        from kbert import checkpoint
        from kbert.loading import task_model

        if not settings.run:
            material.make_random_run(settings)
        loaded = checkpoint.load(settings.classifier, dtype="float32")
        task, classifier = task_model(loaded, settings.classifier)
        kbert.export(classifier, task, loaded.tokenizer, folder)
        return
    import keras
    import tensorflow as tf

    classifier = material.keras_hub_classifier("float32", jit=False)

    def serving_default(text):
        logits = classifier(classifier.preprocessor(text), training=False)
        return {"probabilities": tf.nn.softmax(logits)}

    # Keras's own way: by `tf.saved_model.save` its variables are found only by the Python loader.
    archive = keras.export.ExportArchive()
    archive.track(classifier)
    asked = [tf.TensorSpec([None], tf.string, name="text")]
    archive.add_endpoint("serving_default", serving_default, input_signature=asked)
    archive.write_out(str(folder / "1"))


def load(options, way: str, system: str, clients: list[int]) -> dict:
    """Number of clients → requests a second, p50 and p99 in milliseconds."""
    command = [sys.executable, __file__, "--folder", options.folder, "--serve", way, system]
    command += ["--seconds", str(options.seconds), "--clients", options.clients]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told = json.loads(process.stdout.readline())
    if "url" in told:
        found = {n: under_load(over_rest(told["url"]), n, options.seconds) for n in clients}
    else:
        found = {int(n): result for n, result in told.items()}
    process.stdin.close()
    process.wait()
    return found


def serve(options, way: str, system: str):
    """In a process of its own: serves, or calls the signature itself, and says so in JSON."""
    clients = [int(number) for number in options.clients.split(",")]
    folder = model(options, system).parent
    if way == "signature":
        import tensorflow as tf
        import tensorflow_text  # noqa: F401 (registers its operations)

        saved = tf.saved_model.load(str(folder / "banking77" / "1"))
        answer = saved.signatures["serving_default"]

        def called(text):
            return answer(text=tf.constant([text]))["probabilities"].numpy()

        found = {n: under_load(lambda: called, n, options.seconds) for n in clients}
        print(json.dumps(found), flush=True)
        return
    from kbert.serving import deployment, embedded

    deployment.prepare(folder)
    rows = 1 if way.endswith("one by one") else deployment.BATCH_SIZE
    with embedded.running(folder / deployment.MODELS, batch_size=rows) as (url, _):
        print(json.dumps({"url": url}), flush=True)
        sys.stdin.read()


def over_rest(url: str):
    """A function that makes a client: text → its answer."""

    def made():
        from kbert.serving import Client

        client = Client(url)
        return lambda text: client.predict("banking77", [text])

    return made


def under_load(made, clients: int, seconds: float) -> tuple[float, float, float]:
    """Requests a second, p50 and p99 in milliseconds, of clients that ask without a pause."""
    texts = material.messages(Settings(folder=""), full=3000)
    delays = []
    begins = threading.Barrier(clients + 1)
    ends = [0.0]

    def ask(place: int):
        answer, own, turn = made(), [], place
        for text in texts[place::clients][:20]:  # its first requests are slower
            answer(text)
        begins.wait()
        while (began := time.perf_counter()) < ends[0]:
            answer(texts[turn % len(texts)])
            own.append(time.perf_counter() - began)
            turn += clients
        delays.extend(own)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    ends[0] = time.perf_counter() + 3600
    begins.wait()
    ends[0] = (began := time.perf_counter()) + seconds
    for thread in threads:
        thread.join()
    delays.sort()
    at = [1000 * delays[int(q * (len(delays) - 1))] for q in (0.5, 0.99)]
    return len(delays) / (time.perf_counter() - began), *at


if __name__ == "__main__":
    main()
