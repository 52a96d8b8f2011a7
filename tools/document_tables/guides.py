"""For docs/guides: what one needs to know to choose a network and its start."""

import itertools
import json

from document_tables.sources import ROOT, WEIGHTS, read_record, read_results

NETWORKS = {
    "fenet_1.0": "`FENet()`",
    "fenet_1.375": "`FENet(alpha=1.375)`",
    "fenet_1.375_se_v1_r4": '`FENet(alpha=1.375, squeeze_excite="v1")`',
    "fenet_1.375_se_v2_r8": '`FENet(alpha=1.375, squeeze_excite="v2")`',
    "fenet_1.0_dw_bn": '`FENet(spatial="depthwise")`',
}


def summary():
    """Returns FE-Net's time as a share of MobileNetV2's, the figures that decide."""
    servers = read_results("inference.csv")
    runtimes = read_results("runtimes.csv")
    files = read_results("tflite_lowering.csv")
    steps = read_results("training.csv")

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
                for cell in runtimes
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
    records = [read_record(path.stem) for path in sorted(WEIGHTS.glob("*.json"))]
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


def transfer():
    """Returns the top-1 of fine-tuning from either weights and from none."""
    cells = read_results("transfer.csv")
    last = max(cells, key=lambda cell: int(cell["steps"]))
    rows = [
        (cell["start"], cell["seed"], cell["steps"], f"{float(cell['top1']):.1%}")
        for cell in cells
        if cell["steps"] == last["steps"]
    ]
    header = ("from weights", "seed", "steps", "top-1")
    return header, rows


def keras_export():
    """Returns how Keras' own files differ from those of `to_tflite`."""
    rows = []
    for cell in read_results("keras_export.csv"):
        low, high = (float(cell[f"ratio_{end}"]) for end in ("low", "high"))
        rows.append(
            (
                f'`FENet(alpha={float(cell["alpha"])}, weights="{cell["weights"]}")`',
                f"{cell['keras_partitions']} ({cell['partitions']})",
                f"{float(cell['ratio']):.2f} ({low:.2f} to {high:.2f})",
            )
        )
    header = (
        "network",
        "XNNPACK partitions (`to_tflite`'s)",
        "time / `to_tflite`'s (quartiles)",
    )
    return header, rows


TABLES = {
    "accuracies": accuracies,
    "keras_export": keras_export,
    "networks": networks,
    "summary": summary,
    "transfer": transfer,
}
