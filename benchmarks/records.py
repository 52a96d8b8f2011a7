"""The CSV files that benchmarks write."""

import csv

from keras_shift.files import replacing


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
