"""Tables as plain text that Markdown reads too."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table; numbers to the right. None is shown as a dash."""
    lines = [[_shown(cell) for cell in row] for row in rows]
    if not lines:
        return "(nothing was measured)"
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    right = [all(_is_number(line[i]) for line in lines) for i in range(len(head))]

    def line(cells):
        columns = zip(cells, widths, right, strict=True)
        padded = (cell.rjust(width) if r else cell.ljust(width) for cell, width, r in columns)
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True))
    return "\n".join([line(head), f"|{'|'.join(rule)}|", *map(line, lines)])


def ratio(value: float | None, other: float | None) -> str | None:
    """`value / other` with two digits, where both are known."""
    return f"{value / other:.2f}" if value and other else None


def number(value: float | None, digits: int = 0) -> str | None:
    return None if value is None else f"{value:,.{digits}f}"


def best(turns: Sequence[dict], key: str, choose=max) -> float | None:
    """The best of what several turns measured; None if all failed."""
    values = [turn[key] for turn in turns if turn.get(key) is not None]
    return choose(values) if values else None


def _shown(cell) -> str:
    return "–" if cell is None else str(cell)


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell == "–"
