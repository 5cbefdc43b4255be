"""Small real data that kbert carries, with its licence beside it."""

from pathlib import Path

HERE = Path(__file__).parent


def banking77() -> tuple[list[dict], list[dict]]:
    """Messages to an online bank and their intent, 77 of them (Casanueva et al. 2020).

    Returns:
        10,003 training and 3,080 test records, `{"text", "category"}`.
    """
    from kbert.inputs.records import read_records

    folder = HERE / "banking77"
    return tuple(read_records(folder / f"{n}.csv", ("text", "category")) for n in ("train", "test"))
