import csv
import dataclasses
import importlib
import itertools
import platform
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import rich.progress

import keras_shift
from keras_shift.deploy.lowering import _POOLED_FILTERS
from keras_shift.deploy.splitting import _CACHE
from keras_shift.deploy.timing import Timing
from networks import ROOT

if keras.backend.backend() != "tensorflow":
    pytest.skip("the benchmarks time TensorFlow", allow_module_level=True)

pytestmark = pytest.mark.tensorflow

LARGEST_PICTURE = 150_000  # bytes


@pytest.fixture(params=["scaling", "where_time_goes"])
def script(request, monkeypatch):
    return load(request.param, monkeypatch)


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(name)


def nothing():
    pass


def test_ratios_lie_within_their_spread(script):
    for row in script.read(script.RESULTS):
        assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["ms"] > 0
        assert row["machine"]


def test_pictures_are_small_and_can_be_drawn_again(script, tmp_path):
    pytest.importorskip("matplotlib")
    script.draw(script.read(script.RESULTS), tmp_path / "again.png")
    for picture in (tmp_path / "again.png", script.RESULTS.with_suffix(".png")):
        assert 10_000 < picture.stat().st_size < LARGEST_PICTURE


def test_scaling_compares_every_value_in_every_way(monkeypatch, tmp_path):
    scaling = load("scaling", monkeypatch)
    functions = dict.fromkeys(scaling.LEGEND, nothing)
    networks = types.SimpleNamespace(
        ours=lambda point: functions, rival=lambda axis, point: functions
    )
    steps = []
    rows = [
        row
        for axis in scaling.AXES
        for row in scaling.measure(axis, networks, 2, lambda: steps.append(axis))
    ]
    scaling.write(rows, tmp_path / "scaling.csv")
    made = scaling.read(tmp_path / "scaling.csv")
    published = scaling.read(scaling.RESULTS)
    assert list(made[0]) == list(published[0])
    for written in (made, published):
        assert [(row["axis"], row["value"], row["way"]) for row in written] == [
            (row["axis"], row["value"], row["way"]) for row in rows
        ]
    for axis, values in scaling.AXES.items():
        some = {(row["value"], row["way"]) for row in rows if row["axis"] == axis}
        assert some == {(value, way) for value in values for way in scaling.ways(axis)}
        assert steps.count(axis) == len(values) * (1 + len(scaling.ways(axis)))


def test_shares_of_the_time_add_up(monkeypatch):
    where_time_goes = load("where_time_goes", monkeypatch)
    totals = {}
    for row in where_time_goes.read(where_time_goes.RESULTS):
        key = row["runtime"], row["network"]
        totals[key] = totals.get(key, 0) + row["share"]
    names = where_time_goes.NETWORKS
    fused = [f"{name}, fused" for name in where_time_goes.FUSED_NETWORKS]
    assert set(totals) == (
        {("keras", name) for name in (*names, *fused)}
        | {("litert", name) for name in names}
    )
    assert totals == pytest.approx(dict.fromkeys(totals, 1), abs=2e-3)


def test_a_kind_takes_what_leaving_it_out_saves(monkeypatch):
    where_time_goes = load("where_time_goes", monkeypatch)
    ratios = {"grouped": 1.0, "grouped, fused": 0.6}
    ratios.update(zip(where_time_goes.KINDS[1:], (0.8, 0.7, 0.5)))
    ratios.update(zip(where_time_goes.FUSED_KINDS[1:], (0.45,)))
    timings = {
        name: types.SimpleNamespace(
            median=ratio, ratio=ratio, ratio_low=ratio, ratio_high=ratio
        )
        for name, ratio in ratios.items()
    }
    rows = list(where_time_goes.differences("keras", timings))
    published = where_time_goes.read(where_time_goes.RESULTS)
    assert list(rows[0]) == list(published[0])
    assert [row["kind"] for row in rows] == [
        *where_time_goes.KINDS,
        *where_time_goes.FUSED_KINDS,
    ]
    shares = [row["share"] for row in rows]
    assert shares == pytest.approx([0.2, 0.1, 0.2, 0.5, 0.25, 0.75])


def test_the_account_of_one_image_adds_up(monkeypatch):
    one_image = load("one_image", monkeypatch)
    units = {"unit": [1000, 40], "classifier": [500, 20]}
    of_cc = {
        ("unit", 1): (3.0, 2.0, 4.0),
        ("classifier", 1): (1.0, 1.0, 1.0),
        ("read weights", 1): (0.5, 0.5, 0.5),
        ("multiply-add", 1): (0.002, 0.002, 0.002),
    }
    of_tensorflow = {"whole": [8.0] * 3, "without stem": [6.0] * 3, "call": [1.0] * 3}
    rows = {
        row["part"]: row for row in one_image.account(units, of_cc, of_tensorflow, 1)
    }
    parts = ["call", "stem", *units, "between units"]
    assert [rows[part]["ms"] for part in parts] == [1000, 2000, 3000, 1000, 1000]
    assert sum(rows[part]["share"] for part in parts) == pytest.approx(1)
    assert rows["unit"]["peak_share"] == pytest.approx(1000 * 0.002 / 3)
    assert rows["read weights"]["weight_bytes"] == 60


def test_the_account_of_one_image_knows_every_multiply_add(monkeypatch):
    one_image = load("one_image", monkeypatch)
    inputs = keras.Input((6, 8, 5))
    unit = keras_shift.layers.FusedUnit2D(7, 20, pool_padding="same")
    classifier = keras_shift.layers.FusedUnit2D(3, 10, global_pool=True)
    model = keras.Model(inputs, classifier(unit(inputs)))
    assert one_image.units_of(model) == [unit, classifier]
    assert one_image.multiply_adds(unit) == 20 * (5 * 48 + 7 * 12)
    assert one_image.multiply_adds(classifier) == 10 * (7 * 12 + 3)
    assert one_image.weight_bytes(unit) == 4 * 16 * (2 * 6 + 21)
    line = one_image.described(classifier).split()
    assert line[1:12] == "3 4 7 7 10 3 1 1 global 0 0".split()
    assert line[12:] == ["0"] * 20
    chain = keras_shift.layers.FusedChain2D([unit.arguments(), classifier.arguments()])
    chained = one_image.units_of(keras.Model(inputs, chain(inputs)))
    for one, alone in zip(chained, (unit, classifier)):
        assert one_image.multiply_adds(one) == one_image.multiply_adds(alone)
        assert one_image.described(one).split()[1:] == (
            one_image.described(alone).split()[1:]
        )


def test_training_compares_every_network_with_the_first(monkeypatch, tmp_path):
    training = load("training", monkeypatch)
    monkeypatch.setattr(training, "step", lambda *arguments: nothing)
    rows = list(training.measure(2, 8, rich.progress.Progress(disable=True)))
    groups = list(training.groups())
    assert [row["network"] for row in rows] == [
        name for group in groups for name in group
    ] * len(training.PRECISIONS)
    assert {row["baseline"] for row in rows} == {next(iter(group)) for group in groups}
    assert sum(row["goal"] != "" for row in rows) == 2 * len(training.PRECISIONS)


def test_networks_of_training_have_the_same_images(monkeypatch):
    training = load("training", monkeypatch)
    for group in training.groups():
        models = [build() for build in group.values()]
        assert len({(model.input_shape, model.output_shape) for model in models}) == 1


def test_transfer_draws_both_starts(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    transfer = load("transfer", monkeypatch)
    rows = [
        {"start": start, "seed": 0, "epoch": epoch, "steps": epoch, "top1": epoch / 9}
        for start in ("tiny_imagenet", "random")
        for epoch in (1, 2, 3)
    ]
    rows = [{**row, "machine": "none"} for row in rows]
    transfer.write(rows, tmp_path / "transfer.csv")
    again = transfer.read(tmp_path / "transfer.csv")
    assert list(again[0]) == list(transfer.read(transfer.RESULTS)[0])
    assert transfer.final(again) == {
        start: [pytest.approx(1 / 3, abs=1e-3)] for start in ("tiny_imagenet", "random")
    }
    transfer.draw(again, tmp_path / "transfer.png")
    assert (tmp_path / "transfer.png").stat().st_size > 10_000


def test_the_frontier_has_every_network_and_can_be_drawn_again(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    frontier = load("frontier", monkeypatch)
    rows, *others = frontier.read().values()
    assert [(row["weights"], row["kind"], row["threads"]) for row in rows] == [
        (record.name, kind, str(threads))
        for kind in frontier.KINDS
        for threads in frontier.THREADS
        for record in frontier.records()
    ]
    for row in itertools.chain(rows, *others):
        assert (row["without_shifts"] != "") == ("fenet" in row["weights"])
        if row["weights"] == frontier.BASELINE:
            assert float(row["ratio"]) == 1
    frontier.draw(rows, tmp_path / "again.png")
    for picture in (tmp_path / "again.png", frontier.PICTURE):
        assert 10_000 < picture.stat().st_size < LARGEST_PICTURE


def test_the_frontier_keeps_what_other_machines_measured(monkeypatch, tmp_path):
    frontier = load("frontier", monkeypatch)
    name = frontier.BASELINE
    written = [
        {"weights": weights, "machine": computer, "ratio": 1.0}
        for computer in (frontier.machine(), "another")
        for weights in (name, "weights_of_yesterday")
    ]
    frontier.write(written, tmp_path / "frontier.csv")
    assert frontier.elsewhere(tmp_path / "frontier.csv") == [
        {"weights": name, "machine": "another", "ratio": "1"}
    ]
    assert frontier.elsewhere(tmp_path / "none.csv") == []


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="AMX is of x86-64",
)
@pytest.mark.exhaustive
def test_benchmarks_run_without_amx(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import ctypes, sys
from keras_shift.environment import machine
linux = ctypes.CDLL(None, use_errno=True)
print(sys.argv[1:], linux.syscall(158, 0x1023, 18), ctypes.get_errno(), machine())
""")
    wrapper = ROOT / "benchmarks" / "without_amx.py"
    printed = subprocess.run(
        [sys.executable, wrapper, script, "--rounds=1"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    # EINVAL is 22. A Linux that knows AMX says EOPNOTSUPP where there is none.
    assert printed.startswith("['--rounds=1'] -1 22 ")
    assert "AMX" not in printed
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, wrapper], check=True, capture_output=True)


@pytest.mark.exhaustive
def test_the_frontier_compares_files_for_a_phones_images(monkeypatch):
    frontier = load("frontier", monkeypatch)
    for record in frontier.records():
        model = frontier.network(record)
        assert model.input_shape == (None, 224, 224, 3)
        last = [layer for layer in model.layers if len(layer.output.shape) == 4][-1]
        assert last.output.shape[1:3] == (7, 7)
        bare = frontier.without_shifts(model)
        assert (bare is None) == (record.constructor == "MobileNetV2")
        if bare is not None:
            assert keras_shift.analysis.summary(bare).unshifted == 1


def test_peers_are_trained_as_mobilenet_v2_is(monkeypatch, tmp_path):
    peers = load("peers", monkeypatch)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    named = importlib.import_module("document_tables.frontier").PEERS
    assert list(named) == list(peers.PEERS)
    # The others need a package that is not installed here.
    found = peers.mobilenet_v3_large_minimalistic
    monkeypatch.setattr(peers, "PEERS", {found.__name__: found})
    peers.describe(tmp_path)
    path = tmp_path / "tiny_imagenet.mobilenet_v3_large_minimalistic.json"
    recipe = keras_shift.training.Recipe.from_json(path.read_text())
    ours = keras_shift.zoo.recipes.get_recipe("tiny_imagenet.mobilenet_v2_1.0")
    changed = {"name": recipe.name, "network": found.__name__}
    assert recipe == dataclasses.replace(ours, **changed)

    model = keras.models.model_from_json(peers.network_file(path).read_text())
    assert model.output_shape == (None, 200)
    images, scaling, published = model.layers
    ends = scaling(np.array([[[[0.0, 127.5, 255.0]]]]))
    np.testing.assert_allclose(np.ravel(ends), [-1, 0, 1])
    kinds = {type(layer).__name__: [] for layer in published.layers}
    for layer in published.layers:
        kinds[type(layer).__name__].append(layer)
    ours = keras_shift.zoo.recipes.build(ours)
    momenta = {
        layer.momentum
        for layer in (*ours.layers, *kinds["BatchNormalization"])
        if hasattr(layer, "momentum")
    }
    assert momenta == {0.99}
    decay = {layer.kernel_regularizer.l2 for layer in kinds["Conv2D"]}
    assert decay == {recipe.weight_decay / 2}
    assert {x.depthwise_regularizer for x in kinds["DepthwiseConv2D"]} == {None}
    assert [layer.rate for layer in kinds["Dropout"]] == [0.2]


def test_peers_are_timed_again_without_their_weights(monkeypatch, tmp_path):
    peers = load("peers", monkeypatch)
    frontier = load("frontier", monkeypatch)
    ratios = {"float32": 0.5, "int8": 0.25}
    sizes = []

    def ratio(kind, model, rounds):
        sizes.append((model.name, model.input_shape, rounds))
        return ratios[kind]

    monkeypatch.setattr(frontier, "ratio", ratio)
    found = peers.mobilenet_v3_large_minimalistic
    monkeypatch.setattr(peers, "PEERS", {found.__name__: found})
    path = tmp_path / "peers.csv"
    row = {"network": found.__name__, "top1": "0.4", "float32": "1", "int8": "1"}
    peers.records.write([{**row, "machine": "another"}], path)
    peers.main(peers.parse(["retime", "--rounds=3", f"--output={path}"]))
    assert sizes == 2 * [(found.__name__, (None, 224, 224, 3), 3)]
    assert peers.read(path) == {
        found.__name__: {
            **row,
            "float32": "0.5",
            "int8": "0.25",
            "machine": frontier.machine(),
        }
    }


class TestShiftCosts:
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_measures_every_unit_in_both_types(self, monkeypatch):
        shift_costs = load("shift_costs", monkeypatch)
        layer = keras_shift.layers.SparseShift2D(name="unit1_shift")
        model = keras.Sequential([keras.Input((8, 8, 9)), layer])
        rows = list(shift_costs.measure(model, repeats=2))
        assert [(row["unit"], row["kind"]) for row in rows] == [
            ("unit1", "float32"),
            ("unit1", "int8"),
        ]
        for row in rows:
            assert (row["map"], row["channels"]) == ("8x8", 9)
            assert 0 <= row["eighth"] <= row["half"]

    def test_the_first_unit_costs_more_than_all_small_maps(self):
        """As docs/frontier.md says."""
        with open(ROOT / "benchmarks" / "results" / "shift_costs.csv") as file:
            rows = list(csv.DictReader(file))
        for kind in ("float32", "int8"):
            costs = {r["unit"]: float(r["eighth"]) for r in rows if r["kind"] == kind}
            later = [c for u, c in costs.items() if "fe_block" in u and "k1_" not in u]
            assert len(later) == 13 and costs["unit1"] > sum(later)


class TestLoweringForms:
    @pytest.fixture
    def tool(self, monkeypatch):
        return load("lowering_forms", monkeypatch)

    def test_forms_have_the_channels_that_their_row_says(self, tool):
        x = keras.Input((6, 6, 5))
        forms = tool.unit_forms(x, wide=39, moving=3, quantize="int8")
        found = {
            form: [
                (layer.__class__.__name__, layer.output.shape[-1])
                for layer in keras.Model(x, y).layers
                if layer.weights
            ]
            for form, y in forms.items()
        }
        conv, depthwise = "Conv2D", "DepthwiseConv2D"
        apart = [(conv, 3), (conv, 5), (conv, 5), (conv, 36)]
        assert {form: sorted(layers) for form, layers in found.items()} == {
            "no shift": [(conv, 5), (conv, 39)],
            "whole": [(conv, 5), (conv, 39), (depthwise, 39)],
            "split": [*apart, (depthwise, 3)],
            "wider": [
                *[(conv, 5), (conv, 5), (conv, 19), (conv, 20)],
                (depthwise, 19),
            ],
            "concatenated": [(conv, 3), (conv, 5), (conv, 36), (depthwise, 3)],
            "dense": apart,
        }

    @pytest.mark.parametrize("quantize", [None, "int8"])
    def test_shifts_move_every_channel_by_at_most_a_pixel(self, tool, quantize):
        x = keras.Input((5, 5, 40))
        image = np.zeros((1, 5, 5, 40), "float32")
        image[:, 2, 2] = 1
        moved = np.array(keras.Model(x, tool.shift(x, quantize))(image))[0]
        assert (moved[1:4, 1:4].sum((0, 1)) == 1).all() and moved.sum() == 40
        assert moved[2, 2].sum() < 20

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_keeps_other_machines(self, tool, tmp_path, monkeypatch):
        monkeypatch.setattr(tool, "UNITS", ())
        monkeypatch.setattr(tool, "POOLINGS", ((6, 7, 5),))
        path = tmp_path / "forms.csv"
        for name in "a", "b", "b":
            monkeypatch.setattr(tool, "machine", lambda name=name: name)
            tool.main(tool.parse(["--rounds=2", f"--output={path}"]))
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["machine"], row["kind"], row["form"]) for row in rows] == [
            (machine, kind, form)
            for machine in "ba"
            for kind in ("float32", "int8")
            for form in ("pooling", "convolution")
        ]

    def test_what_comments_and_documents_say_of_the_results(self, tool):
        """In lowering.py and splitting.py."""
        with open(tool.RESULTS, newline="") as file:
            rows = list(csv.DictReader(file))
        rows = [row for row in rows if row["machine"] == rows[0]["machine"]]

        def ratio(form, kind, **shape):
            (row,) = (
                row
                for row in rows
                if (row["form"], row["kind"]) == (form, kind)
                and all(row[key] == str(value) for key, value in shape.items())
            )
            return float(row["ratio"])

        for side, wide, narrow in tool.POOLINGS:
            one = ratio("convolution", "int8", side=side, wide=wide, narrow=narrow)
            if narrow <= _POOLED_FILTERS:
                assert one < 1
            if narrow >= 2 * _POOLED_FILTERS:
                assert one > 1
        large = {"side": 112, "wide": 64}
        small = {"side": 56, "wide": 96}
        sizes = [4 * shape["side"] ** 2 * shape["wide"] for shape in (small, large)]
        assert sizes[0] < _CACHE < sizes[1]
        assert ratio("split", "float32", **large) < ratio("wider", "float32", **large)
        assert ratio("wider", "float32", **small) < ratio("split", "float32", **small)

    def test_small_matrices_take_longer_with_intels_matrix_unit(self, tool):
        """As docs/benchmarks.md says."""
        with open(tool.RESULTS, newline="") as file:
            rows = list(csv.DictReader(file))
        times = {
            ("AMX" in row["machine"], row["side"], row["narrow"], row["wide"]): row[
                "ms"
            ]
            for row in rows
            if (row["kind"], row["form"]) == ("int8", "no shift")
        }
        narrow = [key[1:] for key in times if key[0] and int(key[2]) <= 24]
        assert len(narrow) == 6
        for key in narrow:
            assert float(times[True, *key]) > float(times[False, *key])


def test_fe_net_half_as_wide_is_about_as_accurate_as_mobilenet_v4_and_faster():
    """As docs/frontier.md says."""
    ours = keras_shift.zoo.get_record("fenet_0.5.tiny_imagenet.few_shifts")
    results = ROOT / "benchmarks" / "results"
    with open(results / "peers.csv", newline="", encoding="utf-8") as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    theirs = rows["mobilenet_v4_conv_small"]
    with open(results / "frontier.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["weights"] == ours.name]
    rows = [row for row in rows if row["machine"] == theirs["machine"]]
    assert ours.top1 == pytest.approx(float(theirs["top1"]), abs=5e-3)
    assert ours.int8_top1 == pytest.approx(float(theirs["int8_top1"]), abs=5e-3)
    rows = [row for row in rows if row["threads"] == "1"]
    assert {row["kind"] for row in rows} == {"float32", "int8"}
    assert all(float(row["ratio"]) < float(theirs[row["kind"]]) for row in rows)


def test_the_first_seeds_are_those_of_the_published_weights():
    path = ROOT / "benchmarks" / "results" / "seeds.csv"
    with open(path, newline="", encoding="utf-8") as file:
        top1 = {
            (row["recipe"], row["seed"]): row["top1"] for row in csv.DictReader(file)
        }
    for name in keras_shift.zoo.list_weights():
        record = keras_shift.zoo.get_record(name)
        recipe = record.recipe
        found = top1.pop((recipe["name"], str(recipe["seed"])), None)
        assert found is None or float(found) == pytest.approx(record.top1, abs=5e-5)
    assert {seed for _, seed in top1} == {"1", "2"}


def test_seeds_counts_no_training_that_has_not_ended(monkeypatch, tmp_path):
    seeds = load("seeds", monkeypatch)
    recipe = keras_shift.zoo.recipes.get_recipe("tiny_imagenet.mobilenet_v2_1.0")
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    (tmp_path / "environment.json").write_text('{"device": "a computer"}')
    log = tmp_path / "log.csv"
    log.write_text("epoch,val_accuracy\n19,0.4\n")
    with pytest.raises(SystemExit, match="has not ended: 19 epochs"):
        seeds.measure(tmp_path, 1)
    log.write_text(log.read_text() + "20,0.5\n")
    # A network without shifts has the file of any other seed.
    assert seeds.measure(tmp_path, 1) == {
        "recipe": recipe.name,
        "seed": 0,
        "top1": 0.5,
        "trained_on": "a computer",
    }


def test_the_first_example_is_readmes_for_all_networks(monkeypatch):
    first_example = load("first_example", monkeypatch)
    readmes, narrower, theirs = map(first_example.code, first_example.NETWORKS)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```python\n{readmes}```" in readme
    for other, call in (
        (narrower, '(96, 96, 3), alpha=0.75, weights="tiny_imagenet.sparse"'),
        (theirs, '(96, 96, 3), weights="tiny_imagenet"'),
    ):
        assert call in other and call not in readmes
        # But for the network they are the same.
        differ = [a != b for a, b in zip(readmes.splitlines(), other.splitlines())]
        assert 1 <= sum(differ) <= 2
        compile(other, "README.md", "exec")
    assert "FENet" not in theirs


def test_the_first_example_is_as_accurate_as_mobilenet_v2_and_no_slower(monkeypatch):
    first_example = load("first_example", monkeypatch)
    with open(first_example.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))

    def mean(network, column):
        own = [float(r[column]) for r in rows if r["network"] == network]
        return np.mean(own)

    # README says so.
    for column in ("top1", "int8_top1"):
        theirs = mean("MobileNetV2", column)
        assert mean("FE-Net 1.0", column) == pytest.approx(theirs, abs=2.5e-3)
        assert mean("FE-Net 0.75", column) < theirs
    for column in ("float32_ratio", "int8_ratio"):
        assert mean("FE-Net 1.0", column) <= 1
    assert mean("FE-Net 1.0", "unshifted") >= 0.8


def test_arithmetic_intensity_has_every_operation_on_every_map(monkeypatch):
    script = load("arithmetic_intensity", monkeypatch)
    with open(script.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        (int(row["batch"]), int(row["size"]), int(row["channels"]), row["operation"])
        for row in rows
        if row["runtime"] != "litert"
    ]
    operations = (script.COPYING, script.PRODUCT, *script.OPERATIONS)
    assert found == [(*place, name) for place in script.MAPS for name in operations]
    files = [row["operation"] for row in rows if row["runtime"] == "litert"]
    assert files == [*script.KERNEL_SIZES] * len(script.MAPS)


def test_what_is_written_of_arithmetic_intensity_fits_together(monkeypatch):
    script = load("arithmetic_intensity", monkeypatch)
    with open(script.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        multiply_adds, accesses, us = (
            float(row[key]) for key in ("multiply_adds", "memory_accesses", "us")
        )
        for key, value in (
            ("intensity", multiply_adds / accesses),
            ("gmadds_per_second", multiply_adds / us / 1e3),
            ("gbytes_per_second", 4 * accesses / us / 1e3),
        ):
            assert float(row[key]) == pytest.approx(value, rel=2e-3)
        if row["operation"] == script.COPYING:
            assert float(row["copying_bytes"]) == 1
        if row["operation"] == script.PRODUCT:
            assert float(row["product_multiply_adds"]) == pytest.approx(1, rel=2e-3)


def test_rates_are_shares_of_copying_and_of_a_matrix_product(monkeypatch):
    script = load("arithmetic_intensity", monkeypatch)
    # In a second, 32 values are copied; in sixteen, two matrices of 512x512 are
    # multiplied; in eight, there are ten shifts, or two convolutions.
    seconds = {
        ("numpy", script.COPYING): 1.0,
        ("numpy", script.PRODUCT): 16.0,
        ("tensorflow", "shift"): 8.0,
        ("tensorflow", "convolution"): 8.0,
    }
    repeats = dict(zip(seconds, (1, 1, 10, 2)))
    timings = {
        key: types.SimpleNamespace(
            median=value, ratio=value, ratio_low=value / 2, ratio_high=value * 2
        )
        for key, value in seconds.items()
    }
    monkeypatch.setattr(script, "time_alternately", lambda calls, rounds: timings)
    functions = {key: (nothing, times) for key, times in repeats.items()}
    rows = {
        row["operation"]: row for row in script.measure(1, 4, 2, functions, rounds=1)
    }
    with open(script.RESULTS, newline="") as file:
        columns = csv.DictReader(file).fieldnames
    assert all(list(row) == columns for row in rows.values())
    assert rows["shift"]["us"] == pytest.approx(0.8e6)
    assert rows["shift"]["copying_bytes"] == pytest.approx(10 / 8)
    assert rows["shift"]["copying_bytes_low"] == pytest.approx(10 / 16)
    assert rows["shift"]["copying_bytes_high"] == pytest.approx(10 / 4)
    assert rows["shift"]["product_multiply_adds"] == 0
    # Two convolutions of 2 * 2 * 16 * 9 multiply-adds and 64 + 36 accesses.
    convolution = rows["convolution"]
    assert convolution["gmadds_per_second"] == pytest.approx(2 * 576 / 8 / 1e9)
    assert convolution["gbytes_per_second"] == pytest.approx(2 * 4 * 100 / 8 / 1e9)
    assert convolution["copying_bytes"] == pytest.approx(2 * 100 / 64 / 8)
    assert convolution["product_multiply_adds"] == pytest.approx(
        (2 * 576 / 8) / (512**3 / 16)
    )


def test_operations_of_arithmetic_intensity_compute_what_they_say(monkeypatch):
    script = load("arithmetic_intensity", monkeypatch)
    written = {}

    def to_tflite(model, path, batch_size):
        assert batch_size == 2
        written[path] = model

    ones = np.ones((2, 6, 6, 18), "float32")
    runtime = types.SimpleNamespace(input_shape=ones.shape, predict=len, invoke=nothing)
    monkeypatch.setattr(script.deploy, "to_tflite", to_tflite)
    monkeypatch.setattr(script.deploy, "LiteRTModel", lambda path: runtime)
    monkeypatch.setattr(script, "MOST_REPEATS", 1)
    functions = script.calls(2, 6, 18, folder="folder")
    assert {times for _, times in functions.values()} == {1}
    for operation in script.OPERATIONS:
        call, _ = functions["tensorflow", operation]
        assert np.isfinite(call().numpy()).all()
    for operation, model in zip(script.KERNEL_SIZES, written.values(), strict=True):
        # Weights sum to one, so that ones stay ones where there is no border.
        np.testing.assert_allclose(model(ones)[:, 1:-1, 1:-1], 1, rtol=1e-5)
        counted = script.intensity(operation, 2, 6, 18).multiply_adds
        assert keras_shift.analysis.multiply_adds(model) == counted / 2


def test_the_studies_say_what_was_measured_of_arithmetic_intensity(monkeypatch):
    script = load("arithmetic_intensity", monkeypatch)
    rates = ("copying_bytes", "product_multiply_adds", "us", "gmadds_per_second")
    with open(script.RESULTS, newline="") as file:
        found = {
            (row["runtime"], row["operation"], int(row["batch"]), int(row["size"])): [
                float(row[rate]) for rate in rates
            ]
            for row in csv.DictReader(file)
        }
    for batch, size, _ in script.MAPS:
        copying, multiplying, us, depthwise = found[
            "litert", "depthwise convolution", batch, size
        ]
        products = [
            found["litert", operation, batch, size][1]
            for operation in ("convolution", "1x1 convolution")
        ]
        share = depthwise / found["litert", "convolution", batch, size][3]
        _, _, shift_us, _ = found["tensorflow", "shift", batch, size]
        assert 0.4 < shift_us / us < 0.85
        if batch == 1:
            assert 0.9 < min(products) and max(products) < 1.3
            assert 0.33 < share < 0.5 and 0.33 < multiplying < 0.45
            assert 0.25 < copying < 0.65
        else:
            assert min(products) > 0.55
            assert 0.15 < share < 0.25 and 0.4 < copying < 0.6


def test_heads_of_a_segmentation_network(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    benchmark = load("segmentation_heads", monkeypatch)
    example = benchmark.example
    for split, count in (("train", 3), ("test", 2)):
        for folder, channels in ((split, (3,)), (f"{split}annot", ())):
            (tmp_path / folder).mkdir()
            for number in range(count):
                # The last number stands for pixels that are of no class.
                pixels = np.arange(36 * 48 * 3).reshape(36, 48, 3)[..., : sum(channels)]
                pixels = pixels if channels else np.full((36, 48), 9 + number)
                image = example.Image.fromarray(pixels.astype("uint8"))
                image.save(tmp_path / folder / f"{number}.png")
    heads = ("shifts", "depthwise")

    def run(data, options):
        assert data.images.shape == (3, 32, 32, 3) and len(data.held_out_masks) == 2
        assert np.unique(data.masks).tolist() == [9, 10, example.IGNORED]
        assert data.classes[9:] == ["pedestrian", "bicyclist"] and options.epochs == 7
        rows = [{"network": "always road", "Keras mean IoU": 0.1}]
        figures = {"million MAdds": 2.0, "Keras mean IoU": 0.5}
        figures |= {"float32 mean IoU": 0.5, "int8 mean IoU": 0.4}
        rows += [{"network": head, **figures} for head in heads]
        return dict.fromkeys(heads), rows

    def time_files(models, data, size, quantize, options):
        # All ratios are to the first.
        assert list(models) == ["depthwise", "shifts"] and size == (40, 24)
        scale = 1.0 if quantize is None else 0.5
        return {
            head: Timing(0.02, 0.01, 0.03, scale, scale - 0.1, scale + 0.1)
            for head in models
        }

    monkeypatch.setattr(example, "run", run)
    monkeypatch.setattr(example, "time_files", time_files)
    output = tmp_path / "results.csv"
    options = "--image-size 32 --epochs 7 --sizes 40x24 --output".split()
    benchmark.main(benchmark.parse([str(tmp_path), *options, str(output)]))
    with open(output, newline="") as file:
        always, *networks = csv.DictReader(file)
    assert always["mean_iou"] == "0.1" and always["40x24_int8_ratio"] == ""
    for head, row in zip(heads, networks):
        assert row["network"] == head and row["int8_mean_iou"] == "0.4"
        assert row["40x24_float32_ratio"] == "1" and row["40x24_int8_ratio"] == "0.5"
        assert row["40x24_int8_ratio_low"] == "0.4" and row["machine"]
    monkeypatch.setattr(example, "run", None)
    monkeypatch.setattr(example, "build", lambda head, *arguments: head)
    before = output.read_text()
    options = [*options, str(output), "--times"]
    benchmark.main(benchmark.parse([str(tmp_path), *options]))
    assert output.read_text() == before
    with pytest.raises(SystemExit, match="no images in .*nowhere"):
        benchmark.main(benchmark.parse([str(tmp_path / "nowhere")]))


def test_segmentation_with_shifts_is_within_two_points():
    """As README says; and the most frequent class alone is far below."""
    with open(ROOT / "benchmarks" / "results" / "segmentation_heads.csv") as file:
        always, shifts, depthwise = (
            float(row["mean_iou"]) for row in csv.DictReader(file)
        )
    assert abs(depthwise - shifts) < 0.02 and shifts > 2 * always


def test_shifts_replace_depthwise_convolutions(monkeypatch, tmp_path):
    benchmark = load("replace_depthwise", monkeypatch)

    def network(shape, weights, output_stride=32):
        assert weights == "tiny_imagenet"
        images = keras.Input(shape, name="images")
        x = keras.layers.Conv2D(40, 1, name="expand")(images)
        x = keras.layers.ReLU(6, name="relu")(x)
        x = keras.layers.DepthwiseConv2D(3, 2, padding="same", name="depthwise")(x)
        x = keras.layers.Conv2D(8, 1, name="project")(x)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = keras.layers.Dense(3, activation="softmax", name="predictions")(x)
        return keras.Model(images, x)

    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype("uint8")
    labels = np.arange(16) % 3
    data = keras_shift.training.Data(
        "none", images, labels, images, labels, list("abc")
    )
    monkeypatch.setattr(keras_shift.zoo, "MobileNetV2", network)
    monkeypatch.setattr(
        keras_shift.training, "load_data", lambda *arguments, **options: data
    )
    monkeypatch.setattr(benchmark, "SIZE", 8)
    monkeypatch.setattr(benchmark, "PHONE_SIZE", 16)
    recipe = dataclasses.replace(benchmark.RECIPE, epochs=4, batch_size=4)
    monkeypatch.setattr(benchmark, "RECIPE", recipe)
    output, run = tmp_path / "results.csv", tmp_path / "run"
    options = ["--data-dir", "none", "--run", str(run), "--rounds", "2"]
    benchmark.main(benchmark.parse([*options, "--output", str(output)]))
    with open(output, newline="") as file:
        before, shifted, floor = csv.DictReader(file)
    assert before["network"] == "MobileNetV2" and before["unshifted"] == ""
    assert float(before["float32_ratio"]) == float(before["int8_ratio"]) == 1
    assert 0.84 < float(shifted["unshifted"]) < 1 == float(floor["unshifted"])
    assert float(shifted["million_multiply_adds"]) < float(
        before["million_multiply_adds"]
    )
    for row in (before, shifted):
        assert 0 <= float(row["top1"]) <= 1
    assert shifted["exchanged_top1"] and not before["exchanged_top1"]
    assert (run / "final.weights.h5").exists()


def test_style_transfer_writes_what_the_example_measures(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    benchmark = load("style_transfer", monkeypatch)
    example = benchmark.example
    photographs = np.zeros((5, 16, 16, 3), "uint8")
    data = example.Data("none", photographs, photographs[:2], photographs[0])
    features = object()

    def run(*received):
        assert received[:2] == (data, features)
        options = received[2]
        assert (options.image_size, options.crop_size) == (256, 96)
        # What the example calls its figures, it says itself.
        found = {"network": "photographs", "style loss": 4.0, "content loss": 0.0}
        networks = [
            {"network": name, "machine": "none"}
            | {key: 1.5 for key in benchmark.COLUMNS if key != "network"}
            for name in example.NETWORKS
        ]
        return [found, *networks]

    monkeypatch.setattr(example, "folder", lambda *arguments: data)
    monkeypatch.setattr(example, "run", run)
    monkeypatch.setattr(
        keras_shift.training, "perceptual_features", lambda name: features
    )
    output, picture = tmp_path / "results.csv", tmp_path / "picture.jpg"
    for network in example.NETWORKS:
        images = keras.Input((None, None, 3))
        grey = keras.layers.Rescaling(0.0, offset=127.0)(images)
        keras.Model(images, grey).save(tmp_path / f"style_{network}.keras")
    options = ["--run", tmp_path, "--output", output, "--picture", picture]
    benchmark.main(benchmark.parse(["the_style.jpg", "folder", *map(str, options)]))
    assert picture.read_bytes().startswith(b"\xff\xd8")
    with (
        open(output, newline="") as made,
        open(benchmark.RESULTS, newline="") as committed,
    ):
        rows, expected = list(csv.DictReader(made)), list(csv.DictReader(committed))
    assert list(rows[0]) == list(expected[0])
    for found in (rows, expected):
        assert [row["network"] for row in found] == ["photographs", *example.NETWORKS]
        assert found[0]["style"] == "" and found[0]["style_loss"]
        for row in found[1:]:
            assert all(row.values())
    assert rows[1]["style"] == "the_style" and rows[1]["photographs"] == "5"


def test_style_transfer_reaches_what_it_says():
    """Of the photographs' style loss, no more than a third is left."""
    with open(ROOT / "benchmarks" / "results" / "style_transfer.csv") as file:
        as_is, *rows = csv.DictReader(file)
    for row in rows:
        assert float(row["style_loss"]) <= float(as_is["style_loss"]) / 3


def test_faces_are_verified_nearly_as_well_as_by_convolutions():
    """Within two points, with as many multiply-adds and fewer parameters."""
    path = ROOT / "benchmarks" / "results" / "face_verification.csv"
    with open(path, newline="", encoding="utf-8") as file:
        narrow, wide, twin, *others = csv.DictReader(file)
    assert float(wide["accuracy"]) >= float(twin["accuracy"]) - 0.02
    for column in ("million_multiply_adds", "parameters"):
        assert float(wide[column]) < float(twin[column])
    for row in (narrow, wide, twin, *others):
        assert float(row["accuracy_low"]) > float(row["untrained_accuracy_high"])


def test_faces_are_verified_beside_a_convolutional_twin(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(sys, "path", [*sys.path])
    benchmark = load("face_verification", monkeypatch)
    monkeypatch.delitem(sys.modules, "face_verification")

    def build(options):
        images = keras.Input((32, 32, 3), name="image")
        x = keras.layers.Conv2D(int(6 * options.alpha), 3, 4, name="stem")(images)
        x = keras_shift.layers.GroupedShift2D(3, name="shift")(x)
        x = keras.layers.Conv2D(8, 1, 2, padding="same", name="module_project")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.UnitNormalization()(keras.layers.Dense(4)(x))
        return keras.Model(images, x, name="small")

    random = np.random.default_rng(0)
    for name in "ABCDE":
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in (1, 2, 3, 4):
            pixels = random.integers(0, 256, (60, 60, 3)).astype("uint8")
            image.fromarray(pixels).save(folder / f"{name}_{number:04d}.png")
    (tmp_path / "peopleDevTrain.txt").write_text("3\nA\t4\nB\t4\nC\t4\n")
    same = "D\t1\t2\nD\t3\t4\nE\t1\t2\nE\t2\t4\n"
    other = "".join(f"D\t{number}\tE\t{number}\n" for number in (1, 2, 3, 4))
    (tmp_path / "pairsDevTest.txt").write_text(f"4\n{same}{other}")
    monkeypatch.setattr(benchmark.example, "build", build)
    output, run = tmp_path / "results.csv", tmp_path / "run"
    benchmark.write(
        [
            {"network": "old", "machine": machine, "epochs": epochs, "pixels": 32}
            for machine in ("another", benchmark.machine())
            for epochs in (1, 2)
        ],
        output,
    )
    options = ["--data-dir", str(tmp_path), "--run", str(run), "--epochs", "1"]
    options += ["--image-size", "32", "--output", str(output)]
    benchmark.main(benchmark.parse(options))
    with open(output, newline="") as file:
        shifts, wide, twin, *others = csv.DictReader(file)
    assert int(shifts["parameters"]) < int(wide["parameters"])
    assert [(other["machine"], other["epochs"]) for other in others] == [
        *(("another", "1"), ("another", "2"), (benchmark.machine(), "2")),
    ]
    # A shift has no parameters, and a kernel of 3x3 nine times those of one of 1x1.
    difference = int(twin["parameters"]) - int(shifts["parameters"])
    assert difference == 8 * 6 * 8
    extra = 4 * 4 * difference / 1e6
    assert float(twin["million_multiply_adds"]) == pytest.approx(
        float(shifts["million_multiply_adds"]) + extra, rel=1e-2
    )
    for row in (shifts, wide, twin):
        assert (row["people"], row["images"], row["pairs"]) == ("3", "12", "8")
        for prefix in ("", "untrained_", "int8_"):
            assert 0 <= float(row[f"{prefix}accuracy"]) <= 1
            low, high = (
                float(row[f"{prefix}roc_area_{end}"]) for end in ("low", "high")
            )
            assert low <= float(row[f"{prefix}roc_area"]) <= high
    folder = run / "32_pixels_1_epochs"
    assert {path.name for path in folder.iterdir()} == {
        f"{name}{end}"
        for name in ("shiftfacenet", "shiftfacenet_alpha_1_875", "3x3_convolutions")
        for end in (".keras", "_float32.tflite", "_int8.tflite")
    }


@pytest.mark.exhaustive
def test_keras_export_writes_what_it_wrote_before(tmp_path, monkeypatch):
    script = load("keras_export", monkeypatch)
    path = tmp_path / "keras_export.csv"
    script.main(script.parse(["--size=64", "--rounds=3", f"--output={path}"]))
    with open(path) as new, open(script.RESULTS) as old:
        rows, before = list(csv.DictReader(new)), list(csv.DictReader(old))
    for row, other in zip(rows, before, strict=True):
        assert row.keys() == other.keys()
        assert (row["alpha"], row["weights"]) == (other["alpha"], other["weights"])
        assert row["partitions"] == other["partitions"] == "1"
        assert (
            float(row["ratio_low"]) <= float(row["ratio"]) <= float(row["ratio_high"])
        )


@pytest.mark.exhaustive
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="there is no history here")
def test_file_versions_finds_files_of_the_same_version_equal(tmp_path, monkeypatch):
    script = load("file_versions", monkeypatch)
    # Both are the last commit, since what is not committed may export other files.
    git = script.git
    checkout = tmp_path / "checkout"
    git(ROOT, "clone", "--quiet", ROOT, checkout)
    monkeypatch.setattr(script, "ROOT", checkout)
    output = tmp_path / "file_versions.csv"
    options = ["--before", "HEAD", "--networks", "shiftresnet20_ssl"]
    script.main(script.parse([*options, "--output", str(output)]))
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["same"]) for row in rows] == [
        ("float32", "yes"),
        ("int8", "yes"),
    ]


def test_file_versions_times_files_that_differ(tmp_path, monkeypatch):
    script = load("file_versions", monkeypatch)
    folders = [tmp_path / "before", tmp_path / "now"]
    for folder, filters in zip(folders, (64, 8)):
        folder.mkdir()
        convolution = keras.layers.Conv2D(filters, 3)
        model = keras.Sequential([keras.Input((16, 16, 3)), convolution])
        keras_shift.deploy.to_tflite(model, folder / "some_float32.tflite")
    row = script.compare("some", "float32", folders, rounds=3)
    assert row["same"] == "no"
    assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    (folders[0] / "some_float32.tflite").unlink()
    row = script.compare("some", "float32", folders, rounds=3)
    assert row == {"network": "some", "kind": "float32", "same": "new"}
