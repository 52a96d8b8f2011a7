"""The CSV files that benchmarks write."""

import csv

from keras_shift.files import replacing


def others(row, path, keys=("machine",)):
    """Returns the rows of a file that differ from a new one in some column.

    Args:
        row: Dictionary, the new row.
        path: `pathlib.Path` of the file, which need not exist.
        keys: Names of the columns. By default, rows of other machines are returned.
    """
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [
            other
            for other in csv.DictReader(file)
            if any(other[key] != str(row[key]) for key in keys)
        ]


def write(rows, path):
    """Writes rows under a temporary name first.

    Args:
        rows: Dictionaries, not all of which need have all keys. Floats are kept to
            four digits.
        path: `pathlib.Path` of the file.
    """
    path.parent.mkdir(exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            )
