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
    if cell["same"] == "new":
        return "new"
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


def unit_forms():
    """Returns the time of a unit's forms as shares of that of a unit without shifts."""
    cells = _forms("unit")
    forms = list(dict.fromkeys(cell["form"] for cell in cells))[1:]
    rows = []
    for kind in KINDS:
        own = [cell for cell in cells if cell["kind"] == kind]
        for _, same in itertools.groupby(own, _shape):
            first, *others = same
            ratios = (f"{float(cell['ratio']):.2f}" for cell in others)
            rows.append((*_shape(first), kind, f"{float(first['ms']):.3f} ms", *ratios))
    header = ("map", "narrow", "wide", "moving", "type", "no shift", *forms)
    return header, rows


def pooling_forms():
    """Returns the time of one convolution as a share of that of pooling and another."""
    cells = [cell for cell in _forms("pooling") if cell["form"] == "convolution"]
    ratios = {(_shape(c), c["kind"]): f"{float(c['ratio']):.2f}" for c in cells}
    rows = [
        (shape[0], shape[2], shape[1], *(ratios[shape, kind] for kind in KINDS))
        for shape in dict.fromkeys(map(_shape, cells))
    ]
    return ("map", "channels", "filters", *KINDS), rows


def small_matrices():
    """Returns an int8 unit's time without shifts, machine by machine."""
    cells = [
        cell
        for cell in read_results("lowering_forms.csv")
        if (cell["kind"], cell["form"]) == ("int8", "no shift")
    ]
    machines = list(dict.fromkeys(cell["machine"] for cell in cells))
    times = {(*_shape(c)[:3], c["machine"]): float(c["ms"]) for c in cells}
    shapes = dict.fromkeys(_shape(cell)[:3] for cell in cells)
    rows = [
        (*shape, *(f"{times[*shape, machine]:.3f} ms" for machine in machines))
        for shape in shapes
    ]
    return ("map", "narrow", "wide", *machines), rows


def _forms(of):
    """Returns the rows of lowering_forms.csv of the machine that measured last."""
    cells = read_results("lowering_forms.csv")
    return [c for c in cells if (c["of"], c["machine"]) == (of, cells[0]["machine"])]


def _shape(cell):
    side = cell["side"]
    return f"{side}x{side}", cell["narrow"], cell["wide"], cell["moving"]


TABLES = {
    "file versions": file_versions,
    "files": files,
    "kernels": kernels,
    "one image": one_image,
    "pooling forms": pooling_forms,
    "runtimes": runtimes,
    "servers": servers,
    "small matrices": small_matrices,
    "training": training,
    "unit forms": unit_forms,
}
