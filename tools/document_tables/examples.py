"""For docs/examples.md, and what docs/benchmarks.md has on the same programs."""

from document_tables.sources import KINDS, read_results


def demo():
    """Returns the networks that examples/finetune_and_export.py trains, in columns."""
    columns = read_results("digits.csv")
    first = columns[0]
    title = ("network", "pixels", "total stride", "epochs", "machine")
    rows = [
        (key, *(_figure(key, column[key]) for column in columns))
        for key in first
        if key not in title
    ]
    header = ("", *(column["network"] for column in columns))
    return header, rows


def _figure(key, value):
    """Returns a figure with the digits that its row asks for."""
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
        for cell in read_results("replace_depthwise.csv")
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
    """Returns heads of a segmentation network with shifts and with convolutions."""
    cells = read_results("segmentation_heads.csv")
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
    """Returns losses, sizes and times of networks that paint."""
    as_is, *cells = read_results("style_transfer.csv")

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
            cell["epochs"],
            cell["machine"],
        )
        for cell in read_results("face_verification.csv")
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
        "epochs",
        "trained on",
    )
    return header, rows


TABLES = {
    "demo": demo,
    "faces": faces,
    "painters": painters,
    "replaced": replaced,
    "segmentation_heads": segmentation_heads,
}
