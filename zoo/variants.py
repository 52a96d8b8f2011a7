"""Lists every network of the two papers by name, with the papers' figures."""

import csv
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COUNTS = Path(__file__).parent / "counts.csv"


@dataclasses.dataclass(frozen=True)
class Variant:
    """Describes a network that has a name.

    Attributes:
        constructor: Name of the network's constructor.
        arguments: The constructor's arguments that make the network. Defaults to `{}`.
        source: The papers' tables with the network. Defaults to `""`.
        paper_multiply_adds: The MAdds or FLOPs that the papers print, or `""` if they
            print none. Defaults to `""`.
        paper_parameters: The number of parameters that the papers print, or `""` if
            they print none. Defaults to `""`.
        counting: How the papers count MAdds, a key of `COUNTINGS`. Defaults to
            `"multiply-adds"`.
        note: What a reader needs to know to compare the figures. Defaults to `""`.
    """

    constructor: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""
    paper_multiply_adds: str = ""
    paper_parameters: str = ""
    counting: str = "multiply-adds"
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Counts:
    """Holds what a network costs.

    Attributes:
        input_shape: Shape of the image, such as `(224, 224, 3)`.
        classes: Number of classes.
        parameters: Number of trainable parameters without displacements.
        displacements: Number of parameters that are displacements, two for each channel
            with a learned shift.
        multiply_adds: Number of MAdds for one image.
    """

    input_shape: tuple[int, ...]
    classes: int
    parameters: int
    displacements: int
    multiply_adds: int


# These functions turn MAdds into what the papers call MAdds or FLOPs.
COUNTINGS: dict[str, Callable[[int], int]] = {
    "multiply-adds": lambda multiply_adds: multiply_adds,
    # The SSL paper counts FLOPs like this on CIFAR.
    "two each": lambda multiply_adds: 2 * multiply_adds,
    # The ShiftNet paper's published code counts the first convolution as if it had 64
    # outputs and 1 input channel, but it has 16 outputs and 3 input channels.
    "published code": lambda multiply_adds: multiply_adds + 32 * 32 * 9 * (64 - 3 * 16),
}


def _fenets():
    table_5: dict[str, Any] = {"source": "SSL Table 5"}
    table_7: dict[str, Any] = {"source": "SSL Table 7"}
    wide = {"alpha": 1.375}
    yield "fenet_1.0", Variant(
        "FENet",
        **table_5,
        paper_multiply_adds="301M",
        paper_parameters="3.7M",
        note="No one width for all layers of Table 4 meets this row and that of "
        "1.375; head_filters=1500 would meet both of its figures.",
    )
    yield "fenet_1.375", Variant(
        "FENet", wide, **table_5, paper_multiply_adds="563M", paper_parameters="5.9M"
    )
    yield "fenet_1.0_dw", Variant(
        "FENet", {"spatial": "depthwise"}, "SSL Table 6", note="No figures printed."
    )
    yield "fenet_1.375_dw", Variant(
        "FENet",
        {**wide, "spatial": "depthwise"},
        "SSL Table 6",
        note="No figures printed.",
    )
    yield "fenet_1.375_se_v1", Variant(
        "FENet",
        {**wide, "squeeze_excite": "v1"},
        **table_7,
        paper_multiply_adds="564M",
        paper_parameters="6.1M",
        note="Multiplying by the gate's output is not counted here; counted, it "
        "makes 564.1 M.",
    )
    yield "fenet_1.375_se_v2", Variant(
        "FENet",
        {**wide, "squeeze_excite": "v2"},
        **table_7,
        paper_multiply_adds="566M",
        paper_parameters="8.2M",
        note="No head_filters meets this MAdds figure and that of v1 with one way "
        "of counting.",
    )


def _fenets_of_the_authors_code():
    wide = {"alpha": 1.375}
    port = (
        "The authors' code of 2022, larger than the paper's network. Their stem pads "
        "both sides alike, and their FE-blocks begin with the last channels: weights "
        "of theirs need both, and these networks have neither."
    )
    yield "fenet_1.0_port2022", Variant(
        "FENet",
        {"expand_from": "output"},
        "authors' code",
        note=f"{port} With the head of the log that they published, of 1380 filters.",
    )
    yield "fenet_1.0_port2022_head1932", Variant(
        "FENet",
        {"expand_from": "output", "head_filters": 1932},
        "authors' code",
        note=f"{port} With the head that their code fixes for every width.",
    )
    yield "fenet_1.375_port2022", Variant(
        "FENet",
        {**wide, "expand_from": "output", "head_filters": 1932},
        "authors' code",
        note=port,
    )
    for gate in (None, "v1", "v2"):
        yield f"fenet_1.375_head1932{'' if gate is None else f'_se_{gate}'}", Variant(
            "FENet",
            {**wide, "head_filters": 1932, "squeeze_excite": gate},
            "authors' code",
            note="The paper's network with the head of the authors' code of 2022.",
        )


def _shiftnets():
    source = "ShiftNet Table 7, SSL Table 5"
    yield "shiftnet_a", Variant(
        "ShiftNetA",
        source=source,
        paper_multiply_adds="1400M",
        paper_parameters="4.1M",
    )
    yield "shiftnet_b", Variant(
        "ShiftNetB",
        source=source,
        paper_multiply_adds="371M",
        paper_parameters="1.1M",
    )
    yield "shiftnet_c", Variant(
        "ShiftNetC", source="ShiftNet Table 7", paper_parameters="0.78M"
    )
    for suffix, stem in (("", {}), ("_stem16", {"stem_filters": 16})):
        yield f"shiftnet_c_concatenate{suffix}", Variant(
            "ShiftNetC",
            {"wiring": "concatenate", **stem},
            "ShiftNet Table 7",
            paper_parameters="0.78M",
            note="Reduces the map as ShiftNet-A does, and so does not have the "
            "paper's parameters; shiftnet_c does.",
        )


def _shift_resnets():
    # ShiftNet Table 5 prints depth, expansion, parameters and FLOPs in millions.
    for depth, expansion, parameters, flops in (
        (20, 1, "0.03", "6"),
        (20, 3, "0.10", "17"),
        (20, 6, "0.19", "32"),
        (20, 9, "0.28", "48"),
        (56, 1, "0.10", "16"),
        (56, 3, "0.29", "45"),
        (56, 6, "0.58", "89"),
        (56, 9, "0.87", "133"),
        (110, 1, "0.20", "29"),
        (110, 3, "0.59", "87"),
        (110, 6, "1.18", "174"),
        (110, 9, "1.76", "260"),
    ):
        yield f"shiftresnet{depth}_e{expansion}", Variant(
            f"ShiftResNet{depth}",
            {"expansion": expansion},
            "ShiftNet Table 5",
            f"{flops}M",
            f"{parameters}M",
            counting="published code",
            note=(
                "Rounded, no reading of the paper gives this MAdds figure."
                if (depth, expansion) == (110, 1)
                else ""
            ),
        )
    for depth, parameters, flops in ((20, "0.16M", "53M"), (56, "0.55M", "166M")):
        for spatial, suffix in (
            ("sparse_shift", ""),
            ("grouped_shift", "_grouped"),
            ("none", "_1x1_only"),
        ):
            yield f"shiftresnet{depth}_ssl{suffix}", Variant(
                f"ShiftResNet{depth}",
                {"wiring": "concatenate", "spatial": spatial},
                "SSL Table 1",
                flops,
                parameters,
                counting="two each",
                note=(
                    "0.16 M are the parameters with classes=100." if depth == 20 else ""
                ),
            )
    for reduction, parameters in ((1, "22M"), (2, "11M"), (4, "6.0M")):
        yield f"shiftresnet50{_suffix(reduction)}", Variant(
            "ShiftResNet50",
            _narrow(reduction),
            "ShiftNet Table 3",
            paper_parameters=parameters,
        )


def _resnets():
    for depth, parameters, flops in (
        (20, "0.27M", "81M"),
        (56, "0.86M", "251M"),
        (110, "", ""),
    ):
        both: dict[str, Any] = {
            "source": "SSL Table 1" if flops else "ShiftNet Table 5",
            "paper_multiply_adds": flops,
            "paper_parameters": parameters,
            "counting": "two each",
        }
        yield f"resnet{depth}", Variant(
            f"ResNet{depth}",
            **both,
            note=(
                "The paper's FLOPs are those of the network with zero-padded "
                "shortcuts."
                if flops
                else ""
            ),
        )
        if flops:
            yield f"resnet{depth}_zero_padding", Variant(
                f"ResNet{depth}",
                {"shortcut": "zero_padding"},
                **both,
                note=(
                    "The paper's parameters are those of the network with projections."
                    if depth == 56
                    else ""
                ),
            )
        # ShiftNet Table 5 prints only the accuracies of these networks. Table 2 has
        # figures for one of them.
        mixed = "This row mixes the module-wise and the net-wise reduced network."
        table_2: dict[str, Any] = {
            "source": "ShiftNet Tables 2, 5",
            "paper_multiply_adds": "28M",
            "paper_parameters": "211K",
            "note": mixed,
        }
        table_5: dict[str, Any] = {"source": "ShiftNet Table 5"}
        for reduction in ({20: 12, 56: 16, 110: 15}[depth], 3.3, 1.6):
            yield f"resnet{depth}_module_wise_{reduction:g}", Variant(
                f"ResNet{depth}",
                {"module_reduction": reduction},
                **(table_2 if reduction == 15 else table_5),
            )
        yield f"resnet{depth}_net_wise_8", Variant(
            f"ResNet{depth}", _narrow(8), **(table_2 if depth == 110 else table_5)
        )
    for reduction, parameters in ((1, "26M"), (2, "13M"), (4, "6.9M")):
        yield f"resnet50{_suffix(reduction)}", Variant(
            "ResNet50",
            _narrow(reduction),
            "ShiftNet Table 3",
            paper_parameters=parameters,
        )


def _suffix(reduction):
    return "" if reduction == 1 else f"_net_wise_{reduction}"


def _narrow(reduction):
    """Returns arguments that divide all layers' parameters by about `reduction`."""
    return {} if reduction == 1 else {"alpha": reduction**-0.5}


VARIANTS: dict[str, Variant] = {
    **dict(_fenets()),
    **dict(_fenets_of_the_authors_code()),
    **dict(_shiftnets()),
    **dict(_shift_resnets()),
    **dict(_resnets()),
}


@functools.cache
def counts() -> dict[str, Counts]:
    """Returns the `Counts` of every variant by name."""
    with open(_COUNTS, newline="") as file:
        return {
            row["name"]: Counts(
                tuple(int(length) for length in row["input_shape"].split("x")),
                *(int(row[field.name]) for field in dataclasses.fields(Counts)[1:]),
            )
            for row in csv.DictReader(file)
        }


def compare(printed: str, value: float) -> str:
    """Says how a count agrees with the figure that a paper prints.

    Args:
        printed: A number with its unit, such as `"3.7M"` or `"211K"`.
        value: The count.

    Returns:
        `"match"`, `"match, cut off"` if the paper cut off digits and did not round, or
        the difference, such as `"-5.3%"`.
    """
    number, unit = printed[:-1], {"K": 1e3, "M": 1e6}[printed[-1]]
    decimals = len(number.partition(".")[2])
    # Zeros at the end of a whole number, as in "1400M", need not be exact digits.
    zeros = 0 if decimals else len(number) - len(number.rstrip("0"))
    last_digit = unit * 10.0 ** (zeros - decimals)
    target = round(float(number) * unit / last_digit)
    if round(value / last_digit) == target:
        return "match"
    if value // last_digit == target:
        return "match, cut off"
    return f"{value / (target * last_digit) - 1:+.1%}"


def figures(constructor: str) -> str:
    """Returns a table of a constructor's variants, with the papers' figures and ours.

    Args:
        constructor: Name of the constructor.

    Returns:
        A string, a Markdown table and the notes below it.
    """
    rows = [
        "Figures in millions; parameters are without learned displacements, and",
        "docs/zoo.md tells how they are counted. Names are `get_model`'s:",
        "",
        "| name | paper: MAdds or FLOPs, parameters | here: MAdds, parameters |",
        "|---|---|---|",
    ]
    for name, variant in VARIANTS.items():
        if variant.constructor == constructor:
            printed = variant.paper_multiply_adds, variant.paper_parameters
            here = counts().get(name)
            rows.append(
                f"| {name} | {', '.join(text or '-' for text in printed)} | "
                + (f"{here.multiply_adds / 1e6:.1f}, " if here else "")
                + (f"{here.parameters / 1e6:.2f} |" if here else "not counted yet |")
            )
    notes = [
        f"- {name}: {variant.note}"
        for name, variant in VARIANTS.items()
        if variant.constructor == constructor and variant.note
    ]
    return "\n".join([*rows, *[""][: len(notes)], *notes])
