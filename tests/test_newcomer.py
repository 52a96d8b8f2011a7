"""A newcomer's path, and what is written of it: see tools/newcomer.py."""

import csv
import subprocess

import pytest

from networks import ROOT, load_tool

tool = load_tool("newcomer")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit and a README, in the place of this one."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "README.md").write_text("```python\nprint('walked')\n```\n")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in ("init -q", "add README.md", "commit -q --message=first"):
        subprocess.run([*git, *command.split()], cwd=folder, check=True)
    monkeypatch.setattr(tool, "ROOT", folder)
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "newcomer.csv")
    return folder


def test_steps_are_taken_in_a_clone_beside_the_photographs(
    checkout, tmp_path, monkeypatch
):
    photographs = tmp_path / "any name"
    (photographs / "cats").mkdir(parents=True)
    (checkout / "not committed").touch()
    monkeypatch.setattr(
        tool,
        "STEPS",
        {
            "a": "test -d photographs/cats -a ! -e 'not committed' && touch made",
            "b": "test -e made && grep -q walked readme_example.py",
        },
    )
    tool.main([str(photographs)])
    with open(tool.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["a", "b"]
    assert all(int(row["seconds"]) >= 0 and row["machine"] for row in rows)


def test_a_step_that_fails_ends_it_with_what_it_said(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "STEPS", {"a": "echo no photographs; exit 3"})
    with pytest.raises(SystemExit, match="no photographs"):
        tool.main([str(tmp_path)])
    assert not tool.RESULTS.exists()


def test_photographs_must_be_a_folder(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path / "none")])
    assert "Received: " in capsys.readouterr().err


def test_results_are_those_of_the_steps():
    with open(ROOT / "benchmarks" / "results" / "newcomer.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [*tool.STEPS]
    # Installing and training first, a look at the own file in the end.
    assert sum(int(row["seconds"]) for row in rows) < 15 * 60
