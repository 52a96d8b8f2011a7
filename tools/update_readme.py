"""Writes measured figures into README.md and docs/, between marks in their text.

python tools/update_readme.py

`<!-- table: NAME -->` and `<!-- value: FILE.csv COLUMN -->`, each closed by
`<!-- end -->`, stand where a table of `TABLES` and the first value of a column belong,
and `<!-- value: NAME -->` where a text of `TEXTS` does; all other text is written by
hand. tools/document_tables makes both, of benchmarks/results/*.csv, zoo/results.csv,
zoo/weights/*.json and tests/data/expected_counts.json; a test fails when a document is
stale.
"""

import re

from document_tables import (
    benchmarks,
    examples,
    frontier,
    guides,
    newcomer,
    readme,
    reliability,
    studies,
)
from document_tables.sources import ROOT, read_results

from keras_shift.files import replacing

DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "docs" / "benchmarks.md",
    ROOT / "docs" / "examples.md",
    ROOT / "docs" / "frontier.md",
    ROOT / "docs" / "newcomer.md",
    ROOT / "docs" / "reliability.md",
    ROOT / "docs" / "studies.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
)
MARKED = re.compile(r"(<!-- (table|value): (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)

MODULES = (
    benchmarks,
    examples,
    frontier,
    guides,
    newcomer,
    readme,
    reliability,
    studies,
)
# Functions without arguments: a table's returns its header and its rows.
TABLES = {name: table for module in MODULES for name, table in module.TABLES.items()}
TEXTS = readme.TEXTS


def main():
    """Replaces what stands between marks in all documents."""
    for path in DOCUMENTS:
        text = updated(path.read_text())
        with replacing(path) as temporary:
            temporary.write_text(text)


def updated(text):
    """Returns a document's text with the figures of today between its marks."""

    def fill(found):
        begin, kind, name, _, end = found.groups()
        if kind == "table":
            header, rows = TABLES[name]()
            lines = [header, ["---"] * len(header), *rows]
            content = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            return f"{begin}\n{content}\n{end}"
        if name in TEXTS:
            return begin + TEXTS[name]() + end
        file, column = name.split(maxsplit=1)
        values = (row[column] for row in read_results(file))
        return begin + next(filter(None, values)) + end

    return MARKED.sub(fill, text)


if __name__ == "__main__":
    main()
