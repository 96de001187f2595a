"""Numbers of attribution against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from dfloc.errors import DataError
from dfloc.metrics import classes

K = 4


def drawn(seed: int, counts: tuple[int, ...], digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, K] and labels; of few digits, many are equal."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    prob = rng.dirichlet(np.ones(len(counts)), len(label))
    prob[np.arange(len(label)), label] += rng.uniform(0, 0.5, len(label))
    return np.round(prob, digits), label


@pytest.mark.parametrize(("counts", "digits"), [((30, 30, 30, 30), 9), ((50, 3, 20, 7), 9), ((40, 9, 9, 9), 1)])
def test_recall_confusion_and_macro_ap_are_scikit_learns(counts: tuple[int, ...], digits: int) -> None:
    prob, label = drawn(0, counts, digits)
    called = prob.argmax(1)
    np.testing.assert_array_equal(classes.confusion(label, called, K), sk.confusion_matrix(label, called))
    np.testing.assert_allclose(classes.recall(label, called, K), sk.recall_score(label, called, average=None))
    assert classes.balanced_accuracy(label, called, K) == pytest.approx(sk.balanced_accuracy_score(label, called))
    onehot = np.eye(K)[label]
    assert classes.macro_ap(prob, label) == pytest.approx(sk.average_precision_score(onehot, prob), abs=1e-12)
    weights = 1 / np.array(counts)[label]
    expected = sk.average_precision_score(onehot, prob, sample_weight=weights)
    assert classes.macro_ap(prob, label, balanced=True) == pytest.approx(expected, abs=1e-12)


def test_a_balanced_macro_ap_does_not_depend_on_how_many_images_a_class_has() -> None:
    prob, label = drawn(1, (20, 20, 20, 20))
    often = np.repeat(np.arange(len(label)), np.where(label == 2, 7, 1))
    found = [classes.macro_ap(prob[rows], label[rows], balanced=True) for rows in (slice(None), often)]
    assert found[0] == pytest.approx(found[1], abs=1e-12)
    assert classes.macro_ap(prob[often], label[often]) != pytest.approx(classes.macro_ap(prob, label), abs=1e-3)


def test_some_classes_alone() -> None:
    prob, label = drawn(2, (30, 25, 20, 10))
    pair = np.isin(label, (0, 2))
    expected = np.mean([sk.average_precision_score(label[pair] == k, prob[pair, k]) for k in (0, 2)])
    assert classes.macro_ap(prob[pair], label[pair], classes=(0, 2)) == pytest.approx(expected, abs=1e-12)


def test_the_order_of_images_is_no_matter() -> None:
    prob, label = drawn(3, (31, 7, 100, 3), 1)
    mixed = np.random.default_rng(0).permutation(len(label))
    for balanced in (False, True):
        found = [classes.macro_ap(prob[rows], label[rows], balanced=balanced) for rows in (slice(None), mixed)]
        assert found[0] == pytest.approx(found[1], abs=1e-14)


def test_an_image_of_no_class_counts_for_none() -> None:
    label, called = np.array([0, 1, -1, -1]), np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(classes.confusion(label, called, 2), [[1, 0], [1, 0]])


def test_a_class_without_images_has_no_number() -> None:
    prob, label = drawn(4, (5, 0, 5, 5))
    assert np.isnan(classes.recall(label, prob.argmax(1), K)).tolist() == [False, True, False, False]
    with pytest.raises(DataError, match="came none of class 1"):
        classes.balanced_accuracy(label, prob.argmax(1), K)
    with pytest.raises(DataError, match="came none of class 1"):
        classes.macro_ap(prob, label)
    with pytest.raises(DataError, match="two classes at least"):
        classes.macro_ap(prob, np.zeros(len(prob), np.int64), classes=(0,))


def test_a_probability_that_is_no_number_is_refused() -> None:
    prob, label = drawn(5, (5, 5, 5, 5))
    prob[3, 1] = np.nan
    with pytest.raises(DataError, match="score 3 of a class is nan, expected a finite number"):
        classes.macro_ap(prob, label)
