"""A web page in which FE-Net and MobileNetV2 tell what your camera sees.

    python examples/web_page.py
    python examples/web_page.py --data photographs/

Writes both networks with their published weights as .tflite files, with a list of their
class names, beside the page of examples/web, gets LiteRT.js, by which a browser runs
them, with npm, and serves all of it on this machine. Take a picture, drop one, or let
the camera run: the page shows what both networks find in it, and how long they take. No
picture leaves the browser.

The files are float32, whose input is pixel values as they are. `--data` takes a folder
with one folder of images for each class, from which they are quantized to int8; their
input is uint8 then. All that the page needs is in the folder `--output`, which any web
server can serve.
"""

import argparse
import functools
import http.server
import json
import os
import shutil
import subprocess
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
from steps import CALIBRATION_IMAGES, NETWORKS, errors_in_one_line  # noqa: E402

from keras_shift import zoo  # noqa: E402
from keras_shift.deploy import to_tflite  # noqa: E402
from keras_shift.files import replacing  # noqa: E402

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
    for path in PAGE.iterdir():
        shutil.copy(path, output)
    _write_json(first.names(), output / "labels.json")
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
        serving.serve_forever()


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME",
        default=NETWORKS,
        help="published weights, as `keras-shift list --weights` names them; "
        "times are compared with the last one's",
    )
    parser.add_argument("--data", metavar="DIR", help="folder of class folders")
    parser.add_argument("--output", type=Path, default=Path("web_page_output"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--write-only",
        action="store_true",
        help="write the folder, and do not serve it",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    with errors_in_one_line("web_page.py"):
        main(parse())
