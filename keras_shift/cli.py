"""The command `keras-shift`.

Every sub-command is one function, which describes its arguments and holds what it does.
"""

import argparse
import dataclasses
import os
import sys

import keras
import rich.box
import rich.console
import rich.progress
import rich.table

from keras_shift import analysis, deploy, measuring, training, zoo
from keras_shift.table import to_text
from keras_shift.training.recipe import PRECISIONS
from keras_shift.training.trainer import WEIGHTS, check_directory
from keras_shift.zoo import recipes

# Images in one step of `--data`.
_BATCH_SIZE = 32


def main(arguments=None):
    """Runs `keras-shift`.

    Args:
        arguments: Strings, or `None` for those of the command line.

    Raises:
        SystemExit: With status 2 and a message, if the arguments are wrong; with
            status 1 from `verify`, if file and model disagree, and from `evaluate`,
            if the figures are not those on record.
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
    except (
        FloatingPointError,
        ImportError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        parser.exit(2, f"keras-shift: error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\nkeras-shift: interrupted\n")


def _list(commands):
    about = "list the networks of the zoo and what they cost, or their weights"
    parser = commands.add_parser("list", help=about, description=about)
    parser.add_argument(
        "pattern", nargs="?", default="*", help='such as "fenet*"; all by default'
    )
    parser.add_argument(
        "--weights", action="store_true", help="list published weights instead"
    )

    def run(arguments):
        if arguments.weights:
            print(_table_of_weights(arguments.pattern))
            return
        counts = zoo.model_counts()
        names = zoo.list_models(arguments.pattern)
        if not names:
            raise ValueError(
                "No network of the zoo has a name like this; `keras-shift list` shows "
                f"all of them. Received: pattern={arguments.pattern!r}"
            )
        table = _table()
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


def _table_of_weights(pattern):
    names = zoo.list_weights(pattern)
    if not names:
        raise ValueError(
            "No published weights have a name like this. There are "
            f"{zoo.list_weights() or 'none yet'}. Received: pattern={pattern!r}"
        )
    table = _table()
    for column in ("Name", "Constructor", "weights="):
        table.add_column(column, no_wrap=True)
    for column in ("Input", "Top-1", "Top-5", "int8", "MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in names:
        of = zoo.get_record(name)
        table.add_row(
            name,
            of.constructor,
            of.weights,
            "x".join(map(str, of.input_shape)),
            f"{of.top1:.2%}",
            f"{of.top5:.2%}",
            "" if of.int8_top1 is None else f"{of.int8_top1:.2%}",
            f"{of.bytes / 1e6:.1f}",
        )
    return to_text(table)


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


def _export(commands):
    about = "write a network as a .tflite file, run it, and compare it with Keras"
    parser = commands.add_parser("export", help=about, description=about)
    _add_model_arguments(parser)
    parser.add_argument("out", metavar="OUT.tflite", help="the file to write")
    parser.add_argument(
        "--quantize",
        choices=["float16", "dynamic", "int8"],
        help="float32 by default; int8 needs --data",
    )
    _add_data_argument(parser, "to calibrate int8 with, and to compare on")
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

    def run(arguments):
        if arguments.quantize == "int8" and arguments.data is None:
            raise ValueError(
                "--quantize int8 learns the ranges of activations from images: name "
                "a folder of some of the training images with --data."
            )
        labels = arguments.labels and _lines(arguments.labels)
        model = _model_with_weights(arguments)
        images = None
        if arguments.data is not None:
            dataset = _dataset(arguments.data, model, shuffle=True)
            images = dataset.map(lambda images, labels: images)
            if not labels and len(dataset.class_names) == model.output_shape[-1]:
                labels = dataset.class_names
        labels = labels or _labels_of_weights(arguments, model)
        _say(f"Converting {model.name}, running the file and comparing it with Keras.")
        print(
            deploy.to_tflite(
                model,
                arguments.out,
                arguments.quantize,
                images,
                arguments.batch_size,
                input_type=arguments.input_type,
                output_type=arguments.output_type,
                labels=labels,
            )
        )

    parser.set_defaults(run=run)


def _verify(commands):
    about = "compare what a .tflite file answers with what its network does"
    parser = commands.add_parser(
        "verify",
        help=about,
        description=f"{about[0].upper()}{about[1:]}. The exit status is 1 if they "
        "disagree more than --min-agreement and --max-difference allow.",
    )
    parser.add_argument("file", metavar="FILE.tflite", help="the file")
    _add_model_arguments(parser)
    _add_data_argument(parser, "to compare on, all of them")
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

    def run(arguments):
        model = _model_with_weights(arguments)
        data = None
        if arguments.data is not None:
            dataset = _dataset(arguments.data, model, shuffle=False)
            data = _progress(dataset, "Comparing")
            classes = len(dataset.class_names)
            if classes != model.output_shape[-1]:
                _say(
                    f"{arguments.data} has {classes} folders and the network "
                    f"{model.output_shape[-1]} classes, so there is no accuracy."
                )
                data = (images for images, labels in data)
        result = deploy.verify(arguments.file, model, data)
        print(result)
        same = result.agreement
        # Written so that a difference which is not a number is too large.
        if not same.top1 >= arguments.min_agreement:
            _disagree(
                f"They agree on {same.top1:.1%} of the images, which is less than "
                f"--min-agreement {arguments.min_agreement:g}."
            )
        most = arguments.max_difference
        if most is not None and not same.relative_difference <= most:
            _disagree(
                f"The largest difference is {same.relative_difference:.2g} of the "
                f"largest output, which is more than --max-difference {most:g}."
            )

    parser.set_defaults(run=run)


def _benchmark(commands):
    about = "time .tflite files on this machine, in turns"
    parser = commands.add_parser("benchmark", help=about, description=about)
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

    def run(arguments):
        print(
            deploy.benchmark(
                *arguments.files, threads=arguments.threads, repeats=arguments.repeats
            )
        )

    parser.set_defaults(run=run)


def _recipes(commands):
    about = "list the recipes of training"
    parser = commands.add_parser("recipes", help=about, description=about)
    parser.add_argument(
        "pattern", nargs="?", default="*", help='such as "cifar10.*"; all by default'
    )

    def run(arguments):
        names = recipes.list_recipes(arguments.pattern)
        if not names:
            raise ValueError(
                "No recipe has a name like this; `keras-shift recipes` shows all of "
                f"them. Received: pattern={arguments.pattern!r}"
            )
        table = _table()
        table.add_column("Name", no_wrap=True)
        table.add_column("Length", justify="right", no_wrap=True)
        table.add_column("Batch", justify="right", no_wrap=True)
        table.add_column("Source", overflow="fold")
        for recipe in map(recipes.get_recipe, names):
            length = f"{recipe.epochs} epochs"
            if recipe.epochs is None:
                length = f"{recipe.steps:,} steps"
            table.add_row(recipe.name, length, str(recipe.batch_size), recipe.source)
        print(to_text(table))

    parser.set_defaults(run=run)


def _train(commands):
    about = "train a network by a recipe"
    parser = commands.add_parser(
        "train",
        help=about,
        description=f"{about[0].upper()}{about[1:]}. What was interrupted, even "
        "killed, goes on with --resume from its last complete epoch, and ends as if "
        "it had not been.",
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="a name that `keras-shift recipes` lists, or the path of a recipe.json",
    )
    _add_data_dir_argument(parser)
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

    def run(arguments):
        recipe = _recipe(arguments.recipe)
        given = {"seed": arguments.seed, "precision": arguments.precision}
        if arguments.epochs is not None:
            recipe = dataclasses.replace(recipe, epochs=arguments.epochs, steps=None)
        given = {key: value for key, value in given.items() if value is not None}
        recipe = dataclasses.replace(recipe, **given)
        output = arguments.output or os.path.join("runs", recipe.name)
        check_directory(output, arguments.resume)
        with training.distribution.fail_fast(), training.distribution.scope():
            training.distribution.division().check_batch_size(recipe.batch_size)
            model = recipes.build(recipe, classifier_activation=None)
            _say(f"Loading {recipe.dataset}.")
            data = training.load_data(
                recipe.dataset,
                model.input_shape[1:3],
                arguments.data_dir,
                augmentation=recipe.augmentation,
            )
            _say(f"Training {model.name} into {output}/.")
            rows = training.train(model, recipe, data, output, resume=arguments.resume)
        print(
            f"{recipe.name}: top-1 {rows[-1]['val_accuracy']:.2%} on the held-out "
            f"images after {rows[-1]['epoch']} epochs. The weights are "
            f"{os.path.join(output, WEIGHTS)}."
        )

    parser.set_defaults(run=run)


def _evaluate(commands):
    about = "measure trained weights on the held-out images of their dataset"
    parser = commands.add_parser(
        "evaluate",
        help=about,
        description=f"{about[0].upper()}{about[1:]}, in float32 and as an int8 .tflite "
        "file. The exit status is 1 if published weights do not have the figures of "
        "their record, to the printed digit.",
    )
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="a name that `keras-shift list --weights` lists, or the path of the "
        "directory of a training, or of a .weights.h5 file with recipe.json beside it",
    )
    _add_data_dir_argument(parser)
    parser.add_argument(
        "--int8",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether to measure an int8 file, too (needs TensorFlow)",
    )

    def run(arguments):
        record = None
        if os.path.exists(arguments.weights):
            trained = measuring.read_run(arguments.weights)
            model, dataset = trained.model, trained.recipe.dataset
            augmentation = trained.recipe.augmentation
        else:
            record = zoo.get_record(arguments.weights)
            model = zoo.get_model(
                record.constructor,
                alpha=record.arguments["alpha"],
                weights=record.weights,
            )
            dataset = record.dataset
            augmentation = record.recipe.get("augmentation", "none")
        data = training.load_data(
            dataset, model.input_shape[1:3], arguments.data_dir, augmentation
        )
        if record is not None:
            measuring.check_classes(data, record.labels())
        figures = measuring.measure(model, data, arguments.int8)
        expected = {} if record is None else measuring.figures_of(record).rows()
        table = _table()
        table.add_column(arguments.weights, no_wrap=True)
        for column in ("Here", "On record"):
            table.add_column(column, justify="right", no_wrap=True)
        found = figures.rows()
        for name, value in found.items():
            table.add_row(name, value, expected.get(name, ""))
        print(to_text(table))
        print(f"\n{figures.images:,} images of {dataset}, {model.name}")
        if record is None:
            return
        different = [
            name for name in found if found[name] != expected.get(name, found[name])
        ]
        if different:
            _disagree(
                f"{' and '.join(different)} are not as on record, which was measured "
                f"on {record.images:,} images, with {record.backend} and on "
                f"{record.device}. Another machine may round one image otherwise."
            )

    parser.set_defaults(run=run)


def _recipe(name):
    if not name.endswith(".json"):
        return recipes.get_recipe(name)
    with open(name, encoding="utf-8") as file:
        return training.Recipe.from_json(file.read())


_COMMANDS = (
    _list,
    _summary,
    _recipes,
    _train,
    _evaluate,
    _export,
    _verify,
    _benchmark,
)


# What several sub-commands take


def _add_data_dir_argument(parser):
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the dataset: NAME.npz, the folder NAME/ with one folder for "
        "each split and in it one for each class, or TensorFlow Datasets'; by default "
        "that of TensorFlow Datasets",
    )


def _add_data_argument(parser, purpose):
    parser.add_argument(
        "--data",
        metavar="DIR",
        help=f"folder with one folder of images for each class, {purpose}; random "
        "pixels by default",
    )


def _dataset(folder, model, shuffle):
    """Images with pixel values in [0, 255], as large as the model takes them."""
    height, width, channels = model.input_shape[1:]
    modes = {1: "grayscale", 3: "rgb", 4: "rgba"}
    if None in (height, width) or channels not in modes:
        raise ValueError(
            "The network must take images of a fixed size with 1, 3 or 4 channels to "
            f"be shown those of --data. Received: images of shape "
            f"{model.input_shape[1:]}"
        )
    if not os.path.isdir(folder):
        raise ValueError(f"--data must be a folder. Received: --data {folder}")
    return keras.utils.image_dataset_from_directory(
        folder,
        color_mode=modes[channels],
        batch_size=_BATCH_SIZE,
        image_size=(height, width),
        shuffle=shuffle,
        seed=0,
        crop_to_aspect_ratio=True,
        verbose=False,
    )


def _table():
    return rich.table.Table(
        box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )


def _labels_of_weights(arguments, model):
    """Names of the classes of published weights, if the network has as many."""
    if arguments.weights is None:
        return None
    for record in map(zoo.get_record, zoo.list_weights()):
        if (
            record.weights == arguments.weights
            and record.constructor == zoo.models.constructor_name(arguments.name)
            and record.classes == model.output_shape[-1]
        ):
            return record.labels()
    return None


def _lines(path):
    # An editor's mark at the beginning is not part of the first line.
    with open(path, encoding="utf-8-sig") as file:
        return file.read().splitlines()


def _say(text):
    """Tells what goes on, without mixing it with results."""
    print(text, file=sys.stderr, flush=True)


def _disagree(text):
    _say(text)
    sys.exit(1)


def _progress(dataset, description):
    console = rich.console.Console(stderr=True)
    return rich.progress.track(
        dataset,
        description,
        total=len(dataset),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _model_with_weights(arguments):
    """The network; one of the zoo has the same random weights every time."""
    if arguments.name.endswith(".keras"):
        if arguments.input_shape is not None:
            raise ValueError(
                "The network of a .keras file takes images of the shape it was saved "
                "with. Received: --input-shape "
                f"{' '.join(map(str, arguments.input_shape))}"
            )
        return _model(arguments)
    keras.utils.set_random_seed(0)
    if arguments.weights is None:
        _say(
            f"{arguments.name} has random weights (of seed 0); name trained ones with "
            "--weights, or a .keras file."
        )
    return _model(arguments)


def _add_model_arguments(parser):
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a name that `keras-shift list` lists, a constructor such as FENet, or "
        "the path of a .keras file",
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


def _model(arguments):
    if arguments.name.endswith(".keras"):
        if arguments.classes is not None:
            raise ValueError(
                "The classes of a .keras file are those it was saved with. "
                f"Received: --classes {arguments.classes}"
            )
        if arguments.weights is not None:
            raise ValueError(
                "A .keras file holds its weights. "
                f"Received: --weights {arguments.weights}"
            )
        return keras.models.load_model(arguments.name, compile=False)
    given = {
        "weights": arguments.weights,
        "input_shape": arguments.input_shape and tuple(arguments.input_shape),
        "classes": arguments.classes,
    }
    given = {key: value for key, value in given.items() if value is not None}
    return zoo.get_model(arguments.name, **given)
