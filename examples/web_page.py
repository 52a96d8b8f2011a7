"""A web page in which FE-Net and MobileNetV2, or your files, tell what a camera sees.

    python examples/web_page.py
    python examples/web_page.py --data photographs/
    python examples/web_page.py --files model.tflite

Writes both networks with their published weights as .tflite files, with a list of their
class names, beside the page of examples/web, gets LiteRT.js, by which a browser runs
them, with npm, and serves all of it on this machine. Take a picture, drop one, or let
the camera run: the page shows what both networks find in it, and how long they take. No
picture leaves the browser.

The files are float32, whose input is pixel values as they are. `--data` takes a folder
with one folder of images for each class, from which they are quantized to int8; their
input is uint8 then.

`--files` shows .tflite files that are there already, such as README's `model.tflite`,
in the place of published weights: classifiers of one square RGB image, with a float32
or an uint8 input and a float32 output. They tell their input's size and normalization,
and the names of their classes; without names, the page shows numbers. Several files
must have the same classes and the same input size.

All that the page needs is in the folder `--output`, which any web server can serve.
"""

import argparse
import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
from pathlib import Path

import quiet_start  # noqa: F401  # isort: skip

import keras
from steps import CALIBRATION_IMAGES, NETWORKS, errors_in_one_line

from keras_shift import zoo
from keras_shift.deploy import LiteRTModel, to_tflite
from keras_shift.deploy.metadata import read_metadata
from keras_shift.files import replacing

PAGE = Path(__file__).resolve().parent / "web"
PACKAGE, VERSION = "@litertjs/core", "2.5.3"

# People know the datasets of published weights by these names.
DATASETS = {
    "tiny_imagenet": "Tiny-ImageNet",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}


def write_page(output, names=NETWORKS, image_size=None, images=None):
    """Writes all that a browser needs but LiteRT.js into a folder.

    Args:
        output: `pathlib.Path` of the folder.
        names: Names of published weights with the same classes. Defaults to the two
            of `steps.NETWORKS`.
        image_size: Height and width of the files' input, in pixels. Defaults to
            `None`: that of the images that the networks were trained with.
        images: Images of `image_size` with which files are quantized to int8, or
            `None` for float32 files. Defaults to `None`.
    """
    records = [zoo.get_record(name) for name in names]
    if len({(tuple(record.names()), record.input_shape) for record in records}) > 1:
        raise ValueError(
            "All networks must have the same classes, and must have been trained with "
            f"images of the same size. Received: {', '.join(names)}"
        )
    first = records[0]
    size = image_size or first.input_shape[0]
    kind = "float32" if images is None else "int8"
    output.mkdir(parents=True, exist_ok=True)
    networks = []
    for record in records:
        model = zoo.models.model_of_record(record, input_shape=(size, size, 3))
        report = to_tflite(
            model,
            output / f"{record.name}_{size}_{kind}.tflite",
            None if images is None else kind,
            images,
            input_type="float32" if images is None else "uint8",
            labels=first.names(),
        )
        print(report)
        networks.append(
            {
                "name": _name(record),
                "weights": record.weights,
                "file": Path(report.path).name,
                "bytes": report.bytes,
                "mean": [0.0],
                "std": [1.0],
                "top1": record.top1 if images is None else record.int8_top1,
            }
        )
    about = {
        "dataset": DATASETS.get(first.dataset, first.dataset),
        "held_out_images": first.images,
        "kind": kind,
        "image_size": size,
        "trained_size": first.input_shape[0],
        "networks": networks,
    }
    _write(output, about, first.names())


def write_page_of_files(output, paths):
    """Writes the same for .tflite files that are there already.

    Args:
        output: `pathlib.Path` of the folder.
        paths: Paths of the files.
    """
    paths = list(map(Path, paths))
    if len({path.name for path in paths}) < len(paths):
        raise ValueError(
            "--files must be files of different names, by which the page calls them. "
            f"Received: --files {' '.join(map(str, paths))}"
        )
    networks, sizes, labels = zip(*map(_read, paths))
    if len(set(zip(sizes, labels))) > 1:
        raise ValueError(
            "--files must be files with the same classes and the same input size. "
            "Received: "
            + "; ".join(
                f"{path} with {size}x{size} pixels and {len(names)} classes, "
                f"{names[0]} to {names[-1]}"
                for path, size, names in zip(paths, sizes, labels)
            )
        )
    output.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with replacing(output / path.name) as temporary:
            shutil.copyfile(path, temporary)
    about = {
        # Nobody knows what these were trained with.
        **dict.fromkeys(("dataset", "held_out_images", "kind", "trained_size")),
        "image_size": sizes[0],
        "networks": networks,
    }
    _write(output, about, labels[0])


def _read(path):
    """Returns what the page must know of a file, its image size and its classes."""
    lite = LiteRTModel(path)
    given, returned = lite.input_shape, lite.output_shape
    if (
        len(given) != 4
        or given != (1, given[1], given[1], 3)
        or len(returned) != 2
        or returned[0] != 1
        # LiteRT.js has no int8 numbers.
        or lite.input_type not in ("float32", "uint8")
        or lite.output_type != "float32"
    ):
        raise ValueError(
            "--files must be classifiers of one square RGB image with a float32 or an "
            "uint8 input and a float32 output (`input_type` and `output_type` of "
            f"`to_tflite`). Received: {path}, whose input is {given} "
            f"{lite.input_type} and whose output is {returned} {lite.output_type}"
        )
    size, classes = given[1], returned[1]
    told = read_metadata(path)
    labels = told.labels
    if labels is None or len(labels) != classes:
        print(
            f"{path} has no names of its classes, so the page shows their numbers. "
            "`to_tflite(..., labels=...)` writes names into a file."
        )
        labels = [f"class {number}" for number in range(classes)]
    network = {
        "name": path.stem,
        "weights": None,
        "file": path.name,
        "bytes": lite.bytes,
        "mean": told.mean,
        "std": told.std,
        "top1": None,
    }
    return network, size, tuple(labels)


def _write(output, about, labels):
    """Writes the page itself, and what it reads of networks and classes."""
    for path in PAGE.iterdir():
        shutil.copy(path, output)
    _write_json(labels, output / "labels.json")
    _write_json(about, output / "networks.json")


def _name(record):
    """Returns the page's name of a network, which leaves out the width 1."""
    name = record.constructor.replace("FENet", "FE-Net")
    return f"{name} {record.arguments['alpha']:g}".removesuffix(" 1")


def _write_json(content, path):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def get_litert(output):
    """Has npm put LiteRT.js into a folder, unless it is there already.

    Raises:
        OSError: If there is no npm, or it fails.
    """
    about = output / "node_modules" / PACKAGE / "package.json"
    if about.exists() and json.loads(about.read_text())["version"] == VERSION:
        return
    options = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit"]
    command = ["install", "--prefix", str(output), *options, f"{PACKAGE}@{VERSION}"]
    npm = shutil.which("npm")
    if npm is None:
        raise OSError(
            "There is no npm, which comes with Node.js. Install it, or run `npm "
            f"{' '.join(command)}` elsewhere and copy the folder that it makes."
        )
    print(f"npm gets {PACKAGE} {VERSION}, once.")
    result = subprocess.run([npm, *command], capture_output=True, text=True)
    if result.returncode:
        raise OSError(f"npm could not get {PACKAGE}: {result.stderr.strip()}")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with the headers that make a page cross-origin isolated.

    Such a page has a clock of 5 in place of 100 microseconds, and may have threads.
    """

    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        # Some systems have other types for these, with which browsers refuse them.
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self):
        """Adds the headers to those of every answer."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        # The files change when this script runs again.
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments):
        """Prints no line for every request."""


def server(output, port):
    """Returns a server of a folder, which only this machine reaches.

    Raises:
        OSError: If another program has the port.
    """
    handler = functools.partial(Handler, directory=str(output))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise OSError(
            f"Port {port} cannot be had ({error.strerror}): name another with --port."
        ) from error


def read_images(folder, image_size):
    """Returns some images of a folder of class folders, in batches."""
    if not os.path.isdir(folder):
        raise ValueError(f"--data must be a folder. Received: --data {folder}")
    dataset = keras.utils.image_dataset_from_directory(
        folder,
        labels=None,
        image_size=(image_size, image_size),
        crop_to_aspect_ratio=True,
        seed=0,
        verbose=False,
    )
    return dataset.unbatch().take(CALIBRATION_IMAGES).batch(CALIBRATION_IMAGES)


def main(arguments):
    """Writes the page, and serves it until it is interrupted."""
    if arguments.files is not None:
        write_page_of_files(arguments.output, arguments.files)
    else:
        images = None
        if arguments.data is not None:
            size = zoo.get_record(arguments.networks[0]).input_shape[0]
            images = read_images(arguments.data, size)
        write_page(arguments.output, arguments.networks, images=images)
    get_litert(arguments.output)
    if arguments.write_only:
        print(f"The page is in {arguments.output}/.")
        return
    with server(arguments.output, arguments.port) as serving:
        print(f"The page: http://localhost:{serving.server_port}/ (Ctrl+C ends)")
        with contextlib.suppress(KeyboardInterrupt):
            serving.serve_forever()


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME",
        default=NETWORKS,
        help="published weights, as `keras-shift list --weights` names them; "
        "times are compared with the last one's",
    )
    shown.add_argument(
        "--files",
        nargs="+",
        metavar="FILE",
        help=".tflite files to show in the place of published weights, likewise",
    )
    parser.add_argument("--data", metavar="DIR", help="folder of class folders")
    parser.add_argument("--output", type=Path, default=Path("web_page_output"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--write-only",
        action="store_true",
        help="write the folder, and do not serve it",
    )
    parsed = parser.parse_args(arguments)
    if parsed.files is not None and parsed.data is not None:
        parser.error(
            "argument --data: not allowed with argument --files, whose files are shown "
            "as they are"
        )
    return parsed


if __name__ == "__main__":
    with errors_in_one_line("web_page.py"):
        main(parse())
