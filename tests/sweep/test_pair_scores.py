"""Numbers of fakes beside reals, as `dfloc evaluate` prints them."""

import numpy as np
import pyarrow as pa
import pytest

from dfloc.metrics.image import image_ap
from dfloc.metrics.pair_intervals import interval
from dfloc.metrics.pairs import summarise_pair
from dfloc.sweep import pair_scores
from tests.metrics.image_rows import called_as, detected

FAKES, REALS = [0.9, 0.8, 0.3, 0.6, 0.55, 0.95], [0.1, 0.7, 0.2, 0.05, 0.4, 0.45]


def of_one(rows: pa.Table) -> pa.Table:
    zeros = pa.array(np.zeros(len(rows), np.int64))
    return rows.append_column("draw", zeros).append_column("seed", zeros)


def test_numbers_and_intervals_are_those_of_the_metrics() -> None:
    fakes, reals = detected("image-1", "a/b", FAKES), detected("image-1", "a/real", REALS)
    valid = pa.concat_tables([detected("image-1", "a/b", [0.9, 0.62]), detected("image-1", "a/real", [0.1, 0.6])])
    [found] = pair_scores.of_pairs({"a/b": fakes, "a/real": reals}, "image-1", valid)
    assert (found.fakes, found.reals, found.num_fakes, found.num_reals) == ("a/b", ("a/real",), 6, 6)
    expected = summarise_pair(fakes, reals, "image-1", valid)
    assert (found.threshold, found.num_valid) == (pytest.approx(0.61), 4)
    assert expected.pop("image_threshold") == found.threshold
    assert {key: number.value for key, number in found.numbers.items()} == expected
    assert found.numbers["image_accuracy"].value == pytest.approx((5 / 6 + 5 / 6) / 2)
    assert found.numbers["image_ap"].value == image_ap(np.array(FAKES), np.array(REALS))
    for key in ("image_accuracy", "image_tpr", "image_ap", "image_accuracy_valid"):
        one = interval(of_one(fakes), of_one(reals), "image-1", key, valid, num_resamples=pair_scores.NUM_RESAMPLES)
        assert found.numbers[key].interval == pytest.approx(one.ends), key
        assert 0 <= one.low <= one.high <= 1, key


def test_each_domain_stands_beside_its_sources_reals_and_all_together() -> None:
    tables = {
        name: detected("image-1", name, scores)
        for name, scores in (("a/b", FAKES), ("a/c", FAKES[:3]), ("d/e", FAKES), ("a/real", REALS))
    }
    found = pair_scores.of_pairs(tables, "image-1")
    assert [(one.fakes, one.num_fakes) for one in found] == [("a/b", 6), ("a/c", 3), ("all", 15)], "d has no reals"
    assert found[0].threshold is None
    assert "image_accuracy_valid" not in found[0].numbers
    assert pair_scores.of_pairs({name: tables[name] for name in ("a/b", "a/c")}, "image-1") == []
    assert pair_scores.called(tables, "image-1") is None, "real and fake alone are no table of classes"


def test_under_three_source_images_there_is_no_interval() -> None:
    tables = {name: detected("image-1", name, scores[:2]) for name, scores in (("a/b", FAKES), ("a/real", REALS))}
    [found] = pair_scores.of_pairs(tables, "image-1")
    assert {number.interval for number in found.numbers.values()} == {None}


def test_an_attribution_has_a_table_of_classes_and_numbers_of_all_of_them() -> None:
    classes = ("real", "one", "two")
    tables = {
        "a/one": called_as("image-1", "a/one", "one", classes, {"one": 3, "two": 1}),
        "a/two": called_as("image-1", "a/two", "two", classes, {"two": 4}),
        "a/real": called_as("image-1", "a/real", "real", classes, {"real": 2, "one": 2}),
    }
    whole = pair_scores.of_pairs(tables, "image-1")[-1]
    assert whole.numbers["image_balanced_accuracy"].value == pytest.approx((0.75 + 1 + 0.5) / 3)
    called = pair_scores.called(tables, "image-1")
    assert called is not None
    assert (called.true, called.counts.tolist()) == (classes, [[2, 2, 0], [0, 3, 1], [0, 0, 4]])
