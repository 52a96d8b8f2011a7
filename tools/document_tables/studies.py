"""For docs/studies.md: what the papers print or claim, beside what was found here."""

import functools
import re

from document_tables.sources import ROOT, read_csv, read_results

PAPERS = ROOT / "zoo" / "results.csv"

# Tables of the SSL paper compare their rows to one with such a name. `NEITHER` is a
# cell that a table of the paper does not have.
FIRST = re.compile(r"λ = 0$|^0 of ")
NEITHER = {"paper": "", "ours": ""}


def paper(table):
    """Returns a table of the SSL paper, with our figures beside the paper's.

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


def _points(accuracy, start):
    """Returns how many percentage points an accuracy is above another, if known."""
    if not accuracy or not start:
        return ""
    return f"{float(accuracy.rstrip('%')) - float(start.rstrip('%')):+.1f}"


def fe_nets():
    """Returns the unshifted share of FE-Nets: the SSL paper's Table 8, then ours."""
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


def _paper_cells(table):
    return [row for row in read_csv(PAPERS) if row["table"] == table]


def intensities():
    """Returns operations' MAdds for an access to memory, and the rates they reach."""
    lines = {}
    for cell in read_results("arithmetic_intensity.csv"):
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


TABLES = {
    "fe_nets": fe_nets,
    "intensities": intensities,
    **{f"SSL Table {n}": functools.partial(paper, f"SSL Table {n}") for n in "123"},
}
