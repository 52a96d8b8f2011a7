"""Prints what a command says beside its results."""

import sys
from typing import NoReturn


def say(text: str) -> None:
    """Prints a text to standard error, apart from the results.

    Args:
        text: String, what goes on.
    """
    print(text, file=sys.stderr, flush=True)


def disagree(text: str) -> NoReturn:
    """Ends the command with status 1, because the things that it compared differ.

    Args:
        text: String, what differs.

    Raises:
        SystemExit: Always.
    """
    say(text)
    sys.exit(1)
