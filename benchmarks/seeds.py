"""How much trainings of one recipe differ by their seeds, in accuracy and in time.

    python benchmarks/seeds.py RUN ...

RUN is the directory of a training of one of the zoo's recipes with another seed than
that of the published weights. Its accuracy is that of its log's last row. Each seed
learns other shifts, so a shift network also becomes a float32 and an int8 .tflite file
for images of 224x224 pixels at total stride 32, which are timed in turns with those of
MobileNetV2 1.0 (one image, one thread), as in benchmarks/frontier.py.

Writes benchmarks/results/seeds.csv, which keeps the rows of other trainings. Those of
the published weights' seeds were copied from their records and from frontier.csv.
"""

import argparse
import csv
import json
from pathlib import Path

import frontier
from records import write

from keras_shift import publishing, training
from keras_shift.environment import machine
from keras_shift.training import trainer

RESULTS = Path(__file__).resolve().parent / "results" / "seeds.csv"


def measure(run, rounds):
    """Returns the row of one training."""
    text = (run / trainer.RECIPE).read_text(encoding="utf-8")
    recipe = training.Recipe.from_json(text)
    with open(run / "log.csv", newline="", encoding="utf-8") as file:
        log = list(csv.DictReader(file))
    if int(log[-1]["epoch"]) != recipe.epochs:
        raise SystemExit(f"{run} has not ended: {log[-1]['epoch']} epochs.")
    environment = json.loads((run / trainer.ENVIRONMENT).read_text(encoding="utf-8"))
    row = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "top1": float(log[-1]["val_accuracy"]),
        "trained_on": environment["device"],
    }
    if recipe.unshifted is None:
        return row
    model = publishing.read_run(
        run, input_shape=frontier.IMAGE_SHAPE, output_stride=32
    ).model
    row["unshifted"] = float(log[-1]["shift_sparsity"])
    for kind in frontier.KINDS:
        row[kind] = frontier.ratio(kind, model, rounds)
    return {**row, "machine": machine()}


def main(arguments):
    """Adds rows to the table."""
    rows = {}
    if arguments.output.exists():
        with open(arguments.output, newline="", encoding="utf-8") as file:
            rows = {(row["recipe"], row["seed"]): row for row in csv.DictReader(file)}
    for run in arguments.runs:
        row = measure(run, arguments.rounds)
        print(row)
        rows[row["recipe"], str(row["seed"])] = row
    write([rows[key] for key in sorted(rows)], arguments.output)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=100, help="turns of each file")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
