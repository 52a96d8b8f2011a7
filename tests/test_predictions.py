"""What stands before a network's images and after its predictions."""

import keras
import numpy as np
import pytest

from keras_shift.zoo import decode_predictions, get_model, preprocess_input
from networks import pixels, predict


def test_preprocessing_is_part_of_the_models():
    images = pixels(2, 32, 32, 3)
    assert preprocess_input(images) is images


def test_predictions_of_a_network_are_named():
    scores = predict(get_model("shiftresnet20_e1"), pixels(3, 32, 32, 3))
    decoded = decode_predictions(scores, top=2, dataset="cifar10")
    assert len(decoded) == 3
    for image, best in zip(scores, decoded):
        assert [score for _, _, score in best] == sorted(image)[:-3:-1]
        assert len({name for _, name, _ in best}) == 2


def test_largest_first():
    scores = np.eye(10)[[0, 9, 3]] + 1e-3 * np.arange(10)
    decoded = decode_predictions(scores, dataset="cifar10")
    assert [best[0][:2] for best in decoded] == [
        ("airplane", "airplane"),
        ("truck", "truck"),
        ("cat", "cat"),
    ]
    assert [name for _, name, _ in decoded[0]][1:] == ["truck", "ship", "horse", "frog"]


def test_scores_of_integer_files():
    scores = np.array([[-128, 100, -127], [0, 3, 127]], "int8")
    decoded = decode_predictions(scores, 1, ["a", "b", "c"])
    assert decoded == [[("b", "b", 100.0)], [("c", "c", 127.0)]]


@pytest.mark.parametrize("dataset, classes", [("cifar10", 10), ("cifar100", 100)])
def test_every_class_has_a_name_of_its_own(dataset, classes):
    (decoded,) = decode_predictions(-np.arange(classes)[None], classes, dataset)
    names = [name for name, _, _ in decoded]
    assert len(set(names)) == classes and names == sorted(names)
    assert all(name and name.isprintable() for name in names)


def test_classes_with_identifiers():
    (decoded,) = decode_predictions(-np.arange(200)[None], 2, "tiny_imagenet")
    assert [best[:2] for best in decoded] == [
        ("n01443537", "goldfish"),
        ("n01629819", "European fire salamander"),
    ]
    # In the order of the dataset's folders.
    (decoded,) = decode_predictions(-np.arange(200)[None], 200, "tiny_imagenet")
    identifiers = [identifier for identifier, _, _ in decoded]
    assert identifiers == sorted(set(identifiers))
    assert len({name for _, name, _ in decoded}) == 200


@pytest.mark.parametrize(
    "classes, dataset", [(100, "cifar100"), (200, "tiny_imagenet")]
)
def test_the_number_of_classes_tells_the_dataset(classes, dataset):
    preds = np.random.default_rng(0).random((3, classes))
    assert decode_predictions(preds) == decode_predictions(preds, dataset=dataset)


def test_a_thousand_classes_are_those_of_imagenet(monkeypatch):
    # Whose names Keras would download.
    monkeypatch.setattr(
        keras.applications.imagenet_utils,
        "decode_predictions",
        lambda preds, top: (preds.shape, top),
    )
    assert decode_predictions(np.ones((2, 1000)), 3) == ((2, 1000), 3)


def test_names_given():
    (decoded,) = decode_predictions(
        keras.ops.convert_to_tensor([[0.1, 0.9]]), dataset=["cat", "dog"]
    )
    assert [name for name, _, _ in decoded] == ["dog", "cat"]


@pytest.mark.parametrize(
    "preds, dataset, message",
    [
        (np.ones((2, 10)), "cifar", r"`dataset`.*cifar100.*dataset='cifar'"),
        (np.ones((2, 10)), "../counts", r"`dataset`.*Received"),
        (np.ones((2, 10)), "cifar100", r"`preds`.*100 classes.*\(2, 10\)"),
        (np.ones(10), "cifar10", r"`preds`.*10 classes.*\(10,\)"),
        (np.ones((2, 10)), "imagenet2012", r"\(2, 10\)"),
        (np.ones((2, 10)), None, r"`dataset`.*'cifar10': 10.*\(2, 10\)"),
        (np.ones((2, 11)), None, r"`dataset`.*'cifar10': 10.*\(2, 11\)"),
        (np.ones(10), None, r"`dataset`.*\(10,\)"),
    ],
)
def test_what_cannot_be_named(preds, dataset, message):
    with pytest.raises(ValueError, match="(?s)" + message):
        decode_predictions(preds, dataset=dataset)
