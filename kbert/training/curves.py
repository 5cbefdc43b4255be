"""The curves of a run as a picture: each figure over the epochs, training beside validation."""

from collections.abc import Sequence
from pathlib import Path

WITHOUT_CURVE = ("epoch", "seconds", "learning_rate")
VALIDATION = "val_"


def draw_curves(lines: Sequence[dict[str, float]], file: Path) -> None:
    """Write a PNG with a panel for each figure of the history, the loss first.

    Args:
        lines: one an epoch, as in history.csv: `epoch`, and figures; `val_` stands before those
            of the validation.
        file: is written.
    """
    from matplotlib.figure import Figure  # without pyplot, which keeps windows and global state
    from matplotlib.ticker import MaxNLocator

    names = dict.fromkeys(name.removeprefix(VALIDATION) for name in lines[-1])
    names = sorted((x for x in names if x not in WITHOUT_CURVE), key=lambda x: x != "loss")
    figure = Figure(figsize=(4.5 * len(names), 3.4), layout="constrained")
    epochs = [line["epoch"] for line in lines]
    for panel, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label in ((name, "training"), (VALIDATION + name, "validation")):
            if key in lines[-1]:
                panel.plot(epochs, [line.get(key) for line in lines], marker="o", label=label)
        panel.set(title=name.replace("_", " "), xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(file, dpi=110)
