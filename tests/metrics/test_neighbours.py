"""Nearest neighbours by hand, and what there is where there are few images."""

import warnings
from collections import Counter

import numpy as np
import pytest
from scipy.spatial import distance
from sklearn import manifold, metrics, neighbors

from dfloc.errors import DataError
from dfloc.metrics.neighbours import apart, nearest, plane, standardised


def by_hand(points: list[list[int]], classes: list[int], photographs: list[int], num: int) -> list[float]:
    """Vote image by image; whole numbers, so that equal distances are equal."""
    found = []
    for place, point in enumerate(points):
        others = [other for other in range(len(points)) if photographs[other] != photographs[place]]
        away = {other: sum((a - b) ** 2 for a, b in zip(point, points[other], strict=True)) for other in others}
        near = [classes[other] for other in sorted(others, key=lambda other: (away[other], other))[:num]]
        votes = Counter(near)
        winner = next((name for name in near if votes[name] == max(votes.values())), None)
        found.append(float("nan") if winner is None else float(winner == classes[place]))
    return found


@pytest.mark.parametrize("num", [1, 4, 10])
def test_neighbours_are_those_of_a_loop_by_hand_ties_too(num: int) -> None:
    rng = np.random.default_rng(num)
    points, classes, photographs = rng.integers(0, 3, (60, 2)), rng.integers(0, 3, 60), rng.integers(0, 9, 60)
    away = distance.squareform(distance.pdist(points))
    expected = by_hand(points.tolist(), classes.tolist(), photographs.tolist(), num)
    assert nearest(away, classes, photographs, num).tolist() == expected
    assert 0 < np.mean(expected) < 1


def test_without_ties_and_with_a_photograph_an_image_it_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(80) % 2
    points = rng.normal(size=(80, 5)) + classes[:, None]
    found = nearest(distance.squareform(distance.pdist(points)), classes, np.arange(80), 9)
    for place in range(80):
        rest = np.arange(80) != place
        judge = neighbors.KNeighborsClassifier(9).fit(points[rest], classes[rest])
        assert found[place] == (judge.predict(points[[place]])[0] == classes[place])


def test_images_of_the_own_photograph_do_not_vote() -> None:
    """Each photograph lies by itself: a real's nearest are its own fakes, and beyond them other reals."""
    photographs = np.repeat(np.arange(4), 3)
    classes = np.array([0, 1, 1] * 4)
    points = np.c_[10.0 * photographs, classes]
    away = distance.squareform(distance.pdist(points))
    assert nearest(away, classes, photographs, 1).mean() == 1
    assert nearest(away, classes, np.arange(12), 1)[classes == 0].mean() == 0


def test_one_photograph_has_no_neighbours() -> None:
    found = apart(np.random.default_rng(0).normal(size=(8, 3)), ["real", "lama"] * 4, ["a"] * 8)
    assert np.isnan(found.right_N).all()
    assert np.isfinite(found.xy_N2).all()


@pytest.mark.parametrize("photographs", [["a", "b"], ["a", "a"]])
def test_two_classes_of_one_image(photographs: list[str]) -> None:
    found = apart(np.array([[0.0, 1.0], [2.0, 1.0]]), ["real", "lama"], photographs)
    assert found.right_N.tolist() == [0, 0] if photographs[1] == "b" else np.isnan(found.right_N).all()
    assert np.isnan([*found.silhouette_N, *found.xy_N2.ravel(), found.trustworthiness]).all()


def test_equal_features_have_no_picture_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = apart(np.full((12, 4), 1 / 3), ["real", "lama"] * 6, [*"aabbccddeeff"])
    assert np.isnan(found.xy_N2).all()
    assert found.right_N.mean() == 0.5


def test_a_constant_feature_is_not_blown_up() -> None:
    rng = np.random.default_rng(0)
    noise = 5 + 1e-9 * rng.normal(size=20)
    found = standardised(np.c_[rng.normal(7, 3, 20), noise])
    np.testing.assert_allclose([found[:, 0].mean(), found[:, 0].std()], [0, 1], atol=1e-12)
    assert not found[:, 1].any()


def test_the_numbers_beside_are_scikit_learns_of_the_standardised_features() -> None:
    rng = np.random.default_rng(0)
    classes = [*("abc" * 20)]
    features = rng.normal(size=(60, 70)) * rng.uniform(0.1, 9, 70) + np.array([*map(ord, classes)])[:, None]
    found, standard = apart(features, classes, [str(place // 3) for place in range(60)]), standardised(features)
    assert found.silhouette_N.mean() == pytest.approx(metrics.silhouette_score(standard, classes))
    expected = manifold.trustworthiness(standard, found.xy_N2, n_neighbors=10)
    assert found.trustworthiness == pytest.approx(expected)
    assert np.array_equal(plane(standard), found.xy_N2)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="a feature is no finite number"):
        apart(np.array([[0.0], [np.inf]]), ["a", "b"], ["a", "b"])
