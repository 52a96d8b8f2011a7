"""What something was computed with."""

import json
import re
import subprocess

import keras

from keras_shift import environment
from networks import ROOT


def test_is_json():
    found = environment.environment()
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"git_commit", "versions", "backend", "device"}
    assert found["backend"] == keras.backend.backend()
    assert found["versions"]["keras"] == keras.__version__
    assert re.search(r"\d+ cores$", found["device"])


def test_commit(monkeypatch, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *identity, *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    path = tmp_path / "keras_shift" / "environment.py"
    path.parent.mkdir()
    path.write_text((ROOT / "keras_shift" / "environment.py").read_text())
    monkeypatch.setattr(environment, "__file__", str(path))
    assert environment.git_commit() is None  # not a checkout
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--no-verify", "--message", "a")
    assert environment.git_commit() == git("rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("not sources")
    assert environment.git_commit() == git("rev-parse", "HEAD")
    path.write_text("changed")
    assert environment.git_commit() is None
    monkeypatch.setenv("PATH", "")
    assert environment.git_commit() is None  # no git
