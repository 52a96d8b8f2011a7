"""Writes measured figures into README.md and docs/, between marks in their text.

python tools/update_readme.py

`<!-- table: NAME -->` and `<!-- value: FILE.csv COLUMN -->`, each closed by
`<!-- end -->`, stand where a table of `TABLES` and the first value of a column belong,
and `<!-- value: NAME -->` where a text of `TEXTS` does; all other text is written by
hand. The sources are benchmarks/results/*.csv, zoo/results.csv, zoo/weights/*.json and
tests/data/expected_counts.json; a test fails when a document is stale.
"""

import csv
import functools
import itertools
import json
import re
import statistics
from pathlib import Path

from keras_shift.files import replacing

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "docs" / "benchmarks.md",
    ROOT / "docs" / "examples.md",
    ROOT / "docs" / "frontier.md",
    ROOT / "docs" / "reliability.md",
    ROOT / "docs" / "studies.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
)
RESULTS = ROOT / "benchmarks" / "results"
PAPERS = ROOT / "zoo" / "results.csv"
WEIGHTS = ROOT / "zoo" / "weights"
MARKED = re.compile(r"(<!-- (table|value): (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)

KINDS = ("float32", "int8")

# Tables of the SSL paper compare their rows to one with such a name. `NEITHER` is a
# cell that a table of the paper does not have.
FIRST = re.compile(r"λ = 0$|^0 of ")
NEITHER = {"paper": "", "ours": ""}

NETWORKS = {
    "fenet_1.0": "`FENet()`",
    "fenet_1.375": "`FENet(alpha=1.375)`",
    "fenet_1.375_se_v1_r4": '`FENet(alpha=1.375, squeeze_excite="v1")`',
    "fenet_1.375_se_v2_r8": '`FENet(alpha=1.375, squeeze_excite="v2")`',
    "fenet_1.0_dw_bn": '`FENet(spatial="depthwise")`',
}


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
        return begin + next(filter(None, (row[column] for row in _read(file)))) + end

    return MARKED.sub(fill, text)


def phones():
    """Returns the accuracy and time of the files for phones, on one thread."""
    rows = [
        (
            _call(record),
            _epochs(record),
            f"{record['top1']:.2%}",
            f"{record['int8_top1']:.2%}",
            _unshifted(record),
            *(f"{float(cells[kind, '1']['ratio']):.2f}" for kind in KINDS),
        )
        for record, cells in _timed("tiny_imagenet")
    ]
    header = (
        "network",
        "epochs",
        "top-1",
        "int8 top-1",
        "unshifted",
        "float32 time",
        "int8 time",
    )
    return header, rows


def claim():
    """Returns what the sparse FE-Net 0.75 has over MobileNetV2, in words."""
    _, rows = phones()
    ours, theirs = (
        next(row for row in rows if row[0] == network)
        for network in (
            '`FENet(alpha=0.75, weights="tiny_imagenet.sparse")`',
            '`MobileNetV2(weights="tiny_imagenet")`',
        )
    )
    return (
        f"{ours[2]} top-1 instead of {theirs[2]}, in {ours[-2]} of the time as a "
        f"float32 file and {ours[-1]} as an int8 one"
    )


def first_example():
    """Returns README's first example with either network, as means over seeds."""
    cells = _read("first_example.csv")
    rows = []
    for network in dict.fromkeys(cell["network"] for cell in cells):
        own = [cell for cell in cells if cell["network"] == network]
        means = {
            column: statistics.mean(float(cell[column]) for cell in own)
            for column in own[0]
            if column not in ("network", "machine") and own[0][column]
        }
        unshifted = f"{means['unshifted']:.0%}" if "unshifted" in means else ""
        rows.append(
            (
                network,
                f"{means['top1']:.1%}",
                f"{means['int8_top1']:.1%}",
                unshifted,
                *(f"{means[f'{kind}_ratio']:.2f}" for kind in KINDS),
            )
        )
    header = ("", "top-1", "int8 top-1", "unshifted", "float32 time", "int8 time")
    return header, rows


def replaced():
    """Returns MobileNetV2 with shifts in the place of its depthwise convolutions."""
    rows = [
        (
            cell["network"],
            cell["epochs"],
            *(
                f"{float(cell[column]):.1%}" if cell[column] else ""
                for column in ("exchanged_top1", "top1", "unshifted")
            ),
            f"{float(cell['million_multiply_adds']):.0f} M",
            *(f"{float(cell[f'{kind}_ratio']):.2f}" for kind in KINDS),
        )
        for cell in _read("replace_depthwise.csv")
    ]
    header = (
        "network",
        "epochs",
        "top-1 before them",
        "top-1",
        "unshifted",
        "MAdds",
        "float32 time",
        "int8 time",
    )
    return header, rows


def segmentation_heads():
    """Shifts beside depthwise convolutions in the head of a segmentation network."""
    cells = _read("segmentation_heads.csv")
    sizes = [
        column.removesuffix("_float32_ratio")
        for column in cells[0]
        if column.endswith("_float32_ratio")
    ]
    rows = [
        (
            cell["network"],
            *(
                f"{float(cell[column]):.1%}" if cell[column] else ""
                for column in ("mean_iou", "int8_mean_iou")
            ),
            *(
                (
                    f"{float(cell[f'{size}_{kind}_ratio']):.2f}"
                    if cell["float32_mean_iou"]
                    else ""
                )
                for size in sizes
                for kind in KINDS
            ),
        )
        for cell in cells
    ]
    header = ("head", "mean IoU", "int8", *(f"{s}, {k}" for s in sizes for k in KINDS))
    return header, rows


def painters():
    """Returns what benchmarks/style_transfer.py measured of both networks."""
    as_is, *cells = _read("style_transfer.csv")

    def losses(cell):
        share = float(cell["style_loss"]) / float(as_is["style_loss"])
        return (
            f"{float(cell['style_loss']):.2e}",
            f"{share:.0%}",
            f"{float(cell['content_loss']):.2f}",
        )

    rows = [("photographs as they are", "", "", *losses(as_is), "", "", "", "")]
    rows += [
        (
            cell["network"],
            f"{int(cell['parameters']) / 1e6:.2f} M",
            f"{float(cell['million_multiply_adds']) / 1e3:.1f} G",
            *losses(cell),
            *(f"{float(cell[f'{kind}_kilobytes']):,.0f} kB" for kind in KINDS),
            *(f"{float(cell[f'{kind}_ratio']):.2f}" for kind in KINDS),
        )
        for cell in cells
    ]
    header = (
        "",
        "parameters",
        "MAdds",
        "style loss",
        "of the photographs'",
        "content loss",
        "float32 file",
        "int8 file",
        "float32 time",
        "int8 time",
    )
    return header, rows


def faces():
    """Returns ShiftFaceNet and its convolutional twin on pairs of faces."""

    def with_interval(cell, name):
        value, low, high = (
            float(cell[column]) for column in (name, f"{name}_low", f"{name}_high")
        )
        return f"{value:.1%} ({low:.1%} to {high:.1%})"

    rows = [
        (
            cell["network"],
            f"{int(cell['parameters']) / 1e6:.2f} M",
            f"{float(cell['million_multiply_adds']):.1f} M",
            *(
                with_interval(cell, f"{prefix}{name}")
                for name in ("accuracy", "roc_area")
                for prefix in ("untrained_", "", "int8_")
            ),
        )
        for cell in _read("face_verification.csv")
    ]
    header = (
        "network",
        "parameters",
        "MAdds",
        "accuracy, untrained",
        "trained",
        "int8 file",
        "ROC area, untrained",
        "trained",
        "int8 file",
    )
    return header, rows


def frontier(dataset):
    """Returns all that benchmarks/frontier.py measured of networks for one dataset."""
    rows = []
    for record, cells in _timed(dataset):
        own = [
            (
                f"{float(cell['ratio']) / float(cell['without_shifts']):.2f}"
                if cell["without_shifts"]
                else ""
            )
            for cell in (cells[kind, "1"] for kind in KINDS)
        ]
        times = [
            f"{float(cells[kind, threads]['ratio']):.2f}"
            for threads in "12"
            for kind in KINDS
        ]
        rows.append(
            (
                _call(record),
                f"{record['top1']:.2%}",
                f"{record['int8_top1']:.2%}",
                _unshifted(record),
                *times,
                *own,
            )
        )
    header = (
        "network",
        "top-1",
        "int8 top-1",
        "unshifted",
        "float32, 1 thread",
        "int8",
        "float32, 2 threads",
        "int8",
        "float32 / without shifts",
        "int8",
    )
    return header, rows


def processors():
    """Returns both files' times of every network, machine by machine, on one thread."""
    cells = [cell for cell in _read("frontier.csv") if cell["threads"] == "1"]
    machines = list(dict.fromkeys(cell["machine"] for cell in cells))
    ratios = {
        (cell["weights"], cell["machine"], cell["kind"]): float(cell["ratio"])
        for cell in cells
    }
    rows = []
    for name in dict.fromkeys(cell["weights"] for cell in cells):
        record = json.loads((WEIGHTS / f"{name}.json").read_text())
        found = [ratios.get((name, m, kind)) for m in machines for kind in KINDS]
        rows.append((_call(record), *("" if f is None else f"{f:.2f}" for f in found)))
    header = [f"{kind}, {name}" for name in machines for kind in KINDS]
    return ("network", *header), rows


def browser():
    """Returns what benchmarks/web.py measured in a browser."""
    cells = _read("web.csv")
    names = list(dict.fromkeys(cell["network"] for cell in cells))
    rows = []
    for size, kind in dict.fromkeys((c["image_size"], c["kind"]) for c in cells):
        own = [c for c in cells if (c["image_size"], c["kind"]) == (size, kind)]
        ratio, low, high = (
            float(own[0][column]) for column in ("ratio", "ratio_low", "ratio_high")
        )
        rows.append(
            (
                f"{size}x{size}",
                kind,
                *(f"{float(cell['ms']):.2f} ms" for cell in own),
                f"{ratio:.2f} ({low:.2f} to {high:.2f})",
            )
        )
    return ("pixels", "file", *names, "share (quartiles)"), rows


def networks():
    """Returns what the networks cost, from the counts that the tests compare."""
    counts = json.loads((ROOT / "tests" / "data" / "expected_counts.json").read_text())
    rows = [
        (
            name,
            f"{counts[row]['madds'] / 1e6:.1f} M",
            f"{(counts[row]['trainable'] - counts[row]['shift']) / 1e6:.2f} M",
            f"{counts[row]['shift']:,}",
        )
        for row, name in NETWORKS.items()
    ]
    header = ("network", "MAdds", "parameters", "and displacements")
    return header, rows


def accuracies():
    """Returns FE-Net and MobileNetV2, where both have been trained by one recipe."""
    records = [json.loads(path.read_text()) for path in sorted(WEIGHTS.glob("*.json"))]
    rows = []
    # What users pass as weights names dataset and recipe.
    for weights in sorted({record["weights"] for record in records}):
        pair = {
            record["constructor"]: record
            for record in records
            if record["weights"] == weights and record["arguments"]["alpha"] == 1
        }
        if {"FENet", "MobileNetV2"} <= pair.keys():
            rows += [
                (
                    weights,
                    constructor,
                    f"{pair[constructor]['multiply_adds'] / 1e6:.1f} M",
                    f"{pair[constructor]['parameters'] / 1e6:.2f} M",
                    f"{pair[constructor]['top1']:.2%}",
                    f"{pair[constructor]['int8_top1']:.2%}",
                )
                for constructor in ("FENet", "MobileNetV2")
            ]
    header = ("weights", "network", "MAdds", "parameters", "float32", "int8")
    return header, rows


def demo():
    """Returns the table of examples/finetune_and_export.py."""
    columns = _read("digits.csv")
    first = columns[0]
    title = ("network", "pixels", "total stride", "epochs", "machine")
    rows = [
        (key, *(_figure(key, column[key]) for column in columns))
        for key in first
        if key not in title
    ]
    header = ("", *(column["network"] for column in columns))
    return header, rows


def summary():
    """Returns FE-Net's time as a share of MobileNetV2's, the figures that decide."""
    servers, files, steps = map(
        _read, ("inference.csv", "tflite_lowering.csv", "training.csv")
    )

    def share(cells, **wanted):
        (cell,) = [c for c in cells if wanted.items() <= c.items()]
        return float(cell["ratio"])

    rows = []
    for network, runtime, text in (
        ("FE-Net 1.0", "TensorFlow", "`fuse`"),
        ("FE-Net 1.0", "OpenVINO", "`portable` in OpenVINO"),
        ("FE-Net 0.75", "TensorFlow", "`fuse`, **FE-Net 0.75x**"),
    ):
        for precision in ("float32", "bfloat16"):
            key = network, runtime, precision
            shares = [
                float(cell["to_fastest"])
                for cell in _read("runtimes.csv")
                if (cell["network"], cell["runtime"], cell["precision"]) == key
            ]
            if shares:
                title = (
                    f"a CPU, {precision}, {text}; MobileNetV2 in its fastest runtime"
                )
                rows.append((title, f"{min(shares):.2f} to {max(shares):.2f}"))
    for form, text in (("as shipped", "as shipped"), ("folded", "folded by hand")):
        fused = {"network": "FE-Net 1.0 fused", "form": form, "engine": "tensorflow"}
        shares = [
            share(servers, **fused, threads=threads, batch=batch)
            for threads, batch in itertools.product("12", ("1", "32"))
        ]
        rows.append(
            (
                f"TensorFlow on a CPU, `fuse`; MobileNetV2 {text}",
                f"{min(shares):.2f} to {max(shares):.2f}",
            )
        )
    for quantize in ("float32", "int8", "dynamic"):
        lowered = {"shifts": "1", "lowering": "units"}
        value = share(files, quantize=quantize, **lowered)
        rows.append((f"LiteRT, one thread, {quantize} file", f"{value:.2f}"))
    peers = {
        "MobileNetV2 1.0, keras.applications": "MobileNetV2 as shipped",
        "MobileNetV2 1.0": "`zoo.MobileNetV2`, with FE-Net's batch normalization",
    }
    for peer, text in peers.items():
        for precision in ("float32", "mixed_bfloat16"):
            ours, theirs = (
                share(steps, precision=precision, network=network)
                for network in ("FE-Net 1.0, sparse shifts", peer)
            )
            step = f"a step of training, {precision.removeprefix('mixed_')}; {text}"
            rows.append((step, f"{ours / theirs:.2f}"))
    header = ("", "FE-Net / MobileNetV2")
    return header, rows


def servers():
    """Returns what benchmarks/inference.py measured on TensorFlow."""
    cells = [c for c in _read("inference.csv") if c["engine"] == "tensorflow"]
    rows = []
    for cell in cells:
        if cell["threads"] == "1" and cell["batch"] == "1":
            same = [
                c
                for c in cells
                if all(c[key] == cell[key] for key in ("form", "network", "peer"))
            ]
            ratios = {(c["threads"], c["batch"]): c["ratio"] for c in same}
            order = itertools.product("12", ("1", "32"))
            rows.append(
                (
                    cell["network"],
                    cell["peer"],
                    cell["form"],
                    *(f"{float(ratios[key]):.2f}" for key in order),
                )
            )
    header = (
        "network",
        "peer",
        "peer's form",
        "1 thread, 1 image",
        "32 images",
        "2 threads, 1 image",
        "32 images",
    )
    return header, rows


def runtimes():
    """Returns what benchmarks/runtimes.py measured, against MobileNetV2 in OpenVINO."""
    cells = {}
    for cell in _read("runtimes.csv"):
        key = cell["network"], cell["runtime"], cell["precision"]
        place = cell["threads"], cell["batch"]
        cells.setdefault(key, {})[place] = f"{float(cell['ratio']):.2f}"
    order = list(itertools.product("12", ("1", "8", "32")))
    header = ["network", "runtime", "precision"]
    for threads in ("1 thread", "2 threads"):
        header += [f"{threads}, 1 image", "8 images", "32 images"]
    rows = [
        (*key, *(own.get(place, "") for place in order)) for key, own in cells.items()
    ]
    # Whole batches, of which there is no row at batch 1, stand with their network.
    names = [name for name, *_ in cells]
    return header, sorted(rows, key=lambda row: names.index(row[0]))


def one_image():
    """Returns what benchmarks/one_image.py measured."""
    cells = _read("one_image.csv")
    found = {(cell["part"], cell["threads"]): cell for cell in cells}
    rows = []
    for part in dict.fromkeys(cell["part"] for cell in cells):
        row = [part.removesuffix("_fused").removesuffix("_expand")]
        for threads in "12":
            cell = found.get((part, threads))
            peak = cell["peak_share"] if cell else ""
            row += [
                f"{float(cell['ms']):.3f}" if cell else "",
                f"{float(cell['share']):.1%}" if cell else "",
                f"{float(peak):.0%}" if peak else "",
            ]
        rows.append(row)
    header = ("part", "1 thread: ms", "share", "of peak")
    return (*header, "2 threads: ms", "share", "of peak"), rows


def files():
    """Returns what benchmarks/tflite_lowering.py measured."""
    cells = _read("tflite_lowering.csv")

    def ratio(quantize, shifts, lowering):
        (cell,) = [
            c
            for c in cells
            if (c["quantize"], c["shifts"], c["lowering"])
            == (quantize, shifts, lowering)
        ]
        return f"{float(cell['ratio']):.2f}"

    goals = {c["quantize"]: c["goal"] for c in cells if c["goal"]}
    rows = [
        (
            quantize,
            ratio(quantize, "none", "floor"),
            *(
                ratio(quantize, shifts, lowering)
                for shifts in ("1", "2", "grouped")
                for lowering in ("layers", "units")
            ),
            goal,
        )
        for quantize, goal in goals.items()
    ]
    header = (
        "mode",
        "floor",
        "up to 1, before",
        "now",
        "up to 2, before",
        "now",
        "grouped, before",
        "now",
        "goal, up to 1",
    )
    return header, rows


def kernels():
    """Returns a summary of benchmarks/shift_kernels.py."""
    cells = _read("shift_kernels.csv")
    rows = []
    groups = itertools.product(("1", "32"), ("1", "2"), ("sorted", "arbitrary"))
    for batch, extent, order in groups:
        key = (batch, extent, order)
        some = [c for c in cells if (c["batch"], c["range"], c["order"]) == key]
        rows.append(
            (
                *key,
                _spread(some, "forward_per_memcpy"),
                _spread(some, "backward_per_memcpy"),
                _spread(some, "forward_per_depthwise"),
                _spread(some, "together_per_depthwise"),
                _spread(some, "together_per_slices"),
            )
        )
    header = (
        "batch",
        "range",
        "channels",
        "forward / memcpy",
        "backward / memcpy",
        "forward / depthwise",
        "both / depthwise",
        "both / pad, slice, concat",
    )
    return header, rows


def training():
    """Returns what benchmarks/training.py measured."""
    cells = _read("training.csv")
    names = list(dict.fromkeys(cell["network"] for cell in cells))
    found = {(cell["network"], cell["precision"]): cell for cell in cells}
    rows = [
        (
            name,
            *(
                value
                for precision in ("float32", "mixed_bfloat16")
                for value in (
                    found[name, precision]["images_per_second"].split(".")[0],
                    f"{float(found[name, precision]['ratio']):.2f}",
                )
            ),
        )
        for name in names
    ]
    header = ("network", "float32: images/s", "time", "bfloat16: images/s", "time")
    return header, rows


def transfer():
    """Returns what benchmarks/transfer.py measured."""
    cells = _read("transfer.csv")
    last = max(cells, key=lambda cell: int(cell["steps"]))
    rows = [
        (cell["start"], cell["seed"], cell["steps"], f"{float(cell['top1']):.1%}")
        for cell in cells
        if cell["steps"] == last["steps"]
    ]
    header = ("from weights", "seed", "steps", "top-1")
    return header, rows


def paper(table):
    """Returns a table of the SSL paper beside ours, where there is a figure of ours.

    It has all rows of a network's depth on a dataset if one of them has weights of
    ours. Accuracies are followed by their differences to the row with λ = 0 and all
    shift layers.
    """
    groups = {}
    for cell in _paper_cells(table):
        depth = re.search(r"(?<=ResNet-)\d+|$", cell["row"]).group()
        rows = groups.setdefault((depth, cell["dataset"]), {})
        rows.setdefault(cell["row"], {})[cell["quantity"]] = cell
    shown = [
        (dataset, rows)
        for (_, dataset), rows in groups.items()
        if any(cell["ours"] for row in rows.values() for cell in row.values())
    ]
    quantities = list(
        dict.fromkeys(q for _, rows in shown for row in rows.values() for q in row)
    )
    lines = []
    for dataset, rows in shown:
        first = next((row for name, row in rows.items() if FIRST.search(name)), {})
        for name, row in rows.items():
            line = [name, dataset]
            for quantity in quantities:
                cell, start = (some.get(quantity, NEITHER) for some in (row, first))
                line += [cell["paper"], cell["ours"]]
                if quantity == "top-1":
                    line += [_points(cell[w], start[w]) for w in ("paper", "ours")]
            line.append(next((c["recipe"] for c in row.values() if c["recipe"]), ""))
            lines.append(line)
    header = ["", "dataset"]
    for quantity in quantities:
        header += [f"{quantity}: paper", "ours"]
        if quantity == "top-1":
            header += ["minus λ = 0: paper", "ours"]
    return [*header, "recipe"], lines


def fe_nets():
    """Returns the SSL paper's Table 8, and then all weights of FE-Nets."""
    rows = {}
    for cell in _paper_cells("SSL Table 8"):
        key = (cell["row"], cell["dataset"])
        rows.setdefault(key, {"from": "paper"})[cell["quantity"]] = cell["paper"]
    for cell in _paper_cells("published weights"):
        if cell["row"].startswith("fenet"):
            key = (f"`{cell['row']}`", cell["dataset"])
            row = rows.setdefault(key, {"from": cell["recipe"]})
            row[cell["quantity"]] = cell["ours"]
    columns = ("top-1", "shift sparsity", "from")
    lines = [(*key, *map(row.get, columns)) for key, row in rows.items()]
    return ("network", "dataset", *columns[:2], "paper, or recipe of ours"), lines


def intensities():
    """Returns what benchmarks/arithmetic_intensity.py measured, an operation a line."""
    lines = {}
    for cell in _read("arithmetic_intensity.csv"):
        size = "{batch}x{size}x{size}x{channels}".format(**cell)
        line = lines.setdefault((size, cell["operation"]), {})
        # NumPy, which copies, has the same columns as TensorFlow.
        line["litert" if cell["runtime"] == "litert" else "tensorflow"] = cell
    rates = ("gmadds_per_second", "gbytes_per_second")
    rows = []
    for key, cells in lines.items():
        row = [*key, f"{float(cells['tensorflow']['intensity']):.1f}"]
        for runtime in ("tensorflow", "litert"):
            cell = cells.get(runtime)
            row += [f"{float(cell[rate]):.1f}" if cell else "" for rate in rates]
        rows.append(row)
    header = (
        "map",
        "operation",
        "MAdds / access",
        "TensorFlow, NumPy: GMAdds/s",
        "GB/s",
        "LiteRT: GMAdds/s",
        "GB/s",
    )
    return header, rows


def _paper_cells(table):
    with open(PAPERS, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["table"] == table]


def _read(name):
    with open(RESULTS / name, newline="") as file:
        return list(csv.DictReader(file))


def _timed(dataset):
    """Pairs of a record and its rows of frontier.csv by type and threads."""
    cells = _read("frontier.csv")
    # The machine that measured last stands first.
    cells = [cell for cell in cells if cell["machine"] == cells[0]["machine"]]
    for name in dict.fromkeys(cell["weights"] for cell in cells):
        record = json.loads((WEIGHTS / f"{name}.json").read_text())
        if record["dataset"] == dataset:
            own = [cell for cell in cells if cell["weights"] == name]
            yield record, {(cell["kind"], cell["threads"]): cell for cell in own}


def _call(record):
    """Returns how a user gets a network."""
    alpha = record["arguments"]["alpha"]
    width = "" if alpha == 1 else f"alpha={alpha:g}, "
    return f"`{record['constructor']}({width}weights=\"{record['weights']}\")`"


def _epochs(record):
    """Returns how long it was trained, with the training that it goes on from."""
    recipe = record["recipe"]
    start = recipe.get("initial_weights")
    if start is None:
        return str(recipe["epochs"])
    name = record["name"].removesuffix(record["weights"]) + start
    before = json.loads((WEIGHTS / f"{name}.json").read_text())
    return f"{_epochs(before)} + {recipe['epochs']}"


def _unshifted(record):
    counts = record["unshifted"].values()
    if not counts:
        return ""
    still, channels = (sum(column) for column in zip(*counts))
    return f"{still / channels:.0%}"


def _figure(key, value):
    if not value:
        return ""
    if "top-1" in key or key == "unshifted":
        return f"{float(value):.1%}"
    if key.endswith(" ms"):
        return f"{float(value):.2f}"
    try:
        return f"{float(value):,.1f}"
    except ValueError:
        return value


def _points(accuracy, start):
    """Returns how many percentage points an accuracy is above another, if known."""
    if not accuracy or not start:
        return ""
    return f"{float(accuracy.rstrip('%')) - float(start.rstrip('%')):+.1f}"


def _spread(cells, key):
    values = [float(cell[key]) for cell in cells]
    three = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.2g}" for value in three)


def fuzzing():
    """Returns what the latest run of each fuzz target came to."""
    columns = ("cases", "crashes", "hangs", "differences", "seconds")
    rows = [
        (
            cell["target"],
            cell["checked_by"],
            *(f"{int(cell[column]):,}" for column in columns),
            cell["machine"],
            cell["date"],
        )
        for cell in _read("fuzzing.csv")
    ]
    return ("target", "checked by", *columns, "machine", "date"), rows


def faults():
    """Returns what the user is told where a machine fails while files are written."""
    rows = [
        (f"`{cell['place']}`", cell["fault"], cell["message"] or cell["end"])
        for cell in _read("faults.csv")
    ]
    return ("place", "fault", "told"), rows


def versions():
    """Which versions were installed together, and what of the package passed there."""
    rows = [
        (
            cell["python"],
            cell["keras"],
            f"{cell['backend']} {cell['version']}",
            cell["native_op"],
            cell["passed"],
            cell["failure"] or "none",
            cell["seconds"],
            cell["date"],
        )
        for cell in _read("versions.csv")
    ]
    header = (
        "Python",
        "Keras",
        "backend",
        "native op",
        "passed",
        "failed",
        "s",
        "date",
    )
    return header, rows


def supported():
    """The oldest and the newest version of each of those in which all has passed."""
    cells = [cell for cell in _read("versions.csv") if not cell["failure"]]
    backends = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
    found = [("Python", [cell["python"] for cell in cells])]
    found += [("Keras", [cell["keras"] for cell in cells])]
    for backend, name in backends.items():
        some = [cell for cell in cells if cell["backend"].startswith(backend)]
        found.append((name, [cell["version"] for cell in some]))
    *some, last = (
        f"{name} {_from_to(sorted(numbers, key=_numbers))}" for name, numbers in found
    )
    return f"{', '.join(some)} or {last}"


def _from_to(versions):
    # What is below 1.0 may break between its third numbers, too.
    kept = 3 if versions[0].startswith("0.") else 2
    first = ".".join(versions[0].split(".")[:kept])
    last = ".".join(versions[-1].split(".")[:2])
    return first if first == last else f"{first} to {last}"


def _numbers(version):
    return [int(number) for number in version.split(".")]


TEXTS = {"claim": claim, "versions": supported}

TABLES = {
    "accuracies": accuracies,
    "browser": browser,
    "demo": demo,
    "faces": faces,
    "faults": faults,
    "fe_nets": fe_nets,
    "files": files,
    "first example": first_example,
    "frontier cifar100": lambda: frontier("cifar100"),
    "frontier tiny_imagenet": lambda: frontier("tiny_imagenet"),
    "fuzzing": fuzzing,
    "intensities": intensities,
    "kernels": kernels,
    "networks": networks,
    "one image": one_image,
    "painters": painters,
    "phones": phones,
    "processors": processors,
    "replaced": replaced,
    "runtimes": runtimes,
    "segmentation_heads": segmentation_heads,
    "servers": servers,
    **{f"SSL Table {n}": functools.partial(paper, f"SSL Table {n}") for n in "123"},
    "summary": summary,
    "training": training,
    "transfer": transfer,
    "versions": versions,
}


if __name__ == "__main__":
    main()
