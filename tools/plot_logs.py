"""Draws how accuracies grew while the published weights were trained.

python tools/plot_logs.py

Reads zoo/weights/*.log.csv, and writes docs/learning_curves.png, which docs/results.md
shows. Needs matplotlib.
"""

import csv
import itertools
from pathlib import Path

from keras_shift import zoo
from keras_shift.files import replacing
from keras_shift.zoo import published_weights

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "learning_curves.png"


def main():
    """Writes the picture."""
    records = [zoo.get_record(name) for name in zoo.list_weights()]
    with replacing(PICTURE) as temporary:
        figure(records).savefig(temporary)


def figure(records):
    """Returns a figure with a plot for every dataset and a curve for every training.

    Args:
        records: A list of `keras_shift.zoo.record.Record`.
    """
    from matplotlib.figure import Figure

    by_dataset = [
        list(some)
        for _, some in itertools.groupby(
            sorted(records, key=lambda record: record.dataset),
            lambda record: record.dataset,
        )
    ]
    count = len(by_dataset)
    found = Figure((5 * count, 4), dpi=100, facecolor="white", layout="constrained")
    for axes, some in zip(found.subplots(1, count, squeeze=False)[0], by_dataset):
        for record in some:
            rows = log(record)
            axes.plot(
                [int(row["epoch"]) for row in rows],
                [100 * float(row["val_accuracy"]) for row in rows],
                label=record.name.replace(f".{record.dataset}", "", 1),
            )
        axes.set_title(some[0].dataset)
        axes.set_xlabel("epoch")
        axes.set_ylabel("top-1 on the held-out images, %")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small", loc="lower right")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    return found


def log(record):
    """Returns the rows of the log beside a record's weights."""
    path = published_weights.folder() / f"{record.name}.log.csv"
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
