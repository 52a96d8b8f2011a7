"""The command `keras-shift`.

Every sub-command is one function, which describes its arguments and holds what it does.
"""

import argparse

import keras
import rich.box
import rich.table

from keras_shift import analysis, zoo
from keras_shift.table import to_text


def main(arguments=None):
    """Runs `keras-shift`.

    Args:
        arguments: Strings, or `None` for those of the command line.

    Raises:
        SystemExit: With status 2 and a message, if the arguments are wrong.
    """
    parser = argparse.ArgumentParser(
        prog="keras-shift", description="Networks that see with shifts, for Keras 3."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command(commands)
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except (OSError, ValueError) as error:
        parser.exit(2, f"keras-shift: error: {error}\n")


def _list(commands):
    about = "list the networks of the zoo and what they cost"
    parser = commands.add_parser("list", help=about, description=about)
    parser.add_argument(
        "pattern", nargs="?", default="*", help='such as "fenet*"; all by default'
    )

    def run(arguments):
        counts = zoo.model_counts()
        names = zoo.list_models(arguments.pattern)
        if not names:
            raise ValueError(
                "No network of the zoo has a name like this; `keras-shift list` shows "
                f"all of them. Received: pattern={arguments.pattern!r}"
            )
        table = rich.table.Table(
            box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        table.add_column("Name", no_wrap=True)
        table.add_column("Input", no_wrap=True)
        for column in ("MAdds", "Parameters", "Displacements"):
            table.add_column(column, justify="right", no_wrap=True)
        for name in names:
            of = counts[name]
            table.add_row(
                name,
                "x".join(map(str, of.input_shape)),
                f"{of.multiply_adds / 1e6:,.1f} M",
                f"{of.parameters / 1e6:,.2f} M",
                f"{of.displacements:,}",
            )
        print(to_text(table))
        print(
            "\nMAdds are those of one image. Parameters are without displacements, "
            "which\nthe papers do not count, and without moving statistics."
        )

    parser.set_defaults(run=run)


def _summary(commands):
    about = "show what each layer of a network costs, and how it shifts"
    parser = commands.add_parser("summary", help=about, description=about)
    _add_model_arguments(parser)
    files = parser.add_mutually_exclusive_group()
    files.add_argument(
        "--csv", metavar="FILE", help="write exact numbers of all layers to FILE"
    )
    files.add_argument("--markdown", metavar="FILE", help="write the table to FILE")

    def run(arguments):
        model = _model(arguments)
        result = analysis.summary(model, arguments.input_shape)
        if arguments.csv:
            result.to_csv(arguments.csv)
        elif arguments.markdown:
            result.to_markdown(arguments.markdown)
        else:
            print(result)

    parser.set_defaults(run=run)


_COMMANDS = (_list, _summary)


# What several sub-commands take


def _add_model_arguments(parser):
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a name that `keras-shift list` lists, a constructor such as FENet, or "
        "the path of a .keras file",
    )
    parser.add_argument(
        "--input-shape",
        type=int,
        nargs=3,
        metavar=("H", "W", "C"),
        help="shape of one image; the network's own by default",
    )
    parser.add_argument(
        "--classes",
        type=int,
        metavar="N",
        help="number of classes; the network's own by default",
    )


def _model(arguments):
    if arguments.name.endswith(".keras"):
        if arguments.classes is not None:
            raise ValueError(
                "The classes of a .keras file are those it was saved with. "
                f"Received: --classes {arguments.classes}"
            )
        return keras.models.load_model(arguments.name, compile=False)
    given = {
        "input_shape": arguments.input_shape and tuple(arguments.input_shape),
        "classes": arguments.classes,
    }
    given = {key: value for key, value in given.items() if value is not None}
    return zoo.get_model(arguments.name, **given)
