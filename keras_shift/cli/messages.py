"""What a command says beside its results."""

import sys


def say(text):
    """Tells what goes on, without mixing it with results.

    Args:
        text: String.
    """
    print(text, file=sys.stderr, flush=True)


def disagree(text):
    """Ends the command with status 1: what it compared is not the same.

    Args:
        text: String, what is not.
    """
    say(text)
    sys.exit(1)
