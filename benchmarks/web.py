"""What .tflite files say and take in a browser, on the page of examples/web_page.py.

    python benchmarks/web.py --data-dir DIR

Writes the page with float32 and with int8 files, for images of 64x64 pixels, which the
networks were trained with, and of 224x224; opens it in a headless Chromium, and gives
it an image of each of 50 classes of Tiny-ImageNet, of which none was trained with, as
PNG files of the input's size. Compares what LiteRT.js says of them with what LiteRT
does, whose input are the same pixels, and takes the times that the page shows for the
last one: one image, one thread, networks in turns, ratios to MobileNetV2. DIR holds
tiny_imagenet/train and tiny_imagenet/val with one folder of images for each class. It
needs Chromium, and npm. Writes benchmarks/results/web.csv, with the machine in it.
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import threading
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "examples"))

import chromium  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import rich.console  # noqa: E402
import web_page  # noqa: E402
from records import write  # noqa: E402

from keras_shift.deploy import LiteRTModel  # noqa: E402
from keras_shift.environment import machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "web.csv"
SIZES = (64, 224)
KINDS = ("float32", "int8")
IMAGES = 50


@contextlib.contextmanager
def opened(folder, *options):
    """Serves a page from a folder, and gives it, opened in Chromium.

    Args:
        folder: `pathlib.Path` of what examples/web_page.py wrote.
        *options: Options of Chromium's command line.
    """
    with (
        web_page.server(folder, port=0) as server,
        chromium.opened(*options) as page,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page.go(f"http://localhost:{server.server_port}/")
            wait(page, "ready")
            yield page
        finally:
            server.shutdown()


def state(page, what):
    """Returns a part of what the page has found out."""
    return page.evaluate(f"import('./page.js').then((page) => page.state.{what})")


def wait(page, *steps):
    """Waits until the page has done one of these steps."""
    page.wait_for(
        f"import('./page.js').then((page) => {list(steps)}.includes(page.state.step))"
    )


def classify(page, path, *steps):
    """Gives the page an image, and returns each network's scores after a step."""
    page.choose("#file", path)
    page.wait_for(
        f"import('./page.js').then(({{state}}) => state.picture === '{path.name}' && "
        f"{list(steps)}.includes(state.step))"
    )
    return np.array(state(page, "scores"), "float32")


def measure(folder, images):
    """Returns a row for each network of the page in a folder.

    Args:
        folder: `pathlib.Path` of the page.
        images: Array of uint8 images of the size that its networks take.
    """
    about = json.loads((folder / "networks.json").read_text(encoding="utf-8"))
    with opened(folder) as page:
        scores = []
        for index, image in enumerate(images):
            path = folder / f"{index}.png"
            keras.utils.save_img(path, image, scale=False)
            last = index == len(images) - 1
            steps = ["timed"] if last else ["classified", "timed"]
            scores.append(classify(page, path, *steps))
        times, browser, errors = state(page, "times"), page.browser, page.errors
    if errors:
        raise RuntimeError(f"The page wrote errors to the console: {errors}")
    rows = []
    for network, own, time in zip(about["networks"], np.swapaxes(scores, 0, 1), times):
        expected = LiteRTModel(folder / network["file"]).predict(images)
        milliseconds, ratio = time["milliseconds"], time["ratio"]
        rows.append(
            {
                "network": network["name"],
                "weights": network["weights"],
                "image_size": about["image_size"],
                "kind": about["kind"],
                "ratio": ratio["median"],
                "ratio_low": ratio["low"],
                "ratio_high": ratio["high"],
                "ms": milliseconds["median"],
                "ms_low": milliseconds["low"],
                "ms_high": milliseconds["high"],
                "images": len(images),
                "same_top1": int(np.sum(own.argmax(-1) == expected.argmax(-1))),
                "largest_difference": float(np.max(np.abs(own - expected))),
                "runtime": f"{web_page.PACKAGE} {web_page.VERSION}",
                "browser": browser,
                "machine": machine(),
            }
        )
    return rows


def read(folder, count, size):
    """Returns the first image of each of some classes, as uint8."""
    paths = [min(each.iterdir()) for each in sorted(Path(folder).iterdir())[:count]]
    if len(paths) < count:
        raise SystemExit(f"There must be {count} classes in {folder}.")
    return np.stack(
        [
            keras.utils.img_to_array(
                keras.utils.load_img(
                    path, target_size=(size, size), interpolation="bilinear"
                ),
                dtype="uint8",
            )
            for path in paths
        ]
    )


def main(arguments):
    """Measures all files, and writes the figures."""
    data = Path(arguments.data_dir) / "tiny_imagenet"
    rows = []
    with tempfile.TemporaryDirectory() as output:
        folder = Path(output)
        web_page.get_litert(folder)
        for size, kind in itertools.product(SIZES, KINDS):
            images = None
            if kind == "int8":
                images = read(data / "train", web_page.CALIBRATION_IMAGES, size)
            web_page.write_page(folder, image_size=size, images=images)
            rows += measure(folder, read(data / "val", arguments.images, size))
    write(rows, arguments.output)
    rich.console.Console().print(f"Written to {arguments.output}", soft_wrap=True)


def parse(arguments=None):
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data-dir", required=True, help="folder with tiny_imagenet/")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse())
