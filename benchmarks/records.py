"""The CSV files that benchmarks write."""

import csv
import os


def write(rows, path):
    """Writes rows under a temporary name first.

    Args:
        rows: Dictionaries, not all of which need have all keys. Floats are kept to
            four digits.
        path: `pathlib.Path` of the file.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".unfinished")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            )
    os.replace(temporary, path)
