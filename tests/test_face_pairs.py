"""The protocols of LFW and YTF, against brute force and scikit-learn."""

import numpy as np
import pytest

from keras_shift.training import verification
from keras_shift.training.verification import (
    Pair,
    best_threshold,
    check_disjoint,
    evaluate_pairs,
    read_pairs,
    read_people,
    roc_area,
    roc_curve,
    similarities,
    video_similarity,
)


def random_pairs(count=60, seed=0, digits=None):
    """Similarities that tell something, and with few digits, several alike."""
    random = np.random.default_rng(seed)
    same = random.random(count) < 0.4
    values = random.normal(0.3 * same, 0.3)
    return (values if digits is None else values.round(digits)), same


class TestLists:
    def test_people(self, tmp_path):
        path = tmp_path / "people.txt"
        path.write_text("2\n2\nAda\t1\nAlan_T\t4\n1\nGrace\t2\n\n")
        assert read_people(path) == {"Ada": 1, "Alan_T": 4, "Grace": 2}

    def test_pairs_of_view_1(self, tmp_path):
        path = tmp_path / "pairs.txt"
        path.write_text("2\nA\t1\t2\nB\t3\t1\nA\t1\tB\t2\nC\t1\tA\t2\n")
        (fold,) = read_pairs(path)
        assert fold[0] == Pair(("A", 1), ("A", 2))
        assert fold[3] == Pair(("C", 1), ("A", 2))
        assert [pair.same for pair in fold] == [True, True, False, False]

    def test_pairs_of_view_2(self, tmp_path):
        path = tmp_path / "pairs.txt"
        fold = "A\t1\t2\nA\t1\tB\t2\n"
        path.write_text(f"3\t1\n{3 * fold}")
        assert [len(pairs) for pairs in read_pairs(path)] == [2, 2, 2]

    @pytest.mark.parametrize(
        "text, message",
        [
            ("", "must begin with a line of the number of pairs"),
            ("A\t1\t2\n", "must begin with"),
            ("x\n", "Line 1 of .* must have a number, 1 or more. Received: 'x'"),
            ("1\nA\t1\t2\n", "must have 2 pairs.*Received: 1"),
            ("1\nA\t1\n", "Line 2 .* a name and two numbers"),
            ("1\nA\t0\t2\n", "Line 2 .* a number, 1 or more. Received: '0'"),
            ("1\nA\t1\tB\t2\nA\t1\t2\n", "Line 2 .* must be a pair of one"),
            ("1\nA\t1\t2\nA\t1\t3\n", "Line 3 .* must be a pair of two people"),
        ],
    )
    def test_bad_pairs(self, tmp_path, text, message):
        path = tmp_path / "pairs.txt"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_pairs(path)

    def test_bad_people(self, tmp_path):
        path = tmp_path / "people.txt"
        for content, message in (
            (b"1\n", "names no people"),
            (b"1\nAda\t1\t2\n", "Line 2 .* a name and a number"),
            (b"\xff\xd8\xff\xe0", "is no text file"),
        ):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=message):
                read_people(path)

    def test_nobody_is_on_both_sides(self):
        pairs = [Pair(("A", 1), ("A", 2)), Pair(("A", 1), ("B", 1))]
        check_disjoint(["C"], pairs)
        with pytest.raises(ValueError, match="none of those.*Received: B, in both"):
            check_disjoint(["B", "C"], pairs)


class TestRoc:
    @pytest.mark.parametrize("digits", [None, 1])
    def test_area_is_the_share_of_pairs_in_order(self, digits):
        values, same = random_pairs(digits=digits)
        one, two = values[same][:, None], values[~same]
        expected = np.mean((one > two) + (one == two) / 2)
        assert roc_area(values, same) == pytest.approx(expected)

    @pytest.mark.parametrize("digits", [None, 1])
    def test_curve_is_that_of_scikit_learn(self, digits):
        metrics = pytest.importorskip("sklearn.metrics")
        values, same = random_pairs(digits=digits)
        expected = metrics.roc_curve(same, values, drop_intermediate=False)
        for found, wanted in zip(roc_curve(values, same), expected):
            np.testing.assert_allclose(found, wanted)
        area = metrics.roc_auc_score(same, values)
        assert roc_area(values, same) == pytest.approx(area)

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("digits", [None, 1])
    def test_no_threshold_is_better(self, seed, digits):
        values, same = random_pairs(seed=seed, digits=digits)
        levels = np.unique(values)
        others = np.concatenate([levels, [levels[-1] + 1]])
        best = max(np.mean((values >= level) == same) for level in others)
        threshold = best_threshold(values, same)
        assert np.mean((values >= threshold) == same) == best
        assert threshold not in values

    def test_extreme_thresholds(self):
        # Similarities that are the wrong way round: all pairs count as one, or none.
        assert best_threshold([0.1, 0.9, 0.8], [True, False, False]) > 0.9
        assert best_threshold([0.1, 0.9, 0.2], [True, False, True]) <= 0.1
        assert best_threshold([1, 9, 8], [True, False, False]) > 9

    def test_a_threshold_lies_above_the_neighbouring_float(self):
        above = np.nextafter(0.5, 1)
        assert best_threshold([above, 0.5], [True, False]) == above


class TestEvaluatePairs:
    def test_thresholds_are_chosen_on_the_other_folds(self):
        values, same = random_pairs(100)
        folds = np.arange(100) % 5
        result = evaluate_pairs(values, same, folds)
        shares = []
        for fold, threshold in enumerate(result.thresholds):
            rest = folds != fold
            assert threshold == best_threshold(values[rest], same[rest])
            shares.append(np.mean((values >= threshold)[~rest] == same[~rest]))
        assert result.accuracy == pytest.approx(np.mean(shares))
        assert result.accuracy_deviation == pytest.approx(np.std(shares, ddof=1))
        assert result.roc_area == roc_area(values, same)
        assert result.pairs == 100
        # A fold's own pairs do not move its threshold.
        values[folds == 2] = 0.0
        assert evaluate_pairs(values, same, folds).thresholds[2] == result.thresholds[2]

    def test_intervals(self):
        values, same = random_pairs(1000)
        result = evaluate_pairs(values, same)
        low, high = result.accuracy_interval
        assert low < result.accuracy < high
        # The interval of a share of independent pairs, about.
        error = (result.accuracy * (1 - result.accuracy) / 1000) ** 0.5
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
        # That of an area, by Hanley and McNeil (1982).
        area, ones = result.roc_area, same.sum()
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        variance = area * (1 - area) + (ones - 1) * (q1 - area**2)
        variance += (999 - ones) * (q2 - area**2)
        error = (variance / (ones * (1000 - ones))) ** 0.5
        low, high = result.roc_area_interval
        assert low < area < high
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
        assert evaluate_pairs(values, same) == result
        assert f"{result.accuracy:.1%} of 1000 pairs" in str(result)

    def test_folds_without_numbers_have_both_kinds(self):
        # If those of one kind came first, and folds were cut from the front, thresholds
        # could not be chosen.
        same = np.arange(40) < 20
        result = evaluate_pairs(same.astype(float), same)
        assert len(result.thresholds) == 10 and result.accuracy == 1
        assert result.accuracy_interval == result.roc_area_interval == (1, 1)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (([0.1, 0.2], [True]), "must have the same shape"),
            (([0.1, 0.2], [True, True]), "pairs of one person and pairs of two"),
            (([0.1, np.nan], [True, False]), "must hold numbers.*1 that are none"),
            (([0.1, 0.2], [True, False], [0]), "`folds` must have a number for each"),
            (([0.1, 0.2], [True, False], [3, 3]), "two folds at least"),
            (([0.1, 0.2], [True, False]), "two folds|pairs of one person"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            evaluate_pairs(*arguments)


class TestSimilarities:
    def test_is_the_cosine_of_the_angle(self):
        random = np.random.default_rng(0)
        first, second = random.normal(size=(2, 5, 3))
        expected = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(first, second)]
        np.testing.assert_allclose(similarities(first, second), expected)
        np.testing.assert_array_equal(similarities(np.zeros((1, 3)), first[:1]), [0])
        with pytest.raises(ValueError, match="must have the same shape"):
            similarities(first, second[:2])

    def test_video(self):
        random = np.random.default_rng(0)
        first, second = random.normal(size=(4, 3)), random.normal(size=(7, 3))
        every = similarities(np.repeat(first, 7, 0), np.tile(second, (4, 1)))
        found = video_similarity(first, second)
        assert found == video_similarity(first, second)
        assert found != video_similarity(first, second, seed=1)
        # Of 100 pairs, the mean is near that of all.
        assert found == pytest.approx(every.mean(), abs=4 * every.std() / 10)
        many = video_similarity(first, second, frame_pairs=100_000)
        assert many == pytest.approx(every.mean(), abs=4 * every.std() / 300)
        one = video_similarity(first[:1], second[:1])
        assert one == pytest.approx(similarities(first[:1], second[:1])[0])
        for arguments in ((first[:0], second), (first[0], second)):
            with pytest.raises(ValueError, match="one frame at least"):
                video_similarity(*arguments)
        assert video_similarity(first, second, 10.0) == video_similarity(
            first, second, 10
        )
        for frame_pairs in (0, 1.5):
            with pytest.raises(ValueError, match="`frame_pairs` must be a positive"):
                video_similarity(first, second, frame_pairs)


def test_names_are_public():
    assert verification.Pair is Pair
