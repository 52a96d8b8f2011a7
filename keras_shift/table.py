"""Renders tables as text."""

import io
import shutil
from collections.abc import Iterable

import rich.box
import rich.console
import rich.table

# A table is fitted to no terminal with fewer characters than `NARROW`. No row of a
# table in a file has more than `UNBOUNDED`.
NARROW = 80
UNBOUNDED = 1000


def simple_table(names: Iterable[str], numbers: Iterable[str] = ()) -> rich.table.Table:
    """Returns an empty table with one line, which stands under its head.

    Args:
        names: Heads of the first columns, which hold words and are aligned left.
        numbers: Heads of the other columns, which hold numbers and are aligned
            right. Defaults to `()`.

    Returns:
        A `rich.table.Table`.
    """
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for head in names:
        table.add_column(head, no_wrap=True)
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def to_text(table: rich.table.Table, width: int | None = None) -> str:
    """Renders a table without colours.

    Args:
        table: A `rich.table.Table`.
        width: Int, the largest number of characters in a line. With `None`, it is
            the width of the terminal, at least 80; where there is no terminal,
            lines are as long as the table needs. Defaults to `None`.

    Returns:
        A string without a newline at its end.
    """
    if width is None:
        width = max(shutil.get_terminal_size((UNBOUNDED, 0)).columns, NARROW)
    file = io.StringIO()
    # Square brackets and colons in names are text here, not markup or emoji.
    console = rich.console.Console(
        file=file, width=width, markup=False, emoji=False, highlight=False
    )
    console.print(table)
    lines = [line.rstrip() for line in file.getvalue().split("\n")]
    return "\n".join(lines).strip("\n")
