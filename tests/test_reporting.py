"""The page on a network: what stands in it, and how a browser shows it."""

import dataclasses
import html.parser
import re
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

from keras_shift import zoo
from keras_shift.analysis import summary
from keras_shift.cli import main
from keras_shift.deploy import Agreement, ShiftCost, ShiftCosts
from keras_shift.layers import GroupedShift2D, SparseShift2D
from keras_shift.reporting import write_report
from keras_shift.reporting.advice import advice
from networks import pixels

pytestmark = pytest.mark.tensorflow

if keras.backend.backend() != "tensorflow":
    pytest.skip("reports need TensorFlow", allow_module_level=True)
for extra in ("jinja2", "tf_keras_vis"):
    pytest.importorskip(extra)
pytest.importorskip("matplotlib").use("agg")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAME = "animals>b"


def network(displacements=None, name="animals"):
    """A classifier with one layer of nine shifts, in a map of 12 x 12 pixels."""
    keras.utils.set_random_seed(0)
    shift = SparseShift2D(name="shift", max_displacement=2)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Conv2D(9, 1, activation="relu", name="expand"),
            shift,
            keras.layers.Conv2D(4, 1, activation="relu", name="project"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax", name="head"),
        ],
        name=name,
    )
    if displacements is not None:
        shift.displacements.assign(displacements)
    return model


def moved(*steps):
    """Displacements of nine channels, of which the first move down by these steps."""
    displacements = np.zeros((2, 9), "float32")
    displacements[0, : len(steps)] = steps
    return displacements


class Page(html.parser.HTMLParser):
    """What is in a page: headings, cells of tables, sources of pictures, links."""

    def __init__(self, path):
        super().__init__()
        self.headings, self.cells, self.sources, self.links = [], [], [], []
        self.points, self.alternatives, self.tags = [], [], set()
        self._texts = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if tag == "img":
            self.sources.append(attributes["src"])
            self.alternatives.append(attributes["alt"])
        if "href" in attributes:
            self.links.append(attributes["href"])
        kinds = {
            "h1": self.headings,
            "h2": self.headings,
            "td": self.cells,
            "th": self.cells,
            "li": self.points,
        }
        if tag in kinds:
            self._texts = kinds[tag]
            self._texts.append("")

    def handle_endtag(self, tag):
        if tag in ("h1", "h2", "td", "th", "li"):
            self._texts = None

    def handle_data(self, data):
        if self._texts is not None:
            self._texts[-1] += data


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A page with everything but published weights, and the steps of writing it."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    steps = []
    write_report(
        network(moved(1, 1, 2), name=NAME),
        path,
        images=pixels(8, 12, 12, 3),
        titles=[f"picture {index}" for index in range(8)],
        class_names=["cat", "dog", "emu"],
        costs=True,
        repeats=2,
        on_step=lambda *step: steps.append(step),
    )
    return path, steps


class TestPage:
    def test_has_every_section(self, whole):
        page = Page(whole[0])
        assert page.headings == [
            NAME,
            "In short",
            "What to do next",
            "Where it shifts",
            "What the shifts bring",
            "What it looks at",
            "As files for phones",
            "What shifts cost",
            "Layer by layer",
        ]

    def test_needs_no_other_file(self, whole):
        page = Page(whole[0])
        assert len(page.sources) == 7
        assert all(
            re.match("data:image/(svg.xml|jpeg);", each) for each in page.sources
        )
        assert all(link.startswith(("#section", "data:,")) for link in page.links)
        assert not page.tags & {"script", "iframe"}
        assert all(page.alternatives)

    def test_has_the_figures_of_summary(self, whole):
        page = Page(whole[0])
        counts = summary(network(moved(1, 1, 2)))
        for text in (f"{counts.multiply_adds:,}", f"{counts.parameters:,}", "66.7%"):
            assert text in page.cells
        assert "3 of 9" in page.cells  # in the table of costs

    def test_steps_are_told_in_order(self, whole):
        _, steps = whole
        names, done, totals = zip(*steps)
        assert names[:3] == ("files for phones", "times", "costs of shifts")
        assert done == tuple(range(len(steps))) and set(totals) == {len(steps)}

    def test_without_images_or_shifts(self, tmp_path):
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(2, 3),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
        write_report(model, tmp_path / "a.html", repeats=1, trained=False)
        page = Page(tmp_path / "a.html")
        assert page.headings[1:] == [
            "In short",
            "What to do next",
            "As files for phones",
            "Layer by layer",
        ]
        assert page.sources == []
        text = (tmp_path / "a.html").read_text()
        assert "The weights are random" in text

    def test_studies_that_do_not_apply_are_named(self, tmp_path):
        inputs = keras.Input((8, 8, 9))
        outputs = keras.layers.GlobalAveragePooling2D()(GroupedShift2D()(inputs))
        write_report(keras.Model(inputs, outputs), tmp_path / "a.html", repeats=1)
        assert "Left out: " in (tmp_path / "a.html").read_text()

    def test_without_an_int8_file(self, tmp_path):
        """A channel that is zero for all images cannot be quantized."""
        model = network(name="dark")
        model.get_layer("project").kernel.assign(-np.ones((1, 1, 9, 4)))
        images = pixels(2, 12, 12, 3)
        write_report(model, tmp_path / "a.html", images=images, repeats=1)
        assert "There is no int8 file: " in (tmp_path / "a.html").read_text()
        assert "int8" not in Page(tmp_path / "a.html").cells

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"path": "a.txt"}, "must end in .html. Received: path=a.txt"),
            ({"path": "none/a.html"}, "a folder that exists. Received: path=none"),
            ({"images": np.zeros((2, 9, 9, 3))}, r"count, \*\(12, 12, 3.*\(2, 9, 9, 3"),
            ({"images": np.zeros((0, 12, 12, 3))}, "`images`"),
            ({"titles": ["one"]}, "`titles` must name each of 0 images"),
            ({"class_names": ["one"]}, "`class_names` must name each of 3 classes"),
            ({"costs": True, "model": network().layers[0]}, "`model` must be"),
        ],
    )
    def test_refusals_come_first(self, arguments, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        arguments = {"model": network(), "path": "a.html", **arguments}
        with pytest.raises(ValueError, match=message):
            write_report(**arguments, on_step=lambda *step: pytest.fail("too late"))
        assert not list(tmp_path.iterdir())

    def test_costs_need_learned_shifts(self, tmp_path):
        inputs = keras.Input((8, 8, 9))
        outputs = keras.layers.GlobalAveragePooling2D()(GroupedShift2D()(inputs))
        with pytest.raises(ValueError, match="`costs` needs a model with learned"):
            write_report(keras.Model(inputs, outputs), tmp_path / "a.html", costs=True)

    def test_extras_are_missed_first(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tf_keras_vis.gradcam_plus_plus", None)
        with pytest.raises(ImportError, match="tf-keras-vis"):
            write_report(
                network(),
                tmp_path / "a.html",
                images=pixels(2, 12, 12, 3),
                on_step=lambda *step: pytest.fail("too late"),
            )

    def test_without_jinja(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "jinja2", None)
        with pytest.raises(ImportError, match=r"keras-shift\[report\]"):
            write_report(network(), tmp_path / "a.html")
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(whole, tmp_path, width, scheme):
    """It shows every picture, is not wider than the screen, and logs no error."""
    probe = (
        "<script>addEventListener('load', () => {"
        "const shown = [...document.images].filter(i => i.naturalWidth > 0).length;"
        "const wide = document.documentElement.scrollWidth - innerWidth;"
        "const dark = matchMedia('(prefers-color-scheme: dark)').matches;"
        "const paper = getComputedStyle(document.body).backgroundColor;"
        "document.title = `${shown} shown, ${wide > 0}, ${dark}, ${paper}`;"
        "})</script></body>"
    )
    text = whole[0].read_text(encoding="utf-8").replace("</body>", probe)
    (tmp_path / "probed.html").write_text(text, encoding="utf-8")
    result = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            str(tmp_path / "probed.html"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search("<title>(.*?)</title>", result.stdout)[1]
    dark = str(scheme == "dark").lower()
    paper = "rgb(22, 24, 27)" if scheme == "dark" else "rgb(255, 255, 255)"
    assert title == f"7 shown, false, {dark}, {paper}"
    assert "CONSOLE" not in result.stderr


def test_names_are_text_and_no_tags(tmp_path):
    """A name or an error that holds tags must not become part of the page."""
    from keras_shift.reporting.page import _template
    from keras_shift.reporting.parts import Picture, Section, Table

    text = "<script>alert(1)</script> & co"
    section = Section(
        text,
        [text],
        [text],
        [Table([text], [[text, text]])],
        [Picture("data:,", text)],
    )
    page = _template().render(
        name=text, trained=True, sections=[section], versions=text, date=text
    )
    path = tmp_path / "a.html"
    path.write_text(page)
    assert "script" not in Page(path).tags
    assert Page(path).headings == [text, text]
    assert Page(path).cells == [text] * 3 and Page(path).alternatives == [text]


class TestAdvice:
    def points(self, model, **changes):
        arguments = {"files": {}, "costs": None, "trained": True, **changes}
        return " ".join(advice(model, summary(model), **arguments))

    def test_of_many_far_shifts(self):
        text = self.points(network(moved(1, 1, 2, 2)))
        assert "only 55.6% of the channels are unshifted and 2 channels move" in text
        assert "SparsifyShifts(images, labels, unshifted=0.8, max_disp" in text
        assert "shift (100% of all moved pixels)" in text
        assert "Less than a tenth" not in text

    def test_of_few_shifts(self):
        text = self.points(network(moved(1)))
        assert "Shift less" not in text and "shift (100% of all moved" in text

    def test_of_hardly_any_shift_in_a_layer(self):
        model = keras.Sequential([keras.Input((8, 8, 20)), SparseShift2D(name="shift")])
        displacements = np.zeros((2, 20))
        displacements[1, 7] = -1
        model.layers[0].displacements.assign(displacements)
        text = self.points(model)
        assert "Less than a tenth of the channels are shifted in shift." in text

    def test_of_none(self):
        assert "No channel is shifted" in self.points(network(moved()))

    def test_of_shifts_that_do_not_learn(self):
        model = keras.Sequential([keras.Input((8, 8, 9)), GroupedShift2D(name="g")])
        text = self.points(model)
        assert "Shift less" not in text and "g (100% of all moved pixels)" in text

    def test_counts_pixels_as_the_outer_model_calls(self):
        """The inner model knows no size; its second layer has a quarter of the map."""
        inner = keras.Sequential(
            [
                keras.Input((None, None, 9)),
                GroupedShift2D(name="first"),
                keras.layers.AveragePooling2D(2),
                GroupedShift2D(name="second"),
            ],
            name="inner",
        )
        text = self.points(keras.Sequential([keras.Input((8, 8, 9)), inner]))
        assert "inner/first (80% of all moved pixels), inner/second (20%" in text

    def test_of_measured_costs(self):
        cost = ShiftCost((12, 12), 9, 1, own=0.123, fixed=0.1, per_channel=0.001)
        costs = ShiftCosts({"shift": cost}, 0.123, None, "a machine")
        text = self.points(network(moved(1)), costs=costs)
        wanted = "The shifts that cost most: shift (12.3% of the time without shifts)."
        assert wanted in text and "--costs" not in text
        free = {"shift": dataclasses.replace(cost, own=-0.01)}
        costs = ShiftCosts(free, 0.0, None, "a machine")
        assert self.points(network(moved(1)), costs=costs) == ""

    def test_of_random_weights(self):
        text = self.points(network(moved(2, 2, 2)), trained=False)
        assert text.startswith("Train the network") and "SparsifyShifts" not in text

    def test_of_files(self):
        """A file that disagrees with Keras, and one that XNNPACK cut."""
        agreement = Agreement(
            images=8,
            top1=0.5,
            largest_difference=0.9,
            largest_output=1.0,
            lowest=0.0,
            highest=1.0,
        )

        report = types.SimpleNamespace(agreement=agreement, partitions=3)
        text = self.points(network(moved(1)), files={"int8": report})
        assert "cuts the int8 file into 3 parts" in text
        assert "same top-1 for 50.0% of 8 images" in text


class TestCommand:
    def test_of_published_weights(self, tmp_path, capsys):
        """The page of a small network; that of each other differs in size only."""
        path = tmp_path / "report.html"
        name = "shiftresnet20.cifar10.ssl_lambda1e-4.short"
        main(["report", name, "--output", str(path)])
        captured = capsys.readouterr()
        assert captured.out == f"{path}\n"
        assert captured.err.startswith("The page has ")
        page = Page(path)
        record = zoo.get_record(name)
        assert page.headings[0] == name
        assert "How it was trained" in page.headings
        assert "Networks for cifar10" in page.headings
        assert f"{record.top1:.2%} on 10,000 held-out images" in page.cells
        assert f"{name} (this one)" in page.cells
        assert path.stat().st_size < 5e6

    def test_of_a_file_and_photographs(self, photographs, tmp_path, capsys):
        network(moved(1, 1)).save(tmp_path / "animals.keras")
        path = tmp_path / "report.html"
        command = ["report", str(tmp_path / "animals.keras"), "--output", str(path)]
        main([*command, "--data", str(photographs), "--costs"])
        page = Page(path)
        assert page.headings[0] == "animals"
        assert {"What it looks at", "What shifts cost"} <= set(page.headings)
        assert "int8" in page.cells and "(1, 3) float32, with 3 labels" in page.cells
        assert "random" not in path.read_text()

    @pytest.mark.parametrize(
        "change, trained, known",
        [([], True, True), (["--classes", "5"], False, False)],
    )
    def test_figures_on_record_are_those_of_the_network(
        self, change, trained, known, tmp_path, monkeypatch, capsys
    ):
        written = {}

        def write(model, path, **arguments):
            written.update(arguments)
            (tmp_path / "report.html").write_text("")

        monkeypatch.setattr("keras_shift.cli.report.write_report", write)
        name = "shiftresnet20.cifar10.ssl_lambda1e-4.short"
        main(["report", name, *change, "--output", str(tmp_path / "report.html")])
        assert written["trained"] == trained
        assert written["record"] == (zoo.get_record(name) if known else None)
        names = written["class_names"]
        assert (names[0] == "airplane") if known else names is None

    @pytest.mark.parametrize("output", ["report.txt", "none/report.html"])
    def test_errors_come_early(self, output, capsys):
        with pytest.raises(SystemExit) as end:
            main(["report", "FENet", "--output", output])
        assert end.value.code == 2
        assert f"Received: --output {output}" in capsys.readouterr().err


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Four photographs of each of three classes, whose pixels tell which they are."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("photographs")
    for value, name in enumerate(["ash", "birch", "cedar"]):
        (folder / name).mkdir()
        for number in range(4):
            image = np.full((12, 12, 3), 50 * value + number, "uint8")
            path = str(folder / name / f"{number}.png")
            tf.io.write_file(path, tf.io.encode_png(image))
    return folder


def test_images_of_all_classes_come_first(photographs):
    from keras_shift.cli.images import load_images
    from keras_shift.cli.report import _images

    images, titles = _images(
        load_images(str(photographs), network(), shuffle=True), (12, 12, 3)
    )
    assert images.shape == (12, 12, 12, 3)
    assert titles[:3] == ["ash", "birch", "cedar"]
    values = images[:, 0, 0, 0]
    assert [int(value // 50) for value in values[:3]] == [0, 1, 2]
    assert sorted(values) == sorted(
        50 * value + number for value in range(3) for number in range(4)
    )
