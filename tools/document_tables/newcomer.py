"""For docs/newcomer.md: how long the steps of a newcomer take."""

from document_tables.sources import read_results


def steps():
    """Returns the seconds of each step of tools/newcomer.py."""
    rows = [(cell["step"], cell["seconds"]) for cell in read_results("newcomer.csv")]
    return ("step", "seconds"), rows


TABLES = {"newcomer": steps}
