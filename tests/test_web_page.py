"""The web page of examples/web_page.py: its files, its server, and in a browser."""

import csv
import html.parser
import itertools
import json
import re
import shutil
import threading
import urllib.request

import keras
import numpy as np
import pytest

from keras_shift import zoo
from keras_shift.deploy import LiteRTModel, to_tflite
from keras_shift.deploy.flatbuffer import TFLiteFile, pack
from networks import (
    ROOT,
    load_benchmark,
    load_example,
    pixels,
    predict,
    randomize,
    three_shifts,
)

pytestmark = pytest.mark.tensorflow

if keras.backend.backend() != "tensorflow":
    pytest.skip("files for LiteRT need TensorFlow", allow_module_level=True)

example = load_example("web_page")
benchmark = load_benchmark("web")

SMALL = (
    "shiftresnet20.cifar10.ssl_1x1_only.short",
    "shiftresnet20.cifar10.ssl_grouped.short",
)
# Where LiteRT.js is after the example has run once.
PACKAGES = ROOT / "web_page_output" / "node_modules"

in_a_browser = [
    pytest.mark.skipif(
        benchmark.chromium.find() is None, reason="Chromium is not installed"
    ),
    pytest.mark.skipif(
        not PACKAGES.exists(), reason="python examples/web_page.py gets LiteRT.js"
    ),
]


def small(record, input_shape):
    """A small network with as many classes, in the place of one with its weights."""
    assert input_shape == record.input_shape
    keras.utils.set_random_seed(SMALL.index(record.name))
    return randomize(three_shifts(record.classes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page with float32 files of two small networks."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(zoo.models, "model_of_record", small)
        example.write_page(folder, SMALL)
    return folder


# Some of these mean something in an address.
OWN_NAME = "my model #1, 50%.tflite"
CLASSES = ["cat", "dog", "Löwe"]


def own(path, classes=CLASSES, **arguments):
    """Writes a file as README's example does, of a small network."""
    keras.utils.set_random_seed(0)
    model = randomize(three_shifts(len(classes)))
    arguments = {"quantize": "int8", "input_type": "uint8", **arguments}
    images = pixels(8, 32, 32, 3)
    to_tflite(model, path, representative_data=images, labels=classes, **arguments)
    return path


def npm(tmp_path, monkeypatch, then):
    """Puts a program in npm's place, which keeps its arguments and does something."""
    (tmp_path / "npm").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/log\n{then}\n')
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


class Elements(html.parser.HTMLParser):
    """The ids of a page's elements, and the files that they name."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.files = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += filter(None, [attributes.get("id")])
        self.files += filter(None, map(attributes.get, ("src", "href")))


class TestFiles:
    def test_networks_and_labels(self, folder):
        about = json.loads((folder / "networks.json").read_text())
        records = list(map(zoo.get_record, SMALL))
        labels = json.loads((folder / "labels.json").read_text())
        assert labels == records[0].names() and len(labels) == 10
        assert (about["dataset"], about["kind"]) == ("CIFAR-10", "float32")
        assert about["image_size"] == about["trained_size"] == 32
        assert about["held_out_images"] == 10_000
        images = pixels(4, 32, 32, 3)
        for record, network in zip(records, about["networks"], strict=True):
            assert network["weights"] == record.weights
            assert network["top1"] == record.top1
            lite = LiteRTModel(folder / network["file"])
            assert network["bytes"] == lite.bytes
            assert lite.input_shape == (1, 32, 32, 3) and lite.input_type == "float32"
            np.testing.assert_allclose(
                lite.predict(images),
                predict(small(record, (32, 32, 3)), images),
                atol=1e-4,
            )

    def test_names_are_those_of_the_readme(self):
        names = [example._name(zoo.get_record(name)) for name in example.NETWORKS]
        assert names == ["FE-Net 0.75", "MobileNetV2"]

    def test_int8_files_take_pixels_as_they_are(self, tmp_path, monkeypatch):
        monkeypatch.setattr(zoo.models, "model_of_record", small)
        images = pixels(4, 32, 32, 3)
        example.write_page(tmp_path, SMALL[:1], images=images)
        about = json.loads((tmp_path / "networks.json").read_text())
        (network,) = about["networks"]
        assert about["kind"] == "int8"
        assert network["top1"] == zoo.get_record(SMALL[0]).int8_top1
        lite = LiteRTModel(tmp_path / network["file"])
        assert lite.input_type == "uint8"
        assert lite._input["quantization"] == (1, 0)

    def test_the_page_names_only_what_there_is(self, folder):
        text = (folder / "index.html").read_text()
        elements = Elements(text)
        assert len(set(elements.ids)) == len(elements.ids)
        script = (folder / "page.js").read_text()
        assert set(re.findall(r'element\("([\w-]+)"\)', script)) <= set(elements.ids)
        files = [name for name in elements.files if not name.startswith("data:")]
        for path in folder.glob("*.js"):
            files += re.findall(r'(?:from |import\()"\./(.+?)"', path.read_text())
        files += re.findall(r'get\("([\w.]+)"\)', script)
        assert {"style.css", "page.js", "times.js", "labels.json"} <= set(files)
        assert [name for name in files if not (folder / name).exists()] == []
        imports = json.loads(re.search(r'importmap">(.*?)</', text, re.S)[1])["imports"]
        packages = [
            path.removeprefix("./node_modules/").removesuffix("/dist/index.js")
            for path in imports.values()
        ]
        assert packages == list(imports) and example.PACKAGE in packages

    def test_networks_must_have_the_same_classes(self, tmp_path):
        with pytest.raises(ValueError, match="the same classes.*Received: shiftresn"):
            example.write_page(tmp_path / "page", (SMALL[0], example.NETWORKS[0]))
        assert not (tmp_path / "page").exists()

    def test_images_must_be_in_a_folder(self, tmp_path):
        with pytest.raises(ValueError, match="must be a folder. Received: --data none"):
            example.read_images("none", 32)
        (tmp_path / "ash").mkdir()
        keras.utils.save_img(tmp_path / "ash" / "1.png", pixels(1, 40, 48, 3)[0])
        (images,) = example.read_images(tmp_path, 32)
        assert images.shape == (1, 32, 32, 3)

    def test_all_of_it_is_done(self, tmp_path, monkeypatch, capsys):
        calls = []
        monkeypatch.setattr(
            example, "write_page", lambda *arguments, images: calls.append(arguments)
        )
        monkeypatch.setattr(example, "get_litert", calls.append)
        example.main(example.parse(["--write-only", "--output", str(tmp_path)]))
        assert calls == [(tmp_path, example.NETWORKS), tmp_path]
        assert str(tmp_path) in capsys.readouterr().out


class TestOwnFiles:
    def test_what_the_page_reads(self, tmp_path):
        paths = [
            own(tmp_path / OWN_NAME),
            own(tmp_path / "b.tflite", quantize=None, input_type="float32"),
        ]
        example.write_page_of_files(tmp_path / "page", paths)
        labels = json.loads((tmp_path / "page" / "labels.json").read_text("utf-8"))
        assert labels == CLASSES
        about = json.loads((tmp_path / "page" / "networks.json").read_text())
        assert about["image_size"] == 32 and about["dataset"] is None
        assert [each["name"] for each in about["networks"]] == ["my model #1, 50%", "b"]
        for path, network in zip(paths, about["networks"], strict=True):
            written = (tmp_path / "page" / network["file"]).read_bytes()
            assert written == path.read_bytes()
            assert network["bytes"] == len(written)
            assert (network["mean"], network["std"]) == ([0.0], [1.0])

    def test_a_file_in_the_page_s_folder_stays(self, tmp_path):
        path = own(tmp_path / "model.tflite")
        content = path.read_bytes()
        example.write_page_of_files(tmp_path, [path])
        assert path.read_bytes() == content

    def test_classes_without_names_have_numbers(self, tmp_path, capsys):
        model = three_shifts(3)
        to_tflite(model, tmp_path / "model.tflite")
        capsys.readouterr()
        example.write_page_of_files(tmp_path / "page", [tmp_path / "model.tflite"])
        assert "model.tflite has no names of its classes" in capsys.readouterr().out
        labels = json.loads((tmp_path / "page" / "labels.json").read_text())
        assert labels == ["class 0", "class 1", "class 2"]

    @pytest.mark.parametrize(
        "arguments", [{"input_type": "int8"}, {"output_type": "uint8"}]
    )
    def test_types_that_the_page_does_not_take(self, tmp_path, arguments):
        path = own(tmp_path / "model.tflite", **arguments)
        with pytest.raises(ValueError, match="float32 output.*Received: .* u?int8"):
            example.write_page_of_files(tmp_path / "page", [path])
        assert not (tmp_path / "page").exists()

    @pytest.mark.parametrize(
        "shape, outputs",
        [((32, 48, 3), 3), ((32, 32, 1), 3), ((32,), 3), ((32, 32, 3), None)],
    )
    def test_shapes_that_the_page_does_not_take(self, tmp_path, shape, outputs):
        layers = [keras.Input(shape)]
        if outputs is not None:
            layers += [keras.layers.Flatten(), keras.layers.Dense(outputs)]
        else:
            layers += [keras.layers.ReLU()]
        path = tmp_path / "model.tflite"
        to_tflite(keras.Sequential(layers), path)
        with pytest.raises(ValueError, match="one square RGB image.*Received: .*model"):
            example.write_page_of_files(tmp_path / "page", [path])

    def test_several_must_fit_together(self, tmp_path):
        one, other = tmp_path / "one.tflite", tmp_path / "other.tflite"
        own(one)
        own(other, ["cat", "dog", "lion"])
        with pytest.raises(
            ValueError, match="the same classes.*cat to Löwe; .*to lion"
        ):
            example.write_page_of_files(tmp_path / "page", [one, other])
        with pytest.raises(
            ValueError, match="--files must be files of different names"
        ):
            example.write_page_of_files(tmp_path / "page", [one, one])
        assert not (tmp_path / "page").exists()

    def test_errors_are_one_line(self, tmp_path):
        (tmp_path / "text.tflite").write_text("This is no model.")
        own(tmp_path / "cut.tflite")
        content = (tmp_path / "cut.tflite").read_bytes()
        (tmp_path / "cut.tflite").write_bytes(content[:-100])
        model = TFLiteFile.parse(content).model
        code, model.metadata = model.operatorCodes[0], []
        code.customCode, code.builtinCode, code.deprecatedBuiltinCode = b"None", 32, 32
        (tmp_path / "unknown.tflite").write_bytes(pack(model))
        for name, message in {
            "none.tflite": "No such file",
            "text.tflite": "must be an undamaged .tflite file. It lacks",
            "cut.tflite": "must be an undamaged .tflite file. It cannot",
            "unknown.tflite": "LiteRT cannot run",
        }.items():
            path = tmp_path / name
            with pytest.raises(SystemExit) as caught:
                with example.errors_in_one_line("web_page.py"):
                    example.main(
                        example.parse(["--files", str(path), "--output", str(tmp_path)])
                    )
            (line,) = str(caught.value).splitlines()
            assert message in line and name in line

    @pytest.mark.parametrize("other", ["--networks", "--data"])
    def test_arguments_that_contradict(self, other, capsys):
        with pytest.raises(SystemExit):
            example.parse(["--files", "model.tflite", other, "something"])
        error = capsys.readouterr().err
        assert f"argument {other}: not allowed with argument --files" in error

    def test_all_of_it_is_done(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(example, "get_litert", lambda output: None)
        path, output = own(tmp_path / "model.tflite"), tmp_path / "page"
        arguments = ["--files", str(path), "--output", str(output), "--write-only"]
        example.main(example.parse(arguments))
        assert (output / "model.tflite").exists() and (output / "page.js").exists()
        assert str(output) in capsys.readouterr().out


class TestPackage:
    def test_npm_gets_it_once(self, tmp_path, monkeypatch):
        package = tmp_path / "node_modules" / example.PACKAGE
        about = f'{{"version": "{example.VERSION}"}}'
        then = f"mkdir -p {package} && echo '{about}' > {package}/package.json"
        npm(tmp_path, monkeypatch, then)
        example.get_litert(tmp_path)
        example.get_litert(tmp_path)
        (line,) = (tmp_path / "log").read_text().splitlines()
        assert line.startswith(f"install --prefix {tmp_path} ")
        assert line.endswith(f"@litertjs/core@{example.VERSION}")
        (package / "package.json").write_text('{"version": "0.0.1"}')
        example.get_litert(tmp_path)
        assert len((tmp_path / "log").read_text().splitlines()) == 2

    def test_without_it(self, tmp_path, monkeypatch):
        npm(tmp_path, monkeypatch, "echo no network >&2; exit 1")
        with pytest.raises(OSError, match="could not get @litertjs/core: no network"):
            example.get_litert(tmp_path)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(OSError, match="There is no npm.*npm install --prefix"):
            example.get_litert(tmp_path)


class TestServer:
    def test_sends_types_and_headers(self, tmp_path):
        for name in ("a.js", "a.wasm", "a.html"):
            (tmp_path / name).write_text("")
        types = {}
        with example.server(tmp_path, port=0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for path in tmp_path.iterdir():
                address = f"http://localhost:{server.server_port}/{path.name}"
                with urllib.request.urlopen(address) as answer:
                    types[path.name] = answer.headers.get_content_type()
                    headers = answer.headers
                assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            server.shutdown()
        assert types == {
            "a.js": "text/javascript",
            "a.wasm": "application/wasm",
            "a.html": "text/html",
        }

    def test_only_this_machine_reaches_it(self, tmp_path):
        with example.server(tmp_path, port=0) as server:
            assert server.server_address[0] == "127.0.0.1"
            with pytest.raises(OSError, match="name another with --port"):
                example.server(tmp_path, server.server_port)

    def test_it_ends_as_it_says(self, tmp_path, monkeypatch, capsys):
        def interrupted(self):
            raise KeyboardInterrupt

        monkeypatch.setattr(example, "write_page_of_files", lambda *arguments: None)
        monkeypatch.setattr(example, "get_litert", lambda output: None)
        monkeypatch.setattr(
            example.http.server.ThreadingHTTPServer, "serve_forever", interrupted
        )
        arguments = ["--files", "model.tflite", "--output", str(tmp_path)]
        example.main(example.parse([*arguments, "--port", "0"]))
        assert "(Ctrl+C ends)" in capsys.readouterr().out


def test_what_was_measured_in_a_browser_is_whole():
    with open(benchmark.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    networks = [zoo.get_record(name) for name in example.NETWORKS]
    assert [(row["image_size"], row["kind"], row["weights"]) for row in rows] == [
        (str(size), kind, record.weights)
        for size, kind in itertools.product(benchmark.SIZES, benchmark.KINDS)
        for record in networks
    ]
    for row in rows:
        assert row["same_top1"] == row["images"] == str(benchmark.IMAGES)
        assert row["browser"] and row["machine"]
        for name in ("ratio", "ms"):
            low, middle, high = (
                float(row[column]) for column in (f"{name}_low", name, f"{name}_high")
            )
            assert 0 < low <= middle <= high
        assert row["weights"] != networks[-1].weights or float(row["ratio"]) == 1


def linked(folder):
    """Puts LiteRT.js beside a page."""
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(PACKAGES)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    """The page in a browser with a camera that films a clock."""
    options = ("--use-fake-device-for-media-stream",)
    with benchmark.opened(linked(folder), *options) as page:
        yield page


@pytest.fixture
def fresh(page):
    """The page opened again, which has written no error before."""
    page.errors.clear()
    page.go(page.evaluate("location.href"))
    benchmark.wait(page, "ready")
    return page


def error_of(page):
    """What the page complains of, as soon as it does."""
    return page.wait_for("document.getElementById('error').textContent")


class TestInABrowser:
    pytestmark = in_a_browser

    @pytest.mark.parametrize(
        "width, scheme, paper",
        [
            (390, "light", "rgb(246, 247, 249)"),
            (390, "dark", "rgb(22, 24, 27)"),
            (1280, "light", "rgb(246, 247, 249)"),
            (1280, "dark", "rgb(22, 24, 27)"),
        ],
    )
    def test_fits_screens_and_their_colours(self, page, width, scheme, paper):
        page.show_as(width, 900, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        colour = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(colour) == paper

    def test_classifies_as_litert_does(self, fresh, folder, tmp_path):
        images = pixels(3, 32, 32, 3).astype("uint8")
        rows = benchmark.measure(linked(folder), images)
        assert [row["same_top1"] for row in rows] == [3, 3]
        assert max(row["largest_difference"] for row in rows) < 1e-5
        assert rows[-1]["ratio"] == 1 and rows[0]["ms"] > 0

    def test_own_files_say_what_they_say_in_python(self, tmp_path):
        """An int8 file as README's, and a float32 file that expects [-1, 1]."""
        paths = [
            own(tmp_path / OWN_NAME),
            own(
                tmp_path / "normalized.tflite",
                quantize=None,
                input_type="float32",
                normalization=(127.5, 127.5),
            ),
        ]
        example.write_page_of_files(tmp_path / "page", paths)
        images = pixels(3, 32, 32, 3).astype("uint8")
        with benchmark.opened(linked(tmp_path / "page")) as page:
            for number, image in enumerate(images):
                path = tmp_path / f"{number}.png"
                keras.utils.save_img(path, image, scale=False)
                seen = benchmark.classify(page, path, "timed")
                for index, given in enumerate((image, image / 127.5 - 1)):
                    (expected,) = LiteRTModel(paths[index]).predict(given[None])
                    assert seen[index].argmax() == expected.argmax()
                    np.testing.assert_allclose(seen[index], expected, atol=1e-5)
                    shown = page.evaluate(
                        f"document.querySelectorAll('.classes')[{index}]"
                        ".querySelector('.name').textContent"
                    )
                    assert shown == CLASSES[expected.argmax()]
            assert page.errors == []
            assert page.evaluate("document.title") == (
                "my model #1, 50% beside normalized"
            )
            worth = page.evaluate("document.getElementById('worth').textContent")
            assert "one of its 3 classes" in worth and "null" not in worth

    def test_one_file_without_a_softmax(self, tmp_path):
        keras.utils.set_random_seed(0)
        network = three_shifts(3)
        network.layers[-1].activation = keras.activations.linear
        network.layers[-1].set_weights([np.zeros((8, 3)), np.array([-1, 12, 3])])
        to_tflite(network, tmp_path / "model.tflite", labels=CLASSES)
        example.write_page_of_files(tmp_path, [tmp_path / "model.tflite"])
        keras.utils.save_img(tmp_path / "noise.png", pixels(1, 32, 32, 3)[0])
        with benchmark.opened(linked(tmp_path)) as page:
            benchmark.classify(page, tmp_path / "noise.png", "timed")
            shown = page.evaluate(
                "[...document.querySelectorAll('.classes li')].map("
                "item => [...item.children].map(part => part.textContent))"
            )
            assert shown == [["dog", "12.00"], ["Löwe", "3.00"], ["cat", "-1.00"]]
            heading = page.evaluate("document.getElementById('title').textContent")
            assert heading == "What does it see?"
            assert page.evaluate("document.getElementById('ratio').hidden")
            assert page.errors == []

    def test_shows_five_classes_and_times(self, fresh, tmp_path):
        path = tmp_path / "noise.png"
        keras.utils.save_img(path, pixels(1, 32, 32, 3)[0])
        scores = benchmark.classify(fresh, path, "timed")
        names = zoo.get_record(SMALL[0]).names()
        shown = fresh.evaluate(
            "[...document.querySelectorAll('.classes')].map(list => "
            "[...list.querySelectorAll('.name')].map(name => name.textContent))"
        )
        assert shown == [
            [names[index] for index in np.argsort(-own, kind="stable")[:5]]
            for own in scores
        ]
        cells = fresh.evaluate(
            "[...document.querySelectorAll('#times td')].map(cell => cell.textContent)"
        )
        assert len(cells) == 4
        assert all(re.fullmatch(r"[\d.]+ ms|[\d.]+ to [\d.]+", cell) for cell in cells)
        assert fresh.errors == []

    def test_takes_the_middle_square_on_white(self, fresh, tmp_path):
        image = np.zeros((32, 96, 4), "uint8")
        image[:, :32] = (255, 0, 0, 255)
        image[:16, 32:64] = (0, 200, 0, 255)
        image[:, 64:] = (0, 0, 255, 255)
        path = tmp_path / "thirds.png"
        keras.utils.save_img(path, image, scale=False)
        benchmark.classify(fresh, path, "classified", "timed")
        seen = fresh.evaluate(
            "import('./picture.js').then(({pixelsOf}) => "
            "Array.from(pixelsOf(document.getElementById('input'))))"
        )
        seen = np.array(seen).reshape(32, 32, 3)
        assert (seen[:16] == (0, 200, 0)).all() and (seen[16:] == 255).all()

    def test_keys_reach_the_camera(self, fresh):
        focused = "document.activeElement.id"
        fresh.press("Tab")
        assert fresh.evaluate(focused) == "choose"
        fresh.press("Tab")
        assert fresh.evaluate(focused) == "camera"
        fresh.press("Enter", "\r")
        benchmark.wait(fresh, "timed")
        assert benchmark.state(fresh, "picture") == "camera"
        assert fresh.evaluate("document.activeElement.textContent") == "Stop the camera"
        fresh.press("Enter", "\r")
        fresh.wait_for("document.activeElement.textContent === 'Start the camera'")
        assert fresh.errors == []

    def test_of_a_broken_picture(self, fresh, tmp_path):
        path = tmp_path / "broken.png"
        path.write_text("none")
        fresh.choose("#file", path)
        assert error_of(fresh) == (
            "broken.png is not a picture that this browser can read."
        )
        keras.utils.save_img(tmp_path / "good.png", pixels(1, 32, 32, 3)[0])
        benchmark.classify(fresh, tmp_path / "good.png", "classified", "timed")
        assert fresh.evaluate("document.getElementById('error').hidden")

    @pytest.mark.parametrize(
        "name, message",
        [
            ("NotFoundError", "There is no camera on this machine."),
            ("NotAllowedError", "The browser was not allowed to use the camera."),
            ("NotReadableError", "Another program uses the camera."),
            (None, "Browsers give the camera only to pages of https"),
        ],
    )
    def test_without_a_camera(self, fresh, name, message):
        refusing = (
            "navigator.mediaDevices.getUserMedia = "
            f"() => Promise.reject(new DOMException('', '{name}'))"
        )
        hiding = "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})"
        fresh.evaluate(f"void ({refusing if name else hiding})")
        fresh.evaluate("document.getElementById('camera').click()")
        assert error_of(fresh).startswith(message)
        assert benchmark.state(fresh, "step") == "ready"

    def test_without_webassembly(self, fresh):
        with fresh.running_first("delete globalThis.WebAssembly"):
            fresh.go(fresh.evaluate("location.href"))
            assert "This browser has no WebAssembly" in error_of(fresh)

    @pytest.mark.parametrize(
        "pattern, message",
        [
            ("*/networks.json", "The file networks.json is missing beside this page."),
            ("*.tflite", "The file shiftresnet20.cifar10.ssl_1x1_only.short_32"),
            ("*/dist/index.js", "LiteRT.js is missing beside this page"),
        ],
    )
    def test_without_a_file(self, fresh, pattern, message):
        with fresh.blocking(pattern):
            fresh.go(fresh.evaluate("location.href"))
            assert error_of(fresh).startswith(message)
        assert benchmark.state(fresh, "step") == "failed"

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("kind", ["float32", "int8"])
    def test_fe_net_and_mobile_net_see_what_litert_sees(self, kind, tmp_path):
        """On parts of scikit-learn's photographs, as large as in their training."""
        datasets = pytest.importorskip("sklearn.datasets")
        images = np.concatenate(
            [
                photograph[:320, :320]
                .reshape(5, 64, 5, 64, 3)
                .swapaxes(1, 2)
                .reshape(25, 64, 64, 3)
                for photograph in datasets.load_sample_images().images
            ]
        )
        calibration = None if kind == "float32" else images
        example.write_page(tmp_path, images=calibration)
        rows = benchmark.measure(linked(tmp_path), images)
        assert [row["same_top1"] for row in rows] == [50, 50]
        assert max(row["largest_difference"] for row in rows) < 1e-5


def test_a_browser_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="There is no Chromium"):
        with benchmark.chromium.opened():
            pass
