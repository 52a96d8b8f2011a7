"""Tables as text."""

import io
import shutil

import rich.box
import rich.console
import rich.table

# Columns of a terminal, and of a file, where no row is to be folded.
NARROW = 80
UNBOUNDED = 1000


def simple_table(names, numbers=()):
    """Returns an empty table, with lines under its head only.

    Args:
        names: Heads of its first columns, whose words stand to the left.
        numbers: Heads of the others, whose numbers stand to the right.

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


def to_text(table, width=None):
    """Renders a table without colours.

    Args:
        table: A `rich.table.Table`.
        width: Number of columns that it may take, or `None` for those of the
            terminal, 80 at least, and as many as it needs where there is none.

    Returns:
        A string without a newline at its end.
    """
    if width is None:
        width = max(shutil.get_terminal_size((UNBOUNDED, 0)).columns, NARROW)
    file = io.StringIO()
    # Names are text, even with square brackets or colons in them.
    console = rich.console.Console(
        file=file, width=width, markup=False, emoji=False, highlight=False
    )
    console.print(table)
    lines = [line.rstrip() for line in file.getvalue().split("\n")]
    return "\n".join(lines).strip("\n")
