"""`image-1` and `thesis-2025` on rows: the thesis' saved confusion, scikit-learn, and every edge."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as sk

from dfloc.errors import ConfigError, DataError
from dfloc.metrics import degenerate, image, image_rows, protocols, score, summarise, summarise_pair
from dfloc.metrics.metric import Metric
from tests.metrics.image_rows import attributed, called_as, detected

# Of 900 images of each class, how many the thesis' classifier calls rightly (its notebook, evaluate_classification).
RIGHT = {"real": 853, "ldm": 876, "repaint-p2": 332, "lama": 879, "pluralistic": 705}
CLASSES = tuple(RIGHT)
PRINTED = {"lama": 0.9622, "ldm": 0.9606, "pluralistic": 0.8656, "repaint-p2": 0.6583}


def saved(protocol: str) -> dict[str, pa.Table]:
    """Rows of which so many are right; the others are called the next class."""
    return {
        name: called_as(protocol, f"celebahq/{name}", name, CLASSES, {name: right, CLASSES[(k + 1) % 5]: 900 - right})
        for k, (name, right) in enumerate(RIGHT.items())
    }


def test_accuracies_of_the_thesis_classifier_follow_from_its_confusion() -> None:
    rows = saved("thesis-2025")
    found = {name: summarise_pair(rows[name], rows["real"], "thesis-2025") for name in PRINTED}
    assert {name: round(each["image_accuracy"], 4) for name, each in found.items()} == PRINTED
    for name, each in found.items():
        assert summarise(rows[name], "thesis-2025") == {"image_recall": RIGHT[name] / 900}
        assert each.keys() == {"image_accuracy", "image_macro_ap"}
    everything = pa.concat_tables(rows[name] for name in PRINTED)
    assert round(summarise_pair(everything, rows["real"], "thesis-2025")["image_accuracy"], 4) == 0.81


def test_mean_recall_of_the_thesis_classifier() -> None:
    rows = saved("image-1")
    everything = pa.concat_tables(rows[name] for name in PRINTED)
    found = summarise_pair(everything, rows["real"], "image-1")
    assert found["image_balanced_accuracy"] == pytest.approx(sum(RIGHT.values()) / 4500)
    assert round(found["image_balanced_accuracy"], 4) == 0.81
    pair = summarise_pair(rows["lama"], rows["real"], "image-1")
    assert (summarise(rows["lama"], "image-1")["image_recall"], pair["image_tnr"]) == (879 / 900, 853 / 900)
    assert "image_balanced_accuracy" not in pair, "three of five classes have no image"
    assert summarise(rows["real"], "image-1") == dict.fromkeys(("image_tnr", "image_recall", "image_right"), 853 / 900)


def detection(num_fakes: int = 60, num_reals: int = 90) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(0)
    fakes = detected("image-1", "a/lama", np.round(rng.beta(3, 2, num_fakes), 2).tolist())
    return fakes, detected("image-1", "a/real", np.round(rng.beta(2, 3, num_reals), 2).tolist())


def arrays(*tables: pa.Table) -> list[np.ndarray]:
    return [rows["score"].to_numpy() for rows in tables]


@pytest.mark.parametrize("table", [pd.DataFrame, pa.table])
def test_a_pair_has_every_number_of_its_scores(table: type) -> None:
    fakes, reals = detection()
    valid = pa.concat_tables(detection(20, 20)).set_column(2, "split", pa.array(["valid"] * 40))
    given = [table(rows.to_pydict()) for rows in (fakes, reals, valid)]
    found = summarise_pair(given[0], given[1], "image-1", given[2])
    scores = arrays(fakes, reals)
    threshold = image.image_threshold(*arrays(*detection(20, 20)))
    assert found == pytest.approx(
        {
            "image_accuracy": image.image_accuracy(*scores),
            "image_ap": image.image_ap(*scores),
            "image_auc": image.image_auc(*scores),
            "image_tpr": image.image_tpr(scores[0]),
            "image_tnr": image.image_tnr(scores[1]),
            "image_eer": image.image_eer(*scores),
            "image_ece": image.image_ece(*scores),
            "image_brier": image.image_brier(*scores),
            "image_threshold": threshold,
            "image_accuracy_valid": image.image_accuracy(*scores, threshold),
        },
        abs=1e-12,
    )
    assert threshold != 0.5


def test_without_reals_only_the_fakes_own_numbers_are_there() -> None:
    fakes, reals = detection()
    assert summarise(fakes, "image-1") == dict.fromkeys(("image_tpr", "image_right"), image.image_tpr(arrays(fakes)[0]))
    assert summarise_pair(fakes, None, "image-1") == summarise_pair(fakes, reals.slice(0, 0), "image-1") == {}
    assert summarise(reals, "image-1") == dict.fromkeys(("image_tnr", "image_right"), image.image_tnr(arrays(reals)[0]))


def test_without_validation_images_of_both_sides_no_threshold_is_chosen() -> None:
    fakes, reals = detection()
    for valid in (None, fakes.slice(0, 0), fakes, reals):
        found = summarise_pair(fakes, reals, "image-1", valid)
        assert not {"image_threshold", "image_accuracy_valid"} & found.keys()
        assert "image_ap" in found


def test_a_constant_score_is_chance() -> None:
    fakes, reals = detected("image-1", "a/lama", [0.3] * 4), detected("image-1", "a/real", [0.3] * 50)
    found = summarise_pair(fakes, reals, "image-1")
    expected = {"image_auc": 0.5, "image_ap": 0.5, "image_accuracy": 0.5, "image_tpr": 0.0, "image_tnr": 1.0}
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("protocol", ["image-1", "thesis-2025"])
def test_the_order_of_rows_is_no_matter(protocol: str) -> None:
    rng = np.random.default_rng(1)
    fakes, reals = multiclass(protocol, (30, 50, 20), 1)
    mixed = [rows.take(rng.permutation(len(rows))) for rows in (fakes, reals)]
    assert summarise_pair(*mixed, protocol) == pytest.approx(summarise_pair(fakes, reals, protocol), abs=1e-13)


def multiclass(protocol: str, counts: tuple[int, int, int], digits: int = 6) -> tuple[pa.Table, pa.Table]:
    """Fakes of two families, and reals."""
    rng, tables = np.random.default_rng(5), []
    for k, (name, count) in enumerate(zip(("real", "lama", "ldm"), counts, strict=True)):
        prob = rng.dirichlet(np.ones(3) + 2 * (np.arange(3) == k), count).round(digits)
        columns = dict(zip(("real", "lama", "ldm"), prob.T, strict=True))
        tables.append(attributed(protocol, f"a/{name}", name, columns))
    return pa.concat_tables(tables[1:]), tables[0]


@pytest.mark.parametrize("counts", [(40, 40, 40), (90, 20, 33)])
def test_attribution_is_scikit_learns(counts: tuple[int, int, int]) -> None:
    fakes, reals = multiclass("image-1", counts)
    every = pa.concat_tables([reals, fakes]).to_pandas()
    true, prob = every["class"], every[["prob_real", "prob_lama", "prob_ldm"]].to_numpy()
    onehot = np.stack([true == name for name in ("real", "lama", "ldm")], axis=1)
    weight = 1 / true.map(true.value_counts())
    found = summarise_pair(fakes, reals, "image-1")
    assert found["image_balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, every["called"]))
    assert found["image_macro_ap"] == pytest.approx(sk.average_precision_score(onehot, prob, sample_weight=weight))
    assert found["image_auc"] == pytest.approx(sk.roc_auc_score(true != "real", every["score"]))
    thesis = summarise_pair(*multiclass("thesis-2025", counts), "thesis-2025")
    assert thesis["image_macro_ap"] == pytest.approx(sk.average_precision_score(onehot, prob))
    assert thesis["image_accuracy"] == pytest.approx(sk.accuracy_score(true, every["called"]))


def test_macro_ap_of_the_thesis_on_one_domain_is_of_real_and_its_own_column() -> None:
    fakes, reals = multiclass("thesis-2025", (40, 30, 30))
    lama = fakes.slice(0, 30)
    every = pa.concat_tables([reals, lama]).to_pandas()
    expected = np.mean(
        [sk.average_precision_score(every["class"] == name, every[f"prob_{name}"]) for name in ("real", "lama")]
    )
    assert summarise_pair(lama, reals, "thesis-2025")["image_macro_ap"] == pytest.approx(expected)


def test_macro_ap_of_the_thesis_detector_is_of_two_columns() -> None:
    fakes, reals = (
        rows.set_column(rows.schema.get_field_index("protocol"), "protocol", pa.array(["thesis-2025"] * len(rows)))
        for rows in detection()
    )
    score_N = np.concatenate(arrays(fakes, reals))
    true = np.r_[np.ones(len(fakes)), np.zeros(len(reals))]
    expected = (sk.average_precision_score(true, score_N) + sk.average_precision_score(1 - true, 1 - score_N)) / 2
    found = summarise_pair(fakes, reals, "thesis-2025")
    assert found["image_macro_ap"] == pytest.approx(expected)
    assert found["image_accuracy"] == pytest.approx(((score_N > 0.5) == true).mean())


def test_a_family_that_is_no_class_is_only_called_something() -> None:
    fakes, reals = multiclass("image-1", (40, 30, 30))
    probs = {"real": [0.2, 0.6], "lama": [0.7, 0.1], "ldm": [0.1, 0.3]}
    other = attributed("image-1", "a/pluralistic", "pluralistic", probs)
    found = summarise(other, "image-1")
    assert found == {"image_tpr": 0.5}
    assert "image_recall" not in summarise_pair(other, reals, "image-1")
    assert (
        summarise_pair(other, reals, "image-1")["image_accuracy"]
        == (0.5 + summarise(reals, "image-1")["image_tnr"]) / 2
    )
    every = pa.concat_tables([reals, other, fakes])
    table = image_rows.called(every)
    assert (table.true, table.called) == (("real", "lama", "ldm", "pluralistic"), ("real", "lama", "ldm"))
    assert table.counts[3].tolist() == [1, 1, 0]
    known = pa.concat_tables([reals, fakes]).to_pandas()
    labels = ["real", "lama", "ldm"]
    np.testing.assert_array_equal(table.counts[:3], sk.confusion_matrix(known["class"], known["called"], labels=labels))
    with_other = pa.concat_tables([fakes, other])
    for key in ("image_balanced_accuracy", "image_macro_ap"):
        assert summarise_pair(with_other, reals, "image-1")[key] == summarise_pair(fakes, reals, "image-1")[key]
    thesis = attributed("thesis-2025", "a/pluralistic", "pluralistic", probs)
    assert summarise(thesis, "thesis-2025") == {}
    assert summarise_pair(thesis, multiclass("thesis-2025", (9, 9, 9))[1], "thesis-2025") == {}


def test_rows_of_maps_are_scored_by_their_mean_probability() -> None:
    fakes, reals = detection()
    maps = [
        rows.drop_columns(["score", "called", "class", "mean_prob"]).append_column("mean_prob", rows["score"])
        for rows in (fakes, reals)
    ]
    assert summarise_pair(*maps, "image-1") == summarise_pair(fakes, reals, "image-1")


def changed(rows: pa.Table, name: str, value: object) -> pa.Table:
    """Rows whose second image has another value."""
    values = rows[name].to_pylist()
    values[1] = value
    return rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("score", math.nan, r'row 1 has a "score" of nan, expected a probability in \[0, 1\]'),
        ("score", None, 'row 1 has a "score" of nan'),
        ("score", math.inf, 'row 1 has a "score" of inf'),
        ("score", -0.1, 'row 1 has a "score" of -0.1'),
        ("class", None, 'row 1 has no "class"'),
        ("class", "", 'row 1 has no "class"'),
        ("called", None, 'row 1 has no "called"'),
        ("called", "ldm", 'an image is called "ldm", expected one of real, fake'),
        ("protocol", "dfloc-1", "expected rows of protocol image-1 alone, came also dfloc-1"),
        ("class", "real", "expected rows of fakes alone, row 1 of them is not"),
    ],
)
def test_a_wrong_value_is_one_sentence(name: str, value: object, message: str) -> None:
    fakes, reals = detection()
    with pytest.raises(DataError, match=message):
        summarise_pair(changed(fakes, name, value), reals, "image-1")


def test_what_is_no_pair_is_refused() -> None:
    fakes, reals = detection()
    with pytest.raises(DataError, match="expected rows of reals alone, row 0 of them is not"):
        summarise_pair(fakes, fakes, "image-1")
    with pytest.raises(DataError, match="expected rows of fakes alone"):
        summarise_pair(reals, fakes, "image-1")
    with pytest.raises(DataError, match="came none"):
        summarise_pair(fakes.slice(0, 0), reals, "image-1")
    with pytest.raises(DataError, match="expected numbers in the column"):
        summarise(fakes.drop_columns("score").append_column("score", pa.array(["high"] * 60)), "image-1")
    with pytest.raises(DataError, match="which these lack"):
        summarise(fakes.drop_columns(["score", "mean_prob"]), "image-1")
    wrong_order = attributed("image-1", "a/lama", "lama", {"lama": [0.5], "real": [0.5]})
    with pytest.raises(
        DataError, match="expected the probability of real before those of other classes, came lama, real"
    ):
        summarise(wrong_order, "image-1")
    swapped = attributed("image-1", "a/lama", "lama", {"real": [0.5, 0.5], "lama": [math.nan, 0.5]})
    with pytest.raises(DataError, match='row 0 has a "prob_lama" of nan'):
        summarise(swapped, "image-1")


@pytest.mark.parametrize("name", ["image-1", "thesis-2025"])
def test_a_protocol_of_images_measures_nothing_of_a_map(name: str) -> None:
    rule = protocols.find(name)
    assert (rule.reads, rule.grid) == ("image", ())
    assert rule.chooses == (name == "image-1")
    assert score(torch.rand(2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool), name) == {}
    assert all(metric.key.startswith("image_") for metric in rule.metrics)
    assert {*rule.tracked} <= {metric.key for metric in rule.metrics}
    assert protocols.find("dfloc-1").chooses
    assert not protocols.find("declip-2025").chooses
    with pytest.raises(ConfigError, match="the first one of images"):
        replace(rule, metrics=rule.metrics[::-1])


def test_the_values_of_images_lie_between_their_bounds_and_average_to_the_number() -> None:
    fakes, reals = detection()
    rule = protocols.find("image-1")
    found = summarise_pair(fakes, reals, "image-1")
    sides = [rule.values(rows) for rows in (fakes, reals)]
    assert {*sides[0]} == {*rule.per_image}
    for key in ("image_accuracy", "image_brier"):
        assert found[key] == pytest.approx(sum(side[key].mean() for side in sides) / 2)
    for side in sides:
        for key, values in side.items():
            known = values[~np.isnan(values)]
            assert ((known >= 0) & (known <= 1)).all(), key


def test_rows_without_maps_say_nothing_of_maps() -> None:
    fakes, _ = detection()
    assert degenerate.kinds(fakes) == degenerate.DegenerateMaps()
    assert degenerate.kinds(fakes, partly_fake=True).word == ""
    assert degenerate.all_fake(fakes, "image-1") == {}


@pytest.mark.parametrize(("others", "word"), [(0, "ldm"), (1, "ldm"), (2, "")])
def test_a_classifier_that_calls_all_images_one_class_has_collapsed(others: int, word: str) -> None:
    sets = [called_as("image-1", f"a/{name}", name, CLASSES, {"ldm": 20 - others, "real": others}) for name in CLASSES]
    tables = [image_rows.called(rows) for rows in sets]
    assert image_rows.together(tables).collapsed == word
    assert image_rows.together(tables[::-1]).collapsed == word
    whole, joined = image_rows.called(pa.concat_tables(sets)), image_rows.together(tables[::-1])
    assert (joined.true, joined.called) == (whole.true, whole.called)
    np.testing.assert_array_equal(joined.counts, whole.counts)
    assert tables[1].collapsed == "", "one class alone may be called rightly"


def test_one_class_that_is_told_is_no_collapse() -> None:
    rows = [called_as("image-1", f"a/{name}", name, CLASSES, {"ldm": 20}) for name in CLASSES[1:]]
    rows.append(called_as("image-1", "a/real", "real", CLASSES, {"real": 20}))
    assert image_rows.together(map(image_rows.called, rows)).collapsed == ""
    assert image_rows.together([]) is None
    with pytest.raises(DataError, match="the same classes apart"):
        image_rows.together([image_rows.called(rows[0]), image_rows.called(detection()[0])])


def test_an_image_is_called_right_or_not_by_what_rows_say_already() -> None:
    fakes, reals = detection(6, 4)
    for rows, real in ((fakes, False), (reals, True)):
        score = rows["score"].to_numpy()
        expected = (score <= 0.5) if real else (score > 0.5)
        assert protocols.find("image-1").values(rows)["image_right"].tolist() == expected.tolist()
    families = saved("image-1")
    for name, right in RIGHT.items():
        assert protocols.find("image-1").values(families[name])["image_right"].sum() == right
    probs = {"real": [0.1, 0.8], "lama": [0.9, 0.2]}
    unknown = attributed("image-1", "a/pluralistic", "pluralistic", probs)
    assert np.isnan(protocols.find("image-1").values(unknown)["image_right"]).all(), "it is no class that is told apart"


def test_what_stands_for_a_protocol_depends_on_the_task() -> None:
    rule = protocols.find("image-1")
    assert [rule.shown(task)[0].key for task in ("localize", "detect", "attribute")] == [
        "image_accuracy",
        "image_accuracy",
        "image_recall",
    ]
    assert protocols.find("declip-2025").shown("detect") == protocols.find("declip-2025").metrics


@pytest.mark.parametrize(
    ("label", "word"),
    [("IoU", "IoU"), ("AP", "AP"), ("Balanced accuracy", "balanced accuracy"), ("F1 at 0.5", "F1 at 0.5")],
)
def test_a_label_inside_a_sentence(label: str, word: str) -> None:
    assert Metric("key", label).word == word
