"""Parses the arguments of `keras-shift` and its sub-commands, without Keras."""

import argparse

from keras_shift.recipe import PRECISIONS


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line.

    The arguments that it parses have the name of the sub-command as `command`. The
    module of keras_shift.cli that runs it has the same name.
    """
    parser = argparse.ArgumentParser(
        prog="keras-shift", description="Networks that see with shifts, for Keras 3."
    )
    _add_switches(parser, default=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_list,
        _add_summary,
        _add_plot,
        _add_report,
        _add_recipes,
        _add_train,
        _add_evaluate,
        _add_export,
        _add_verify,
        _add_benchmark,
    ):
        add(commands)
    return parser


def _add_command(commands, name, about, more=""):
    parser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}{more}."
    )
    # A switch may also stand in front of the command. If it is missing behind the
    # command, it must not be reset.
    _add_switches(parser, default=argparse.SUPPRESS)
    parser.set_defaults(command=name)
    return parser


def _add_switches(parser, default):
    parser.add_argument(
        "--verbose",
        action="store_true",
        default=default,
        help="show what TensorFlow and other libraries write to standard error, too",
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=default,
        help="show where in the program an error comes from, to report it",
    )


def _add_list(commands):
    parser = _add_command(
        commands,
        "list",
        "list the networks of the zoo and what they cost, or their weights",
    )
    _add_pattern(parser, "fenet*")
    parser.add_argument(
        "--weights", action="store_true", help="list published weights instead"
    )


def _add_summary(commands):
    parser = _add_command(
        commands,
        "summary",
        "show what each layer of a network costs, and how it shifts",
    )
    _add_model(parser)
    files = parser.add_mutually_exclusive_group()
    files.add_argument(
        "--csv", metavar="FILE", help="write exact numbers of all layers to FILE"
    )
    files.add_argument("--markdown", metavar="FILE", help="write the table to FILE")


def _add_plot(commands):
    parser = _add_command(
        commands,
        "plot",
        "draw what a network's shifts learned",
        more=", or how it was trained: --what history takes the log of trained "
        "weights, and NAME may then be the folder of a training",
    )
    _add_model(parser)
    parser.add_argument(
        "--what",
        required=True,
        choices=[
            "shifts",
            "sparsity",
            "displacements",
            "correlation",
            "contribution",
            "receptive-field",
            "collapse",
            "history",
        ],
        help="the study to draw, which docs/studies.md explains",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE.png|.svg",
        help="the picture to write",
    )
    parser.add_argument(
        "--layer",
        metavar="LAYER",
        help="name of the layer to draw; by default all shift layers, or for "
        "correlation and contribution the one with the largest share of shifted "
        "channels, and for receptive-field the last one",
    )
    _add_data(
        parser,
        "to show the network for correlation, receptive-field, collapse",
        default="random pixels by default, but collapse needs images",
    )


def _add_report(commands):
    parser = _add_command(
        commands,
        "report",
        "write a page on a network: its shifts, its files, their times, what it sees",
        more=". The page needs no other file and no connection",
    )
    _add_model(parser)
    parser.add_argument(
        "--output", required=True, metavar="FILE.html", help="the page to write"
    )
    parser.add_argument(
        "--costs",
        action="store_true",
        help="measure what each layer's shifts cost in a file, too, which takes "
        "minutes",
    )
    _add_data(
        parser,
        "of which up to 128 calibrate an int8 file, go through the network for "
        "studies, and six are explained",
        default="without it, there are no int8 file and no explanations, and studies "
        "see random pixels",
    )


def _add_recipes(commands):
    parser = _add_command(commands, "recipes", "list the recipes of training")
    _add_pattern(parser, "cifar10.*")


def _add_train(commands):
    parser = _add_command(
        commands,
        "train",
        "train a network by a recipe",
        more=". What was interrupted, even killed, goes on with --resume from its last "
        "complete epoch, and ends as if it had not been",
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="a name that `keras-shift recipes` lists, or the path of a recipe.json",
    )
    _add_data_dir(parser)
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for the results; runs/RECIPE by default",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with what --output holds"
    )
    changes = parser.add_argument_group("changes of the recipe")
    changes.add_argument("--epochs", type=int, metavar="N")
    changes.add_argument("--seed", type=int, metavar="N")
    changes.add_argument("--precision", choices=PRECISIONS)


def _add_evaluate(commands):
    parser = _add_command(
        commands,
        "evaluate",
        "measure trained weights on the held-out images of their dataset",
        more=", in float32 and as an int8 .tflite file. The exit status is 1 if "
        "published weights do not have the figures of their record, to the printed "
        "digit",
    )
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="a name that `keras-shift list --weights` lists, or the path of the "
        "directory of a training, or of a .weights.h5 file with recipe.json beside it",
    )
    _add_data_dir(parser)
    parser.add_argument(
        "--int8",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether to measure an int8 file, too (needs TensorFlow)",
    )


def _add_export(commands):
    parser = _add_command(
        commands,
        "export",
        "write a network as a .tflite file, run it, and compare it with Keras",
    )
    _add_model(parser)
    parser.add_argument("out", metavar="OUT.tflite", help="the file to write")
    parser.add_argument(
        "--quantize",
        choices=["float16", "dynamic", "int8"],
        help="float32 by default; int8 needs --data",
    )
    _add_data(parser, "to calibrate int8 with, and to compare on")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="images that the file takes at once; one by default",
    )
    for side in ("input", "output"):
        parser.add_argument(
            f"--{side}-type",
            choices=["float32", "uint8", "int8"],
            default="float32",
            help=f"type of the file's {side}; others than float32 need --quantize int8",
        )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="text file with the name of a class on every line, to be kept in the "
        ".tflite file; by default the names of the folders in --data, if there is one "
        "for every class, or else those of published --weights",
    )


def _add_verify(commands):
    parser = _add_command(
        commands,
        "verify",
        "compare what a .tflite file answers with what its network does",
        more=". The exit status is 1 if they disagree more than --min-agreement and "
        "--max-difference allow",
    )
    parser.add_argument("file", metavar="FILE.tflite", help="the file")
    _add_model(parser)
    _add_data(
        parser,
        "to compare on, all of them; for an accuracy that says something, images that "
        "the network was not trained on",
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="share of the images on which both must have the same top-1; 0.9 by "
        "default",
    )
    parser.add_argument(
        "--max-difference",
        type=float,
        metavar="SHARE",
        help="largest difference of two outputs that is allowed, as a share of the "
        "largest output, such as 1e-4 for a float32 file; any by default",
    )


def _add_benchmark(commands):
    parser = _add_command(
        commands, "benchmark", "time .tflite files on this machine, in turns"
    )
    parser.add_argument("files", nargs="+", metavar="FILE.tflite", help="a file")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="one by default"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=50,
        metavar="N",
        help="counted runs of every file; 50 by default",
    )


# The functions below add arguments that several sub-commands take.


def _add_pattern(parser, example):
    parser.add_argument(
        "pattern", nargs="?", default="*", help=f'such as "{example}"; all by default'
    )


def _add_model(parser):
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a name that `keras-shift list` lists, a constructor such as FENet, a "
        "name of trained weights such as fenet_1.0.tiny_imagenet, or the path of a "
        ".keras file",
    )
    parser.add_argument(
        "--weights",
        metavar="WEIGHTS",
        help="trained weights of a network of the zoo: the column weights= of "
        "`keras-shift list --weights`, or the path of a .weights.h5 file",
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


def _add_data(parser, purpose, default="random pixels by default"):
    parser.add_argument(
        "--data",
        metavar="DIR",
        help=f"folder with one folder of images for each class, {purpose}; {default}",
    )


def _add_data_dir(parser):
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the dataset: NAME.npz, the folder NAME/ with one folder for "
        "each split and in it one for each class, or TensorFlow Datasets'; by default "
        "that of TensorFlow Datasets",
    )
