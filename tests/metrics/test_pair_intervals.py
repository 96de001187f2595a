"""Intervals of numbers of fakes and reals together: by hand, and how often they hold the true number."""

import numpy as np
import pyarrow as pa
import pytest

from dfloc.errors import DataError
from dfloc.metrics import summarise_pair
from dfloc.metrics.pair_intervals import interval
from tests.metrics.image_rows import detected


def trained(rows: pa.Table, draw: int = 0, seed: int = 0) -> pa.Table:
    for name, value in (("draw", draw), ("seed", seed)):
        rows = rows.append_column(name, pa.array(np.full(len(rows), value)))
    return rows


def drawn(seed: int, num_fakes: int, num_reals: int) -> tuple[pa.Table, pa.Table]:
    """Of photographs that are not the same."""
    rng = np.random.default_rng(seed)
    fakes = detected(
        "image-1", "a/lama", rng.beta(2, 1.5, num_fakes).tolist(), stems=[f"f{k}" for k in range(num_fakes)]
    )
    reals = detected(
        "image-1", "a/real", rng.beta(1.5, 2, num_reals).tolist(), stems=[f"r{k}" for k in range(num_reals)]
    )
    return trained(fakes), trained(reals)


def test_the_interval_of_balanced_accuracy_is_that_of_two_shares() -> None:
    fakes, reals = drawn(0, 200, 50)
    found = interval(fakes, reals, "image-1", "image_accuracy")
    pair = summarise_pair(fakes, reals, "image-1")
    tpr, tnr = pair["image_tpr"], pair["image_tnr"]
    error = np.sqrt(tpr * (1 - tpr) / 199 + tnr * (1 - tnr) / 49) / 2
    assert found.estimate == pytest.approx(pair["image_accuracy"])
    assert (found.high - found.low) / 2 == pytest.approx(2.0096 * error, rel=1e-3)  # t of 49 degrees of freedom
    assert found.num_photographs == 250


def test_a_real_and_its_fake_are_one_source_image() -> None:
    right = [0.9, 0.9, 0.9, 0.1] * 10
    fakes = trained(detected("image-1", "a/lama", right))
    alike = trained(detected("image-1", "a/real", [1 - score for score in right]))
    unlike = trained(detected("image-1", "a/real", [1 - score for score in right[3:] + right[:3]]))
    together, apart = (interval(fakes, reals, "image-1", "image_accuracy") for reals in (alike, unlike))
    assert together.estimate == apart.estimate == 0.75
    assert together.num_photographs == 40
    assert together.high - together.low > 1.3 * (apart.high - apart.low), "what is wrong together counts twice"


def test_tpr_is_of_the_fakes_alone() -> None:
    fakes, reals = drawn(1, 40, 30)
    assert interval(fakes, reals, "image-1", "image_tpr").num_photographs == 40
    assert interval(fakes, reals, "image-1", "image_tnr").num_photographs == 30


def test_the_interval_of_ap_holds_it_and_shrinks() -> None:
    small, large = drawn(2, 20, 20), drawn(2, 150, 150)
    found = [interval(*pair, "image-1", "image_ap", num_resamples=100) for pair in (small, large)]
    for each, pair in zip(found, (small, large), strict=True):
        assert each.estimate == pytest.approx(summarise_pair(*pair, "image-1")["image_ap"])
        assert each.low < each.estimate < each.high
    assert found[1].high - found[1].low < 0.6 * (found[0].high - found[0].low)


def test_a_draw_without_reals_is_left_out() -> None:
    fakes, reals = drawn(3, 40, 3)  # one of twenty draws has none
    found = interval(fakes, reals, "image-1", "image_auc", num_resamples=200)
    assert np.isfinite([found.low, found.high]).all()
    assert found.low < found.estimate < found.high


def test_trainings_are_repeated_too() -> None:
    pairs = [drawn(seed, 60, 60) for seed in range(3)]
    fakes, reals = (
        pa.concat_tables(
            trained(pair[side].drop_columns(["draw", "seed"]), seed=seed) for seed, pair in enumerate(pairs)
        )
        for side in (0, 1)
    )
    for key in ("image_accuracy", "image_ap"):
        found = interval(fakes, reals, "image-1", key, num_resamples=50)
        each = [summarise_pair(*pair, "image-1")[key] for pair in pairs]
        assert found.num_trainings == 3
        assert found.estimate == pytest.approx(np.mean(each))


def test_under_three_source_images_a_side_there_are_no_ends() -> None:
    fakes, reals = drawn(4, 30, 2)
    for key in ("image_accuracy", "image_ap"):
        found = interval(fakes, reals, "image-1", key)
        assert found.ends is None
        assert found.estimate == pytest.approx(summarise_pair(fakes, reals, "image-1")[key])


def test_a_number_that_is_not_there_is_refused() -> None:
    fakes, reals = drawn(5, 9, 9)
    with pytest.raises(DataError, match="have no image_macro_ap by image-1; known: image_ap"):
        interval(fakes, reals, "image-1", "image_macro_ap")
    with pytest.raises(DataError, match="known: nothing"):
        interval(fakes, reals.slice(0, 0), "image-1", "image_ap")
