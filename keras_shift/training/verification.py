"""Tells how well embeddings verify people: the protocols of LFW and of YTF."""

import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_shift.integers import positive_integer

# For an interval, pairs are drawn anew so many times. It has this part of the results.
_RESAMPLES = 2000
_CONFIDENCE = 0.95


class Pair(NamedTuple):
    """Two images, each by the name of its person and its number, counted from 1.

    Attributes:
        first: Tuple `(person, number)`.
        second: Tuple `(person, number)`.
    """

    first: tuple[str, int]
    second: tuple[str, int]

    @property
    def same(self) -> bool:
        """Whether both images are of one person."""
        return self.first[0] == self.second[0]


@dataclasses.dataclass(frozen=True)
class VerificationResult:
    """How well similarities tell pairs of one person from pairs of two.

    Attributes:
        accuracy: Mean over the folds of the share of pairs that are judged rightly.
        accuracy_deviation: Standard deviation of the folds' accuracies, as the papers
            print it behind the accuracy.
        accuracy_interval: Bootstrap interval of 95% of the accuracy, a tuple.
        roc_area: Area under the ROC curve of all pairs.
        roc_area_interval: Bootstrap interval of 95% of that area, a tuple.
        thresholds: For each fold, the similarity from which on two images count as
            those of one person. It was chosen on the other folds.
        pairs: Number of pairs.
    """

    accuracy: float
    accuracy_deviation: float
    accuracy_interval: tuple[float, float]
    roc_area: float
    roc_area_interval: tuple[float, float]
    thresholds: tuple[float, ...]
    pairs: int

    def __str__(self) -> str:
        low, high = self.accuracy_interval
        area_low, area_high = self.roc_area_interval
        return (
            f"{self.accuracy:.1%} of {self.pairs} pairs (95% interval {low:.1%} to "
            f"{high:.1%}; {self.accuracy_deviation:.1%} between folds), ROC area "
            f"{self.roc_area:.1%} ({area_low:.1%} to {area_high:.1%})"
        )


def read_people(path: str | os.PathLike[str]) -> dict[str, int]:
    """Reads a file of people, as those of LFW are.

    It has the number of people in its first line, and then a line for each with the
    name and the number of images. That is how peopleDevTrain.txt and peopleDevTest.txt
    of View 1 are; people.txt of View 2 begins with the number of folds, each of which
    is such a list.

    Example:

    >>> with open("people.txt", "w") as file:
    ...     characters = file.write("2\\nAda_Lovelace\\t1\\nAlan_Turing\\t3\\n")
    >>> keras_shift.training.verification.read_people("people.txt")
    {'Ada_Lovelace': 1, 'Alan_Turing': 3}

    Args:
        path: Path of the file.

    Returns:
        A dict from names to numbers of images.

    Raises:
        ValueError: If the file is none of these.
    """
    people = {}
    for place, fields in _lines(path):
        if len(fields) == 1:
            _number(place, fields[0])
            continue
        if len(fields) != 2:
            raise ValueError(
                f"{place} must be a name and a number of images, with a tab between "
                f"them. Received: {fields}"
            )
        people[fields[0]] = _number(place, fields[1])
    if not people:
        raise ValueError(f"{path} names no people.")
    return people


def read_pairs(path: str | os.PathLike[str]) -> list[list[Pair]]:
    """Reads a file of pairs, as those of LFW are.

    Its first line has the number of folds, which may be left out if it is one, and the
    number of pairs of one person in each. A fold has as many lines "name, number,
    number", which are pairs of one person, and then as many lines "name, number, name,
    number", which are pairs of two. View 1 (pairsDevTrain.txt, pairsDevTest.txt) has
    one fold, and View 2 (pairs.txt) has ten.

    Example:

    >>> with open("pairs.txt", "w") as file:
    ...     characters = file.write("1\\nA\\t1\\t3\\nA\\t2\\tB\\t1\\n")
    >>> ((one, two),) = keras_shift.training.verification.read_pairs("pairs.txt")
    >>> one
    Pair(first=('A', 1), second=('A', 3))
    >>> two.same
    False

    Args:
        path: Path of the file.

    Returns:
        A list with a list of `Pair`s for each fold.

    Raises:
        ValueError: If the file is none of these.
    """
    lines = _lines(path)
    if not lines or len(lines[0][1]) > 2:
        raise ValueError(
            f"{path} must begin with a line of the number of pairs, or of the numbers "
            "of folds and pairs."
        )
    place, fields = lines[0]
    numbers = [_number(place, field) for field in fields]
    folds, count = numbers if len(numbers) == 2 else (1, numbers[0])
    pairs: list[Pair] = []
    for place, fields in lines[1:]:
        if len(fields) not in (3, 4):
            raise ValueError(
                f"{place} must be a name and two numbers of images, or two of each, "
                f"with tabs between them. Received: {fields}"
            )
        name, number, *others = fields
        second = others if len(others) == 2 else [name, *others]
        pair = Pair(
            (name, _number(place, number)), (second[0], _number(place, second[1]))
        )
        if pair.same != (len(pairs) % (2 * count) < count):
            raise ValueError(
                f"{place} must be a pair of {'two people' if pair.same else 'one'}: "
                f"in every fold, {count} pairs of one person come first, and then as "
                f"many of two. Received: {fields}"
            )
        pairs.append(pair)
    if len(pairs) != 2 * folds * count:
        raise ValueError(
            f"{path} must have {2 * folds * count} pairs, as its first line says. "
            f"Received: {len(pairs)}"
        )
    return [
        pairs[first : first + 2 * count] for first in range(0, len(pairs), 2 * count)
    ]


def check_disjoint(people: Collection[str], pairs: Sequence[Pair]) -> None:
    """Checks that no one in some pairs is among the people of a training.

    Args:
        people: Names of the people of the training.
        pairs: A list of `Pair`s.

    Raises:
        ValueError: If somebody is.
    """
    shared = sorted({name for pair in pairs for name, _ in pair} & set(people))
    if shared:
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        raise ValueError(
            "The people of the pairs must be none of those that the network is trained "
            f"on. Received: {', '.join(shared[:3])}{more}, in both"
        )


def similarities(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Returns the cosine of the angle between the embeddings of each pair.

    Example:

    >>> keras_shift.training.verification.similarities([[3, 4]], [[8, 6]])
    array([0.96])

    Args:
        first: Array of shape `(pairs, embedding_dim)`, the embeddings of the pairs'
            first images.
        second: Array of the same shape, those of the second ones.

    Returns:
        An array of shape `(pairs,)`, from -1 to 1.

    Raises:
        ValueError: If the shapes differ.
    """
    one, two = np.asarray(first, "float64"), np.asarray(second, "float64")
    if one.shape != two.shape or one.ndim != 2:
        raise ValueError(
            "Arguments `first` and `second` must have the same shape (pairs, "
            f"embedding_dim). Received: first.shape={one.shape}, "
            f"second.shape={two.shape}"
        )
    return (_of_length_one(one) * _of_length_one(two)).sum(axis=1)


def video_similarity(
    first: ArrayLike, second: ArrayLike, frame_pairs: int = 100, seed: int = 0
) -> float:
    """Returns the similarity of two videos, the mean one of random pairs of frames.

    This is the protocol of the YouTube Faces in the ShiftNet paper, which has it from
    FaceNet. Similarities of pairs of videos go to `evaluate_pairs`, as those of images
    do.

    Example:

    >>> frames = np.eye(3)
    >>> keras_shift.training.verification.video_similarity(frames[:1], frames[1:])
    0.0

    Args:
        first: Array of shape `(frames, embedding_dim)`, the embeddings of a video's
            frames.
        second: Array of shape `(frames, embedding_dim)`, those of the other's, of which
            there may be more or fewer.
        frame_pairs: Int, number of pairs, each of a frame of either video, drawn with
            replacement. Defaults to `100`.
        seed: Int, seed of the choice. Defaults to `0`.

    Returns:
        A float from -1 to 1.

    Raises:
        ValueError: If an argument is none of the above.
    """
    videos = [np.asarray(first, "float64"), np.asarray(second, "float64")]
    if any(video.ndim != 2 or not video.size for video in videos):
        raise ValueError(
            "Arguments `first` and `second` must have the shape (frames, "
            "embedding_dim), and one frame at least. Received: first.shape="
            f"{videos[0].shape}, second.shape={videos[1].shape}"
        )
    frame_pairs = positive_integer("frame_pairs", frame_pairs)
    random = np.random.default_rng(seed)
    chosen = [video[random.integers(len(video), size=frame_pairs)] for video in videos]
    return float(similarities(*chosen).mean())


def evaluate_pairs(
    similarities: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike | None = None,
    seed: int = 0,
) -> VerificationResult:
    """Judges pairs by their similarities, and tells how often that is right.

    The pairs of a fold are judged by a threshold, which is the one that judges the
    pairs of all other folds best (LFW's View 2). Intervals are bootstrap ones: what
    95% of the results are within if as many pairs are drawn anew with replacement, as
    many of one person and as many of two as there are. The threshold stays, and that
    some people are in several pairs is left out of account.

    Example:

    >>> result = keras_shift.training.verification.evaluate_pairs(
    ...     [0.9, 0.1, 0.8, 0.3], [True, False, True, False], folds=[0, 0, 1, 1]
    ... )
    >>> result.accuracy
    1.0

    Args:
        similarities: Array of shape `(pairs,)`, larger for images that look more alike.
        same: Array of shape `(pairs,)`, whether the images are those of one person.
        folds: Array of shape `(pairs,)`, the number of each pair's fold, or `None` for
            ten folds, over which the pairs of one person and those of two are dealt out
            in turns. Defaults to `None`.
        seed: Int, seed of the intervals. Defaults to `0`.

    Returns:
        A `VerificationResult`.

    Raises:
        ValueError: If the shapes differ, or there are not two folds that have a pair of
            one person and one of two.
    """
    values, truth = _checked(similarities, same)
    numbers = _dealt(truth, 10) if folds is None else np.asarray(folds)
    if numbers.shape != truth.shape:
        raise ValueError(
            "Argument `folds` must have a number for each pair. "
            f"Received: folds.shape={numbers.shape} for {len(truth)} pairs"
        )
    names = np.unique(numbers)
    if len(names) < 2:
        raise ValueError(
            "The pairs must be those of two folds at least, since the threshold of "
            f"each is chosen on the others. Received: {len(names)}"
        )
    thresholds, right = [], np.empty(len(truth), bool)
    for name in names:
        fold = numbers == name
        thresholds.append(best_threshold(values[~fold], truth[~fold]))
        right[fold] = (values[fold] >= thresholds[-1]) == truth[fold]
    accuracies = [right[numbers == name].mean() for name in names]
    random = np.random.default_rng(seed)
    sides = [np.flatnonzero(truth), np.flatnonzero(~truth)]
    levels = np.unique(values, return_inverse=True)[1]
    accuracy_draws, area_draws = [], []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([random.choice(side, len(side)) for side in sides])
        accuracy_draws.append(right[drawn].mean())
        area_draws.append(_area(levels[drawn], truth[drawn]))
    return VerificationResult(
        accuracy=float(np.mean(accuracies)),
        accuracy_deviation=float(np.std(accuracies, ddof=1)),
        accuracy_interval=_interval(accuracy_draws),
        roc_area=roc_area(values, truth),
        roc_area_interval=_interval(area_draws),
        thresholds=tuple(thresholds),
        pairs=len(truth),
    )


def best_threshold(similarities: ArrayLike, same: ArrayLike) -> float:
    """Returns the similarity that divides most pairs rightly.

    Example:

    >>> keras_shift.training.verification.best_threshold(
    ...     [0.75, 0.25, 0.5], [True, False, True]
    ... )
    0.375

    Args:
        similarities: Array of shape `(pairs,)`.
        same: Array of shape `(pairs,)`, whether the images are those of one person.

    Returns:
        A float. Pairs that are as similar, or more so, count as those of one person. It
        lies between the similarities of two pairs, and of several that are as good, it
        is the one in the middle.

    Raises:
        ValueError: If the shapes differ, or all pairs are of one kind.
    """
    false_positives, true_positives, levels = _counts(*_checked(similarities, same))
    right = true_positives - false_positives
    best = np.flatnonzero(right == right.max())
    index = best[len(best) // 2]
    # The threshold lies below the last level that counts as one person, and above the
    # next.
    here, below = levels[index], levels[min(index + 1, len(levels) - 1)]
    if not np.isfinite(here):
        return float(np.nextafter(below, np.inf))
    middle = (here + below) / 2
    # The middle of neighbouring floats may be the lower one, whose pairs must not pass.
    return float(middle if middle > below else here)


def roc_curve(
    similarities: ArrayLike, same: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ROC curve, from the strictest threshold to the most lenient one.

    Example:

    >>> rates = keras_shift.training.verification.roc_curve(
    ...     [0.9, 0.8, 0.1], [True, False, True]
    ... )
    >>> rates[0].tolist(), rates[1].tolist()
    ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])

    Args:
        similarities: Array of shape `(pairs,)`.
        same: Array of shape `(pairs,)`, whether the images are those of one person.

    Returns:
        Tuple of two arrays: shares of the pairs of two people, and of those of one,
        which count as those of one person.

    Raises:
        ValueError: If the shapes differ, or all pairs are of one kind.
    """
    false_positives, true_positives, _ = _counts(*_checked(similarities, same))
    return false_positives / false_positives[-1], true_positives / true_positives[-1]


def roc_area(similarities: ArrayLike, same: ArrayLike) -> float:
    """Returns the area under the ROC curve.

    It is the probability that a pair of one person is more similar than a pair of two.

    Example:

    >>> keras_shift.training.verification.roc_area(
    ...     [0.9, 0.8, 0.1], [True, False, True]
    ... )
    0.5

    Args:
        similarities: Array of shape `(pairs,)`.
        same: Array of shape `(pairs,)`, whether the images are those of one person.

    Returns:
        A float from 0 to 1.

    Raises:
        ValueError: If the shapes differ, or all pairs are of one kind.
    """
    values, truth = _checked(similarities, same)
    return _area(np.unique(values, return_inverse=True)[1], truth)


def _area(levels, truth):
    """Returns the ROC area of pairs whose similarities have the ranks `levels`."""
    count = levels.max() + 1
    ones = np.bincount(levels[truth], minlength=count)
    twos = np.bincount(levels[~truth], minlength=count)
    # Pairs that are as similar as each other count one half.
    below = np.cumsum(twos) - twos / 2
    return float(ones @ below / (ones.sum() * twos.sum()))


def _counts(values, truth):
    """Counts both kinds of pairs above each level of similarity, from infinity down."""
    order = np.argsort(-values, kind="stable")
    levels = values[order]
    # Pairs of one similarity are on one side of every threshold.
    last = np.append(np.flatnonzero(np.diff(levels)), len(levels) - 1)
    true_positives = np.append(0, np.cumsum(truth[order])[last])
    false_positives = np.append(0, np.cumsum(~truth[order])[last])
    return false_positives, true_positives, np.append(np.inf, levels[last])


def _checked(values, same):
    values, truth = np.asarray(values, "float64"), np.asarray(same, bool)
    if values.shape != truth.shape or values.ndim != 1:
        raise ValueError(
            "Arguments `similarities` and `same` must have the same shape (pairs,). "
            f"Received: similarities.shape={values.shape}, same.shape={truth.shape}"
        )
    if np.isnan(values).any():
        raise ValueError(
            "Argument `similarities` must hold numbers. Received: "
            f"{np.isnan(values).sum()} that are none"
        )
    if truth.all() or not truth.any():
        raise ValueError(
            "There must be pairs of one person and pairs of two. "
            f"Received: {truth.sum()} and {(~truth).sum()}"
        )
    return values, truth


def _dealt(truth, folds):
    """Returns a fold for each pair, in turns for either kind of pairs."""
    numbers = np.empty(len(truth), int)
    for kind in (truth, ~truth):
        numbers[kind] = np.arange(kind.sum()) % folds
    return numbers


def _interval(results):
    rest = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(results, [rest, 1 - rest])
    return float(low), float(high)


def _of_length_one(embeddings):
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    # An embedding of zeros is like no other one.
    return embeddings / np.where(lengths, lengths, 1)


def _lines(path: Any) -> list[tuple[str, list[str]]]:
    """Returns the lines that are not empty, with their places, divided at tabs."""
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from error
    return [
        (f"Line {number} of {path}", line.split("\t"))
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]


def _number(place, text):
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(f"{place} must have a number, 1 or more. Received: {text!r}")
    return int(text)
