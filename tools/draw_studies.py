"""Draws the pictures of docs/studies.md from the published weights.

python tools/draw_studies.py --data-dir DIR

Writes docs/studies/NAME.png for every name in FIGURES. DIR is the folder of CIFAR-10
and CIFAR-100 (see `keras_shift.training.load_data`), whose first held-out images go
through the networks. `intensity` is of benchmarks/results/arithmetic_intensity.csv.
Needs matplotlib.
"""

import argparse
import csv
import functools
from pathlib import Path

import matplotlib

from keras_shift import analysis, training, zoo
from keras_shift.analysis import drawing
from keras_shift.files import replacing

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "studies"
INTENSITIES = ROOT / "benchmarks" / "results" / "arithmetic_intensity.csv"

IMAGES = 500

# Fig. 5 of the SSL paper shows this layer of this training. It calls it block2_2.
LAYER = "group2_module2_shift"
PENALIZED = "shiftresnet20.cifar100.ssl_lambda5e-4.short"
# The ShiftNet paper's Fig. 7 and 8 show a module of 16 channels of this network.
EXPANDED = "shiftresnet20.cifar100.e9.short"
EXPANDED_LAYER = "group1_module2_shift"
WITHOUT_PENALTY = "shiftresnet20.cifar10.ssl.short"
LEARNED = "shiftresnet20.cifar10.ssl_lambda1e-4.short"
GROUPED = "shiftresnet20.cifar10.ssl_grouped.short"
NONE = "shiftresnet20.cifar10.ssl_1x1_only.short"


def network(name):
    """Returns the network of published weights."""
    return zoo.models.model_of_record(zoo.get_record(name))


@functools.cache
def images(dataset, data_dir):
    """Returns the first held-out images of a dataset."""
    data = training.load_data(dataset, (32, 32), data_dir)
    return data.held_out_images[:IMAGES].astype("float32")


def side_by_side(count, width, height):
    """Returns axes in a row in a new figure, each of this size in inches."""
    from matplotlib import pyplot

    _, axes = pyplot.subplots(
        1, count, figsize=(count * width, height), layout="constrained", squeeze=False
    )
    return axes[0]


def kinds(data_dir):
    """Draws where three kinds of shifts move a layer's channels (SSL paper, Fig. 1)."""
    titles = {
        GROUPED: "(a) grouped shift",
        WITHOUT_PENALTY: "(b) active shift, rounded (SSL, λ = 0)",
        LEARNED: "(c) sparse shift (SSL, λ = 1e-4)",
    }
    histograms = [
        analysis.shift_histogram(network(name).get_layer(LAYER)) for name in titles
    ]
    largest = max(max(one.counts.values()) / one.channels for one in histograms)
    panels = side_by_side(len(titles), 4.2, 5)
    for ax, title, histogram in zip(panels, titles.values(), histograms):
        histogram.plot(ax, reach=2, largest=largest)
        unshifted = f"{histogram.counts[0, 0]} of {histogram.channels}"
        ax.set_title(f"{title}\n{unshifted} channels unshifted", fontsize="medium")
        legend = ax.get_legend()
        handles = legend.legend_handles
        legend.remove()
    ax.figure.legend(handles=handles, frameon=False, loc="outside lower center")
    return ax


def block2_2(data_dir):
    """Draws where a layer's channels moved (SSL paper, Fig. 5)."""
    return analysis.plot_shifts(network(PENALIZED).get_layer(LAYER), before="initial")


def shifts(data_dir):
    """Draws where every layer's channels moved, under a smaller penalty."""
    return analysis.plot_shifts(network(LEARNED), before="initial")[0]


def sparsity(data_dir):
    """Draws where the network that is fastest on a phone still shifts."""
    return analysis.plot_sparsity(network("fenet_0.75.tiny_imagenet.emptied"))


def history(data_dir):
    """Draws when shifts go while accuracy grows."""
    record = zoo.get_record("fenet_0.75.tiny_imagenet.sparse")
    folder = zoo.published_weights.folder()
    return analysis.training_history(folder / f"{record.name}.log.csv").plot()


def contribution(data_dir):
    """Draws which neighbours count (ShiftNet paper, Fig. 7)."""
    return analysis.channel_contribution(network(EXPANDED), EXPANDED_LAYER).plot()


def correlation(data_dir):
    """Draws which channels of a displacement tell the same (ShiftNet paper, Fig. 8)."""
    found = analysis.channel_correlation(
        network(EXPANDED), EXPANDED_LAYER, images("cifar100", data_dir)
    )
    return found.plot()


def receptive_field(data_dir):
    """Draws what a network sees with learned, with grouped and without shifts."""
    networks = {"learned shifts": LEARNED, "grouped shifts": GROUPED, "no shifts": NONE}
    panels = side_by_side(len(networks), 4.6, 4.1)
    for (title, name), ax in zip(networks.items(), panels):
        found = analysis.effective_receptive_field(
            network(name), "group3_module3_add", images("cifar10", data_dir)
        )
        rows, columns = found.spread
        found.plot(ax).set_title(
            f"{title}\nstandard deviation {rows:.1f} rows, {columns:.1f} columns",
            fontsize="medium",
        )
    return ax


def collapse(data_dir):
    """Draws how many dimensions features have with FE-blocks and bottlenecks."""
    names = ("fenet_1.0.cifar100", "mobilenet_v2_1.0.cifar100")
    for name, ax in zip(names, side_by_side(2, 7, 10)):
        found = analysis.feature_collapse(network(name), images("cifar100", data_dir))
        found.plot(ax)
    return ax


def _families():
    """Returns the curves of `tradeoff`: rows of the paper's Table 5, and networks."""
    reductions = {20: "12", 56: "16", 110: "15"}
    for depth in (20, 56, 110):
        yield f"ShiftResNet-{depth}", drawing.BLUE, [
            (f"ShiftResNet{depth}, E = {e}", f"shiftresnet{depth}_e{e}")
            for e in (1, 3, 6, 9)
        ]
        reduced = {1: reductions[depth], 3: "3.3", 6: "1.6"}
        yield f"ResNet-{depth}", drawing.GREY, [
            *(
                (
                    f"ResNet{depth}, module-wise like E = {e}",
                    f"resnet{depth}_module_wise_{reduction}",
                )
                for e, reduction in reduced.items()
            ),
            (f"ResNet{depth}", f"resnet{depth}"),
        ]


def tradeoff(data_dir):
    """Draws accuracy over parameters and MAdds (ShiftNet paper, Fig. 4 and 5)."""
    with open(ROOT / "zoo" / "results.csv", newline="", encoding="utf-8") as file:
        paper = {
            row["row"]: float(row["paper"].rstrip("%"))
            for row in csv.DictReader(file)
            if (row["table"], row["dataset"]) == ("ShiftNet Table 5", "cifar100")
        }
    counts = zoo.variants.counts()
    records = [
        zoo.get_record(name)
        for name in zoo.list_weights()
        if zoo.get_record(name).dataset == "cifar100"
    ]
    panels = side_by_side(2, 6.6, 4.4)
    # Tables of networks have them with ten classes. A hundred classes have ninety more
    # rows of the last kernel, of 64 channels, and ninety more biases.
    for ax, field, more, label in (
        (panels[0], "parameters", 90 * 65, "parameters"),
        (panels[1], "multiply_adds", 90 * 64, "MAdds"),
    ):
        drawing.plain(ax)
        for number, (name, colour, points) in enumerate(_families()):
            costs = [getattr(counts[network], field) + more for _, network in points]
            accuracies = [paper[row] for row, _ in points]
            ax.plot(
                costs,
                accuracies,
                color=colour,
                marker="os^"[number // 2],
                linestyle=("-", "--", ":")[number // 2],
                markersize=4,
                label=f"{name}, paper",
            )
        for marker, record in zip("*DPXvs", records):
            ax.plot(
                getattr(record, field),
                100 * record.top1,
                color=drawing.RED,
                marker=marker,
                linestyle="",
                label=f"{record.name.replace('.cifar100', '')}, ours",
            )
        ax.set_xscale("log")
        ax.set_xlabel(label)
        ax.set_ylabel("top-1 on CIFAR-100, %")
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(handles, labels, fontsize="small", loc="outside right upper")
    return ax


def intensity(data_dir):
    """Draws what memory and what multiplications slow (ShiftNet paper, Eq. 4, 5)."""
    with open(INTENSITIES, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    looks = {
        "convolution": ("s", drawing.GREY),
        "1x1 convolution": ("D", drawing.BLUE),
        "depthwise convolution": ("o", drawing.ORANGE),
        "shift": ("^", drawing.RED),
    }
    runtimes = {"tensorflow": "TensorFlow", "litert": "LiteRT"}
    panels = side_by_side(len(runtimes), 4.8, 4.4)
    for ax, (runtime, title) in zip(panels, runtimes.items()):
        drawing.plain(ax)
        for value in ("axvline", "axhline"):
            getattr(ax, value)(1, color="black", linewidth=0.8, linestyle=":")
        for operation, (marker, colour) in looks.items():
            some = [
                row
                for row in rows
                if (row["runtime"], row["operation"]) == (runtime, operation)
            ]
            for row in some:
                large = row["batch"] != "1"
                ax.plot(
                    float(row["product_multiply_adds"]),
                    float(row["copying_bytes"]),
                    marker,
                    color=colour,
                    markerfacecolor="none" if large else colour,
                    markersize=7,
                )
        ax.set_title(title)
        ax.set_xlabel("multiply-adds a second / those of a matrix product")
        ax.set_ylabel("bytes a second / those of copying")
        ax.set_xlim(-0.05, 1.55)
        ax.set_ylim(-0.05, 1.25)
    for operation, (marker, colour) in looks.items():
        panels[0].plot([], [], marker, color=colour, label=operation)
    panels[0].plot(
        [], [], "o", color="black", markerfacecolor="none", label="32 images"
    )
    panels[0].figure.legend(
        loc="outside lower center", ncols=5, frameon=False, fontsize="small"
    )
    return ax


FIGURES = {
    function.__name__: function
    for function in (
        kinds,
        block2_2,
        shifts,
        sparsity,
        history,
        contribution,
        correlation,
        receptive_field,
        collapse,
        tradeoff,
        intensity,
    )
}


def main():
    """Writes all pictures, or those that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="all of them by default")
    parser.add_argument("--data-dir", help="folder of the datasets")
    options = parser.parse_args()
    if unknown := set(options.names) - set(FIGURES):
        parser.error(f"there are {list(FIGURES)}, and no {sorted(unknown)}")
    matplotlib.use("agg")
    FOLDER.mkdir(exist_ok=True)
    for name in options.names or FIGURES:
        ax = FIGURES[name](options.data_dir)
        with replacing(FOLDER / f"{name}.png") as temporary:
            ax.figure.savefig(temporary, dpi=100, facecolor="white")
        print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
