"""Files that are written whole or not at all."""

import pytest

from keras_shift.files import replacing


@pytest.fixture
def path(tmp_path):
    """Path of a file that is there already."""
    path = tmp_path / "model.weights.h5"
    path.write_text("earlier")
    return path


def test_the_new_file_takes_the_place_of_the_old_one(path):
    with replacing(str(path)) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".weights.h5")  # as Keras wants it
        temporary.write_text("new")
        assert path.read_text() == "earlier"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_one(path, error):
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "earlier"
    assert list(path.parent.iterdir()) == [path]


def test_writing_nothing_is_an_error(path):
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "earlier"


def test_what_a_killed_process_left_does_not_stay(path):
    path.with_name(f"unfinished_{path.name}").write_text("half")
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert list(path.parent.iterdir()) == [path]
