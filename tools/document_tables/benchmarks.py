"""For docs/benchmarks.md: the time of networks, files, kernels and training."""

import itertools
import statistics

from document_tables.sources import KINDS, read_results


def servers():
    """Returns the time of networks on TensorFlow as shares of their peers'."""
    cells = [c for c in read_results("inference.csv") if c["engine"] == "tensorflow"]
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


def one_image():
    """Returns where the time of one image goes in the fused FE-Net."""
    cells = read_results("one_image.csv")
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


def runtimes():
    """Returns the time in several runtimes as shares of MobileNetV2's in OpenVINO."""
    cells = {}
    for cell in read_results("runtimes.csv"):
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


def files():
    """Returns the time of .tflite files by their shifts, before and after lowering."""
    cells = read_results("tflite_lowering.csv")

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


def file_versions():
    """Returns the time of files as shares of those that an earlier version made."""
    cells = read_results("file_versions.csv")
    rows = []
    for name in dict.fromkeys(cell["network"] for cell in cells):
        kinds = {cell["kind"]: cell for cell in cells if cell["network"] == name}
        rows.append((f"`{name}`", *(_change(kinds[kind]) for kind in KINDS)))
    return ("network", *KINDS), rows


def _change(cell):
    """Returns what became of a file from one version to another."""
    if cell["same"] == "yes":
        return "the same file"
    ratio, low, high = (float(cell[f"ratio{end}"]) for end in ("", "_low", "_high"))
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def kernels():
    """Returns the time of the shift's kernels as shares of other ops', summarized."""
    cells = read_results("shift_kernels.csv")
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


def _spread(cells, key):
    """Returns the smallest, the median and the largest of some figures."""
    values = [float(cell[key]) for cell in cells]
    three = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.2g}" for value in three)


def training():
    """Returns images a second in training, and times beside those without shifts."""
    cells = read_results("training.csv")
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


TABLES = {
    "file versions": file_versions,
    "files": files,
    "kernels": kernels,
    "one image": one_image,
    "runtimes": runtimes,
    "servers": servers,
    "training": training,
}
