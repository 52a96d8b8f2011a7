"""The papers' accuracies beside ours."""

import csv
import dataclasses

import numpy as np
import pytest

from keras_shift import zoo
from keras_shift.training import Recipe
from keras_shift.zoo import recipes
from networks import ROOT, load_tool
from test_pretrained import published, record_of  # noqa: F401


@pytest.fixture(scope="module")
def tool():
    return load_tool("update_results")


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.delenv("KERAS_SHIFT_WEIGHTS_DIR", raising=False)
    return [zoo.get_record(name) for name in zoo.list_weights()]


def test_files_are_what_the_records_say(tool, shipped):
    for path, content in (
        ("zoo/results.csv", tool.results(shipped)),
        ("docs/results.md", tool.document(shipped)),
    ):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert text == content, "run tools/update_results.py"


def test_recipes_of_records_are_those_that_are_here(shipped):
    for record in shipped:
        here = dataclasses.replace(
            recipes.get_recipe(record.recipe_name), seed=record.seed
        )
        # What an older record does not say is the default.
        assert Recipe(**record.recipe).to_json() == here.to_json(), record.name


def test_networks_under_one_recipe(tool, published):  # noqa: F811
    def record(constructor, precision):
        recipe = {"name": "toy.some", "seed": 0, "precision": precision}
        path = published[0] / "shiftresnet20.toy.ssl.weights.h5"
        return record_of(path, constructor=constructor, recipe=recipe)

    both = [record("FENet", "mixed_bfloat16"), record("MobileNetV2", "float32")]
    names = [f"`{record.name}`" for record in both]
    text = f"precision: mixed_bfloat16 for {names[0]}; float32 for {names[1]}."
    assert text in tool.document(both)
    assert "under one recipe" not in tool.document(both[:1])


def test_every_training_has_a_curve(shipped):
    pytest.importorskip("matplotlib")
    plots = load_tool("plot_logs").figure(shipped).axes
    datasets = [plot.get_title() for plot in plots]
    assert datasets == sorted({record.dataset for record in shipped})
    curves = [line for plot in plots for line in plot.get_lines()]
    assert len(curves) == len(shipped)
    for plot, dataset in zip(plots, datasets):
        some = [record for record in shipped if record.dataset == dataset]
        for line, record in zip(plot.get_lines(), some, strict=True):
            epochs, accuracies = line.get_data()
            assert epochs[-1] == record.recipe["epochs"]
            # While it trained, in the recipe's precision.
            assert accuracies[-1] == pytest.approx(100 * record.top1, abs=0.5)


def test_there_is_no_figure_without_a_record(tool):
    assert [row for row in tool.rows([]) if row.get("ours")] == []


def test_papers_figures():
    with open(ROOT / "tools" / "paper_results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    known = set(recipes.list_recipes())
    assert {row["recipe"] for row in rows} - known <= {""}
    assert all(row["recipe"].split(".")[0] in ("", row["dataset"]) for row in rows)
    places = [tuple(list(row.values())[:4]) for row in rows]
    assert len(set(places)) == len(places)
    for dataset, total in (("cifar10", 1615), ("cifar100", 1488)):
        table_2 = [
            int(row["paper"].split()[0])
            for row in rows
            if (row["table"], row["dataset"]) == ("SSL Table 2", dataset)
        ]
        assert sum(table_2[:-1]) == table_2[-1] == total


class TestRows:
    @pytest.fixture
    def ssl(self, published):  # noqa: F811
        """As if a network had been trained by the recipes of Table 1."""

        def record(suffix=""):
            return record_of(
                published[0] / "shiftresnet20.toy.ssl.weights.h5",
                name=f"shiftresnet20.cifar10.ssl{suffix}",
                weights=f"cifar10.ssl{suffix}",
                dataset="cifar10",
                classes=10,
                class_names="cifar10",
                recipe={"name": f"cifar10.shiftresnet20_ssl{suffix}", "seed": 7},
                top1=0.9123 if suffix else 0.9177,
                int8_top1=0.9,
            )

        return record

    def test_ours(self, tool, ssl):
        rows = [row for row in tool.rows([ssl(".short")]) if row.get("ours")]
        found = {(row["table"], row["row"], row["quantity"]): row for row in rows}
        label = "ShiftResNet-20 (SSL), λ = 0"
        accuracy = found["SSL Table 1", label, "top-1"]
        assert accuracy == {
            "table": "SSL Table 1",
            "row": label,
            "dataset": "cifar10",
            "quantity": "top-1",
            "paper": "91.7%",
            "ours": "91.23%",
            "recipe": "cifar10.shiftresnet20_ssl.short",
            "seed": "7",
            "weights": "shiftresnet20.cifar10.ssl.short",
        }
        assert found["SSL Table 1", label, "shift sparsity"]["ours"] == "50.00%"
        assert ("SSL Table 3", "0 of 9 shift layers removed", "top-1") in found
        own = "shiftresnet20.cifar10.ssl.short"
        assert found["published weights", own, "int8 top-1"]["ours"] == "90.00%"
        assert len(found) == 3 + 4

    def test_the_papers_recipe_comes_first(self, tool, ssl):
        rows = tool.rows([ssl(".short"), ssl()])
        (row,) = [r for r in rows if r["table"] == "SSL Table 3" and r.get("ours")]
        assert row["ours"] == "91.77%"

    def test_layers(self, tool, ssl):
        changes = {
            "recipe": {"name": "cifar10.shiftresnet20_ssl_lambda5e-4", "seed": 7}
        }
        blocks = [f"group{g}_module{m}_shift" for g in (1, 2, 3) for m in (1, 2, 3)]
        changes["unshifted"] = {name: (90, 96) for name in blocks}
        changes["moved"] = {name: (3, 96) for name in blocks}
        record = dataclasses.replace(ssl(), **changes)
        table = [r for r in tool.rows([record]) if r["table"] == "SSL Table 2"]
        ours = [row["ours"] for row in table if "ours" in row]
        assert ours == ["90 / 96"] * 9 + ["810 / 864"]

    def test_document(self, tool, ssl):
        text = tool.document([ssl()])
        assert (
            "| ShiftResNet-20 (SSL), λ = 0 | cifar10 | 91.7% | 91.77% | 12.1% | 50.00% "
            "| cifar10.shiftresnet20_ssl | 7 |\n"
        ) in text
        assert '`ShiftResNet20(alpha=0.25, weights="cifar10.ssl")`' in text
        assert "None yet" not in text
        assert "| all | 4 | 50.0% | 75.0% |\n" in text
        for line in text.split("\n"):
            assert line.startswith("|") == line.endswith("|")


class TestWhatTheStudiesSay:
    """docs/studies.md draws conclusions from these tables."""

    @pytest.fixture
    def numbers(self):
        """The papers' figures and ours, by table, row, dataset and quantity."""

        def number(text):
            if "/" in text:
                still, channels = map(int, text.split(" / "))
                return 1 - still / channels
            return float(text.rstrip("%")) if text else None

        with open(ROOT / "zoo" / "results.csv", encoding="utf-8") as file:
            return {
                tuple(list(row.values())[:4]): (
                    number(row["paper"]),
                    number(row["ours"]),
                )
                for row in csv.DictReader(file)
            }

    def test_of_table_1(self, numbers):
        def both(row, quantity="top-1"):
            key = ("SSL Table 1", f"ShiftResNet-20 ({row}", "cifar10", quantity)
            return np.array(numbers[key])

        learned, grouped, bare = map(both, ("SSL), λ = 0", "grouped)", "1x1 only)"))
        some, most = map(both, ("SSL), λ = 1e-4", "SSL), λ = 5e-4"))
        # Agrees: the order, and how little the last shifts cost beside all of them.
        assert all(learned > grouped) and all(learned > some) and all(some > most)
        assert all(most > bare + 8)
        standard_error = 100 * np.sqrt(2 * 0.88 * 0.12 / 10_000)
        assert (learned - grouped)[1] == pytest.approx(standard_error, rel=0.3)
        sparsities = [
            both(f"SSL), λ = {value}", "shift sparsity")
            for value in ("0", "1e-4", "5e-4")
        ]
        assert np.all(np.diff(sparsities, axis=0) > 0)
        assert sparsities[-1][1] == pytest.approx(98, abs=0.5)
        # Does not agree.
        for losses in (learned - some, learned - most):
            assert 3.5 < losses[1] / losses[0] < 4.9
        assert (some > grouped).tolist() == [True, False]

    def test_of_table_2(self, numbers):
        moved = {
            row.removeprefix("block"): np.array(both)
            for (table, row, dataset, _), both in numbers.items()
            if (table, dataset) == ("SSL Table 2", "cifar10") and row != "total"
        }
        assert len(moved) == 9
        # Agrees.
        assert all(moved["2_1"] == 0)
        assert all(moved["3_1"] < 0.02) and all(moved["3_3"] < 0.02)
        for group, most in (("2", "2_2"), ("3", "3_2")):
            for name in moved:
                if name[0] == group and name != most:
                    assert all(moved[most] > moved[name])
        # Does not agree.
        paper, ours = zip(*moved.values())
        assert np.argmax(ours) == 0 and np.argmax(paper) != 0
        assert moved["1_3"][1] == 0 < moved["1_3"][0]

    def test_of_table_2_on_cifar100(self, numbers):
        paper, ours = (
            {
                row.removeprefix("block"): both[index]
                for (table, row, dataset, _), both in numbers.items()
                if (table, dataset) == ("SSL Table 2", "cifar100") and row != "total"
            }
            for index in (0, 1)
        )
        assert paper["2_1"] == ours["2_1"] == 0
        assert max(ours, key=ours.get) == "3_2"
        # Does not agree: two of 192 channels.
        assert max(paper, key=paper.get) == "2_2" and ours["2_2"] == 1 - 190 / 192
        log = ROOT / "zoo/weights/shiftresnet20.cifar100.ssl_lambda5e-4.short.log.csv"
        with open(log, encoding="utf-8") as file:
            first = next(csv.DictReader(file))
        assert first["epoch"] == "1"
        assert float(first["shift_sparsity"]) == pytest.approx(0.99, abs=0.005)

    def test_of_table_3(self, numbers):
        top1 = {
            int(row.split()[0]): np.array(both)
            for (table, row, dataset, _), both in numbers.items()
            if (table, dataset) == ("SSL Table 3", "cifar10")
        }
        losses = {removed: top1[0] - found for removed, found in top1.items()}
        # Agrees.
        assert all(losses[4] < 2) and all(losses[6] < 2)
        assert losses[9][1] / losses[6][1] == pytest.approx(10, abs=1)
        last = top1[8] - top1[9]
        assert all(last > losses[8])
        assert last == pytest.approx([8, 11], abs=0.5)
        # Does not agree.
        assert losses[8][1] / losses[8][0] == pytest.approx(3, abs=0.2)

    @pytest.mark.parametrize(
        "alpha, share", [(0.5, 3 / 4), (0.75, 1 / 2), (1.0, 1 / 3)]
    )
    def test_of_layers_without_shifts_in_readme(self, alpha, share):
        record = zoo.get_record(f"fenet_{alpha}.tiny_imagenet.few_shifts")
        empty = [still == channels for still, channels in record.unshifted.values()]
        assert sum(empty) / len(empty) == pytest.approx(share, abs=0.05)

    @staticmethod
    def unshifted(name):
        """Returns the share of unshifted channels, also of units without a shift."""
        record = zoo.get_record(name)
        counts = dict(record.unshifted)
        for unit in record.arguments.get("without_shift", ()):
            start = record.recipe["initial_weights"]
            start = zoo.get_record(name.replace(record.weights, start))
            _, channels = start.unshifted[f"{unit}_shift"]
            counts[f"{unit}_shift"] = (channels, channels)
        still, channels = (sum(column) for column in zip(*counts.values()))
        return still / channels

    def test_of_table_8(self, numbers):
        weights = {}
        for (table, row, _, quantity), (_, ours) in numbers.items():
            if table == "published weights" and row.startswith("fenet"):
                weights.setdefault(row, {})[quantity] = ours
        for name, found in weights.items():
            if name in ("fenet_1.0.cifar100", "fenet_1.0.tiny_imagenet"):
                assert 100 / 9 < found["shift sparsity"] < 15.5
            else:
                assert 100 * self.unshifted(name) >= 80
        dense, few, sparsified = (
            weights[f"fenet_1.0.tiny_imagenet{end}"]
            for end in ("", ".few_shifts", ".sparsified")
        )
        assert dense["top-1"] - sparsified["top-1"] == pytest.approx(1, abs=0.3)
        assert few["top-1"] == pytest.approx(dense["top-1"], abs=0.5)
        times = (100 - dense["shift sparsity"]) / (100 - few["shift sparsity"])
        assert times == pytest.approx(6, abs=0.5)
