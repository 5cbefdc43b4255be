"""Attention within a window against full attention with a band mask, by length of the text."""

from benchmarks.kernels import BACKENDS, _numbers, _ready
from benchmarks.systems import Settings, System, fastest_in_turns, progress
from benchmarks.tables import table

TITLE = "Attention within a window of 128 tokens against full attention with a band mask, ms"
ROUNDS = 1  # the two take turns within one process
LENGTHS = (512, 1024, 2048, 4096, 8192)
B, H, K, WINDOW = 1, 12, 64, 64  # ModernBERT-base's, half of its window to either side
WAYS = ("forward", "with gradient")
LONGEST_WITH_GRADIENT = 4096  # full attention keeps 12 · T² scores, each several times
FORMS = ("window", "full")


def systems(settings: Settings) -> list[System]:
    return [System(backend, measure, backend) for backend in BACKENDS]


def report(measured) -> str:
    rows = []
    for backend, (turn,) in measured.items():
        for way, length, forms in turn.get("lengths", []):
            seconds = [forms.get(form, {}).get("seconds") for form in FORMS]
            shown = [None if s is None else f"{1000 * s:.1f}" for s in seconds]
            gain = f"{seconds[1] / seconds[0]:.1f}" if all(seconds) else None
            each = None if seconds[0] is None else f"{1e6 * seconds[0] / length:.1f}"
            rows.append([f"{backend}, {way}", length, *shown, gain, each])
    head = ("backend", "tokens", *FORMS, "full / window", "window, µs a token")
    return (
        f"{table(head, rows)}\n\n"
        f"One text, {H} heads of {K}, {WINDOW} tokens to either side, float32; compiled as each "
        "backend does it. The last column stays where the cost is the window's times the length. "
        "(JAX's products of many small matrices slow down with their number on a CPU.)"
    )


def measure(settings: Settings) -> dict:
    lengths = []
    for way in WAYS:
        for length in LENGTHS[: settings.size(len(LENGTHS), 1)]:
            progress(f"  {way}, {length} tokens")
            tensors = [_numbers((B, length, H, K), seed, "float32") for seed in range(3)]
            calls = {form: _ready(function, tensors, way) for form, function in _forms().items()}
            if way != "forward" and length > LONGEST_WITH_GRADIENT:
                del calls["full"]
            lengths.append((way, length, fastest_in_turns(calls, settings.size(3, 1))))
    return {"lengths": lengths}


def _forms() -> dict:
    from kbert.layers import kernels, masks
    from kbert.layers.local_attention import local_attention

    def window(query, key, value):
        return local_attention(query, key, value, window=WINDOW, scale=K**-0.5)

    def full(query, key, value):
        from keras import ops

        band = masks.band(ops.shape(query)[1], WINDOW)
        return kernels.attention(query, key, value, band, scale=K**-0.5)

    return {"window": window, "full": full}
