"""Numbers of image-level scores, against scikit-learn with each class weighing a half, and by hand."""

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn import calibration
from sklearn import metrics as sk

from dfloc.errors import DataError
from dfloc.metrics import image

FUNCTIONS = (
    *(image.image_ap, image.image_auc, image.image_eer, image.image_accuracy),
    *(image.image_threshold, image.image_ece, image.image_brier),
)


def drawn(seed: int, fakes: int, reals: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores that overlap; of few levels, many are equal, 0, 0.5 and 1 among them."""
    rng = np.random.default_rng(seed)
    pair = rng.beta(3, 2, fakes), rng.beta(2, 3, reals)
    return tuple(np.round(each * levels) / levels for each in pair) if levels else pair


CASES = [
    drawn(0, 40, 60),
    drawn(1, 900, 8472),
    drawn(2, 30, 7, 4),
    drawn(3, 1, 5),
    drawn(4, 50, 50, 10),
    (np.full(3, 0.7), np.full(9, 0.7)),
    (np.array([0.9, 1.0]), np.array([0.0, 0.2, 0.1])),
    (np.array([0.0, 0.1]), np.array([0.8, 1.0, 1.0])),
]


def labelled(fake: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """The same as scikit-learn takes it."""
    return {
        "y_true": np.r_[np.ones(len(fake)), np.zeros(len(real))],
        "sample_weight": np.r_[np.full(len(fake), 0.5 / len(fake)), np.full(len(real), 0.5 / len(real))],
    }


@pytest.mark.parametrize(("fake", "real"), CASES)
def test_ap_auc_accuracy_and_brier_are_scikit_learns(fake: np.ndarray, real: np.ndarray) -> None:
    score, given = np.r_[fake, real], labelled(fake, real)
    assert image.image_ap(fake, real) == pytest.approx(sk.average_precision_score(y_score=score, **given), abs=1e-12)
    assert image.image_auc(fake, real) == pytest.approx(sk.roc_auc_score(y_score=score, **given), abs=1e-12)
    assert image.image_brier(fake, real) == pytest.approx(sk.brier_score_loss(y_proba=score, **given), abs=1e-12)
    expected = sk.balanced_accuracy_score(given["y_true"], score > 0.5)
    assert image.image_accuracy(fake, real) == pytest.approx(expected, abs=1e-12)
    assert image.image_tpr(fake) == pytest.approx(sk.recall_score(given["y_true"], score > 0.5), abs=1e-12)
    assert image.image_tnr(real) == pytest.approx(sk.recall_score(given["y_true"], score > 0.5, pos_label=0), abs=1e-12)


@pytest.mark.parametrize(("fake", "real"), CASES)
def test_eer_is_where_the_roc_meets_the_falling_diagonal(fake: np.ndarray, real: np.ndarray) -> None:
    fpr, tpr, _ = sk.roc_curve(labelled(fake, real)["y_true"], np.r_[fake, real], drop_intermediate=False)
    along = np.arange(len(fpr))

    def over(place: float) -> float:
        return np.interp(place, along, fpr) + np.interp(place, along, tpr) - 1

    place = brentq(over, 0, len(fpr) - 1, xtol=1e-14)
    assert image.image_eer(fake, real) == pytest.approx(np.interp(place, along, fpr), abs=1e-9)


def test_eer_by_hand() -> None:
    # three fakes and two reals: the curve goes (0, 0) (0, 1/3) (1/2, 1/3) (1/2, 1): it crosses at 1/2 on its way up
    assert image.image_eer(np.array([0.9, 0.3, 0.2]), np.array([0.8, 0.1])) == pytest.approx(0.5)
    # equal scores are crossed on a slope: from (0, 1/2) to (1/2, 1), where fpr = 1 - tpr at 1/4
    assert image.image_eer(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == pytest.approx(0.25)


def test_a_constant_score_tells_nothing() -> None:
    fake, real = np.full(5, 0.8), np.full(90, 0.8)
    assert [of(fake, real) for of in (image.image_ap, image.image_auc, image.image_eer)] == [0.5, 0.5, 0.5]
    assert image.image_accuracy(fake, real) == 0.5
    assert image.image_ece(fake, real) == pytest.approx(0.3)


def test_more_reals_do_not_move_a_number() -> None:
    fake, real = drawn(5, 40, 30, 8)
    for of in FUNCTIONS:
        assert of(fake, np.tile(real, 9)) == pytest.approx(of(fake, real), abs=1e-12), of.__name__


def test_balanced_draws_give_the_same_ap_on_average() -> None:
    fake, real = drawn(6, 60, 600)
    rng = np.random.default_rng(0)
    drawn_ap = np.mean([image.image_ap(fake, rng.choice(real, 60, replace=False)) for _ in range(400)])
    assert image.image_ap(fake, real) == pytest.approx(drawn_ap, abs=0.01)


@pytest.mark.parametrize("levels", [None, 5])
def test_the_order_of_images_is_no_matter(levels: int | None) -> None:
    fake, real = drawn(7, 200, 331, levels)
    rng = np.random.default_rng(1)
    for of in FUNCTIONS:
        assert of(rng.permutation(fake), rng.permutation(real)) == pytest.approx(of(fake, real), abs=1e-14), of.__name__


@pytest.mark.parametrize(("fake", "real"), CASES)
def test_the_threshold_is_the_best_one(fake: np.ndarray, real: np.ndarray) -> None:
    found = image.image_threshold(fake, real)
    tried = np.linspace(0, 1, 2001)
    best = max(image.image_accuracy(fake, real, each) for each in tried)
    assert image.image_accuracy(fake, real, found) >= best - 1e-12
    assert 0 <= found <= 1


def test_of_equally_good_thresholds_the_nearest_to_a_half_is_taken() -> None:
    assert image.image_threshold(np.array([0.9]), np.array([0.1])) == 0.5
    assert image.image_threshold(np.array([0.3]), np.array([0.1])) == pytest.approx(0.2)
    # over 0.75 and over 0.15 three of four are right, over 0.5 two
    assert image.image_threshold(np.array([0.8, 0.2]), np.array([0.7, 0.1])) == pytest.approx(0.75)
    assert image.image_threshold(np.array([0.1, 0.2]), np.array([0.6, 0.9])) == pytest.approx(0.95), "none is fake"
    assert image.image_threshold(np.array([0.0]), np.array([0.0])) == 0.5


def test_a_threshold_lies_between_neighbouring_floats() -> None:
    real = np.array([0.75])
    fake = np.nextafter(real, 1)
    found = image.image_threshold(fake, real)
    assert image.image_accuracy(fake, real, found) == 1
    top = np.array([1.0])
    assert image.image_accuracy(top, np.nextafter(top, 0), image.image_threshold(top, np.nextafter(top, 0))) == 1
    low = np.array([5e-324])
    assert image.image_accuracy(low, np.array([0.0]), image.image_threshold(low, np.array([0.0]))) == 1


def test_ece_is_that_of_scikit_learns_quantile_bins() -> None:
    fake, real = drawn(8, 750, 750)
    true, said = calibration.calibration_curve(
        labelled(fake, real)["y_true"], np.r_[fake, real], n_bins=15, strategy="quantile"
    )
    assert image.image_ece(fake, real) == pytest.approx(np.abs(true - said).mean(), abs=1e-12)


def test_ece_by_hand() -> None:
    # two bins: the two lowest and the two highest scores; .2 and .6 on average, of which 0 and 1 are fake
    assert image.image_ece(np.array([0.9, 0.7]), np.array([0.1, 0.3]), bins=2) == pytest.approx((0.2 + 0.2) / 2)
    # equal scores are never parted: one bin holds all three quarters of the weight
    assert image.image_ece(np.array([0.5, 0.5]), np.array([0.5, 0.0]), bins=2) == pytest.approx(
        0.75 * abs(0.5 - 0.5 / 0.75) + 0.25 * 0
    )


def test_a_calibrated_score_has_almost_no_ece() -> None:
    rng = np.random.default_rng(2)
    score = rng.uniform(size=200_000)
    is_fake = rng.uniform(size=score.size) < score
    assert image.image_ece(score[is_fake], score[~is_fake]) < 0.01
    assert image.image_ece(score[is_fake] / 2, score[~is_fake] / 2) > 0.2


def test_a_million_scores() -> None:
    fake, real = drawn(9, 700_000, 300_000)
    given = labelled(fake, real)
    assert image.image_auc(fake, real) == pytest.approx(sk.roc_auc_score(given["y_true"], np.r_[fake, real]), abs=1e-12)
    assert image.image_ap(fake, real) == pytest.approx(
        sk.average_precision_score(y_score=np.r_[fake, real], **given), abs=1e-9
    )
    assert 0 < image.image_ece(fake, real) < 0.5
    assert image.image_accuracy(fake, real, image.image_threshold(fake, real)) >= image.image_accuracy(fake, real)


@pytest.mark.parametrize("of", FUNCTIONS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(of, wrong: float) -> None:
    good = np.array([0.2, 0.4])
    with pytest.raises(DataError, match=rf"score 1 of the fakes is {wrong:g}, expected a finite number"):
        of(np.array([0.1, wrong]), good)
    with pytest.raises(DataError, match="score 0 of the reals"):
        of(good, np.array([wrong]))


@pytest.mark.parametrize("of", FUNCTIONS)
def test_what_is_no_list_of_scores_is_refused(of) -> None:
    good = np.array([0.2, 0.4])
    for wrong in (np.empty(0), np.ones((2, 2)), np.float64(0.5)):
        with pytest.raises(DataError, match=r"expected scores of reals as \[N\], at least one"):
            of(good, wrong)
    with pytest.raises(DataError, match="expected scores of fakes as numbers"):
        of(np.array(["fake"]), good)
    with pytest.raises(DataError, match="expected scores of fakes as numbers"):
        of(np.array([{}, None]), good)


@pytest.mark.parametrize("of", [image.image_threshold, image.image_ece, image.image_brier])
def test_what_needs_a_probability_refuses_a_logit(of) -> None:
    with pytest.raises(DataError, match=r"score 0 of the fakes is 2.5, expected a probability in \[0, 1\]"):
        of(np.array([2.5]), np.array([0.1]))


def test_ranking_takes_scores_of_any_scale() -> None:
    fake, real = drawn(10, 80, 50)
    logits = [np.log(each / (1 - each)) * 1e300 for each in (fake, real)]
    for of in (image.image_ap, image.image_auc, image.image_eer):
        assert of(*logits) == pytest.approx(of(fake, real), abs=1e-12)
