"""Figure 8: what `import kbert` costs, and whether it brings TensorFlow with it."""

import statistics
import sys
import time

from benchmarks import material
from benchmarks.systems import BACKENDS, Settings, System
from benchmarks.tables import table

TITLE = "8. Seconds of importing"
ROUNDS = 5


def systems(settings: Settings) -> list[System]:
    return [
        *(
            System(f"{backend}: {', '.join(names)}", imports, backend, {"names": names})
            for backend in BACKENDS
            for names in (("keras",), ("keras", "kbert"))
        ),
        *(System(f"{b}: loads", loads, b, repeats=False) for b in BACKENDS),
    ]


def report(measured) -> str:
    rows = []
    for backend in BACKENDS:
        alone, both = (
            [turn["seconds"] for turn in measured[f"{backend}: {names}"] if "seconds" in turn]
            for names in ("keras", "keras, kbert")
        )
        if not alone or not both:
            rows.append([backend, *[None] * 8])
            continue
        own, names = (
            [turn[key] for turn in measured[f"{backend}: keras, kbert"] if key in turn]
            for key in ("last", "names")
        )
        rows.append([
            backend, *(f"{statistics.median(seconds):.2f}" for seconds in (alone, both)),
            f"{statistics.median(both) - statistics.median(alone):.2f}",
            f"{statistics.median(own):.3f}",
            f"{statistics.median(names):.2f}",
            *(measured[f"{backend}: loads"][0].get(key) for key in LOADS),
        ])  # fmt: skip
    head = ("backend", "keras", "keras, kbert", "added", "import kbert", "all its names")
    head += tuple(LOADS.values())
    return (
        f"{table(head, rows)}\n\nMedians of {ROUNDS} in turns. What stands behind kbert's names is "
        "imported when they are used; the column of all its names says what that costs. Wanted: "
        "at most 0.3 s added, no TensorFlow on jax and torch before text or export needs it."
    )


LOADS = {
    "keras_has_tensorflow": "TensorFlow after keras",
    "kbert_has_tensorflow": "after kbert",
    "load_has_tensorflow": "after kbert.load",
}


def imports(settings: Settings, names) -> dict:
    from importlib import import_module

    began = time.perf_counter()
    for name in names:
        last = time.perf_counter()
        import_module(name)
    now = time.perf_counter()
    result = {"seconds": now - began, "last": now - last}
    if "kbert" in names:
        kbert = sys.modules["kbert"]
        for name in kbert.__all__:
            getattr(kbert, name)
        result["names"] = time.perf_counter() - now
    return result


def loads(settings: Settings) -> dict:
    import keras  # noqa: F401

    result = {"keras_has_tensorflow": "tensorflow" in sys.modules}
    import kbert

    result["kbert_has_tensorflow"] = "tensorflow" in sys.modules
    kbert.load(material.minilm())
    result["load_has_tensorflow"] = "tensorflow" in sys.modules
    return result
