"""Files that are written whole or not at all."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """Gives a temporary path, whose file becomes `path` if nothing fails.

    Whoever reads `path` finds the old file or the new one, and nothing in between,
    even if the process is killed.

    Example:

    >>> with replacing("log.csv") as temporary:
    ...     characters = temporary.write_text("epoch,loss")

    Args:
        path: Path of a file. The temporary one lies beside it, and has its ending.
    """
    path = Path(path)
    temporary = path.with_name(f"unfinished_{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
