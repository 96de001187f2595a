"""How two trials differ: paired differences of hand-made rows."""

import math

import numpy as np
import pyarrow as pa
import pytest

from dfloc.errors import ConfigError, DataError
from dfloc.sweep import diff
from dfloc.sweep.diff import Difference, TrialPair, choose
from tests.engine.fakes import make_spec
from tests.metrics.image_rows import called_as, detected


def rows(ious: list[float], first: int = 0, **changes: object) -> pa.Table:
    """Rows of images of two crops a photograph, numbered from `first`."""
    columns = {"domain": "a/b", "split": "test", "condition": "clean", "protocol": "declip-2025", "checkpoint": "best"}
    columns |= {"mask_area": 0.25, "ap": math.nan}
    names = range(first, first + len(ious))
    one = [
        {"id": f"a/b/test/{k}", "stem": f"a/{k // 2}", "iou": v, **columns, **changes}
        for k, v in zip(names, ious, strict=True)
    ]
    return pa.Table.from_pylist(one)


def differences(a: pa.Table, b: pa.Table, *args: str, **kwargs: str) -> list[Difference]:
    """Compare two trials alone."""
    return diff.differences([TrialPair(0, 0, a, b)], *args, **kwargs)


def test_the_difference_is_paired_by_photograph() -> None:
    """B is A and 0.1 on every image: however the photographs are drawn, the difference is -0.1."""
    ious = [0.1, 0.8, 0.3, 0.5, 0.9, 0.2]
    (found,) = differences(rows(ious), rows([iou + 0.1 for iou in ious]), "declip-2025")
    assert (found.domain, found.images, found.difference.num_photographs) == ("a/b", 6, 3)
    assert (found.a, found.b) == pytest.approx((np.mean(ious), np.mean(ious) + 0.1))
    assert tuple(found.difference)[:3] == pytest.approx((-0.1, -0.1, -0.1))


def test_only_images_that_both_have_count_each_once() -> None:
    a, b = rows([0.2, 0.4, 0.6, 0.8]), rows([0.5, 0.5, 0.5, 0.5], first=2)
    (found,) = differences(pa.concat_tables([a, a]), b, "declip-2025")
    assert (found.images, found.a, found.b) == (2, pytest.approx(0.7), 0.5)
    order = a.take([3, 1, 0, 2])
    (again,) = differences(order, b, "declip-2025")
    assert again[:6] == found[:6]


def test_values_that_one_lacks_are_left_out_of_both() -> None:
    a, b = rows([0.2, math.nan, 0.6, 0.8]), rows([0.0, 1.0, math.nan, 0.4])
    (found,) = differences(a, b, "declip-2025")
    assert (found.images, found.a, found.b) == (2, 0.5, 0.2)


def test_places_and_checkpoints_are_apart() -> None:
    a = pa.concat_tables([rows([0.5]), rows([0.9], split="valid"), rows([0.1], checkpoint="last")])
    b = pa.concat_tables([rows([0.4]), rows([0.7], split="valid"), rows([0.3], checkpoint="last")])
    assert [(one.split, round(one.difference.estimate, 3)) for one in differences(a, b, "declip-2025")] == [
        ("test", 0.1),
        ("valid", 0.2),
    ]
    (last,) = differences(a, b, "declip-2025", checkpoint="last")
    assert last.difference.estimate == pytest.approx(-0.2)


def test_all_seeds_are_taken_in_pairs_and_a_star_wants_several() -> None:
    """A is better by 0.1, 0.11 and 0.12 with three seeds: Student's t of these three, photographs have no say."""
    ious = [0.1, 0.8, 0.3, 0.5, 0.6, 0.2]
    by = (0.1, 0.11, 0.12)
    pairs = [TrialPair(0, seed, rows([iou + less for iou in ious]), rows(ious)) for seed, less in enumerate(by)]
    (found,) = diff.differences(pairs, "declip-2025")
    half = 4.302653 * 0.01 / 3**0.5
    assert found.difference[:5] == pytest.approx((0.11, 0.11 - half, 0.11 + half, 3, 3))
    assert (found.images, found.apart) == (6, True)
    (alone,) = diff.differences(pairs[:1], "declip-2025")
    assert (alone.difference.num_trainings, alone.apart) == (1, False)
    two = [pair._replace(a=pa.concat_tables([pair.a, rows(ious, domain="a/c")])) for pair in pairs]
    two = [pair._replace(b=pa.concat_tables([pair.b, rows(ious, domain="a/c")])) for pair in two]
    assert [one.apart for one in diff.differences(two, "declip-2025")] == [True, False]


def test_protocols_never_meet() -> None:
    declip, dolos = rows([0.5]), rows([0.5], protocol="dolos-2024")
    both = pa.concat_tables([declip, dolos])
    assert choose(declip, both, None) == "declip-2025"
    assert choose(both, both, "dolos-2024") == "dolos-2024"
    with pytest.raises(ConfigError, match="A has rows of declip-2025, B of dolos-2024; nothing is compared across"):
        choose(declip, dolos, None)
    with pytest.raises(ConfigError, match="choose one by --protocol"):
        choose(both, both, None)
    with pytest.raises(ConfigError, match="--protocol dfloc-1"):
        choose(both, both, "dfloc-1")
    with pytest.raises(ConfigError, match='unknown protocol "dolos"'):
        choose(both, both, "dolos")
    mixed = pa.concat_tables([declip, rows([0.1], protocol="dolos-2024")])
    assert [one.a for one in differences(mixed, declip, "declip-2025")] == [0.5]


def test_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match=r"no image in common for iou by .* A was scored on a/b, B on c/d"):
        differences(rows([0.5]), rows([0.5], domain="c/d"), "declip-2025")
    with pytest.raises(DataError, match="no image in common"):
        differences(rows([0.5]), rows([0.5], first=7), "declip-2025")
    with pytest.raises(DataError, match="no image in common for ap"):
        differences(rows([0.5]), rows([0.5]), "declip-2025", "ap")
    with pytest.raises(DataError, match="B on nothing"):
        differences(rows([0.5]), rows([0.5], checkpoint="last"), "declip-2025")
    with pytest.raises(DataError, match="one name and other masks"):
        differences(rows([0.5]), rows([0.5], mask_area=0.3), "declip-2025")
    with pytest.raises(ConfigError, match='unknown metric of declip-2025 "auc"'):
        differences(rows([0.5]), rows([0.5]), "declip-2025", "auc")


def detector(scores: dict[str, list[float]]) -> pa.Table:
    return pa.concat_tables([detected("image-1", name, values) for name, values in scores.items()])


def test_detectors_are_compared_by_what_they_call_images() -> None:
    """Of four fakes A calls three rightly and B two, of which one is another; of two reals both call one so."""
    a = detector({"a/b": [0.9, 0.8, 0.7, 0.1], "a/real": [0.2, 0.6]})
    b = detector({"a/b": [0.9, 0.3, 0.2, 0.9], "a/real": [0.7, 0.4]})
    pairs = [TrialPair(0, 0, a, b)]
    fakes, reals = diff.differences(pairs, "image-1")
    assert (fakes.a, fakes.b, reals.a, reals.b) == (0.75, 0.5, 0.5, 0.5)
    found = diff.called(pairs, "image-1")
    assert [(one.domain, one.images, one.alike, one.only_a, one.only_b) for one in found] == [
        ("a/b", 4, 1, 2, 1),
        ("a/real", 2, 0, 1, 1),
    ]
    assert (found[0].score_a, found[0].score_b) == (pytest.approx(0.625), pytest.approx(0.575))
    [brier, _] = diff.differences(pairs, "image-1", "image_brier")
    assert brier.a == pytest.approx(np.mean([0.01, 0.04, 0.09, 0.81]))
    listed = diff.by_image(pairs, "image-1", "image_accuracy").to_pylist()
    assert [(row["id"], row["a"], row["b"], row["called_a"], row["called_b"], row["alike"]) for row in listed[:2]] == [
        ("a/b/test/0000.png", 1.0, 1.0, "fake", "fake", True),
        ("a/b/test/0001.png", 1.0, 0.0, "fake", "real", False),
    ]
    assert listed[4]["score_a"] == 0.2


def test_a_classifier_and_a_detector_agree_on_fake_alone() -> None:
    a = detector({"a/one": [0.9, 0.2], "a/real": [0.1, 0.1]})
    classes = ("real", "one", "two")
    b = pa.concat_tables(
        [
            called_as("image-1", "a/one", "one", classes, {"two": 2}),
            called_as("image-1", "a/real", "real", classes, {"real": 2}),
        ]
    )
    one, real = diff.called([TrialPair(0, 0, a, b)], "image-1")
    assert (one.alike, one.only_a, one.only_b, real.alike) == (1, 0, 1, 2), "another generator is fake all the same"
    same = diff.called([TrialPair(0, 0, b, b)], "image-1")[0]
    assert (same.alike, same.only_a, same.only_b) == (2, 0, 0)


def test_maps_have_no_classes_and_are_listed_by_image() -> None:
    pairs = [TrialPair(0, 0, rows([0.25, 0.5]), rows([0.75, 0.5]))]
    assert diff.called(pairs, "declip-2025") == []
    assert diff.by_image(pairs, "declip-2025", "iou").to_pylist()[0] == {
        **{"id": "a/b/test/0", "domain": "a/b", "split": "test", "condition": "clean"},
        **{"draw": 0, "seed": 0, "a": 0.25, "b": 0.75},
    }


def test_a_map_and_a_class_are_not_compared() -> None:
    maps, images = make_spec(), make_spec(task="detect")
    with pytest.raises(ConfigError, match="A is of task localize, B of task detect: the mean of a map"):
        diff.refuse_tasks(maps, images)
    diff.refuse_tasks(images, make_spec(task="attribute", classes=("real", "a")))


def test_explanations_are_no_answers_to_compare() -> None:
    plain, other = rows([0.25, 0.5]), rows([0.75, 0.5])
    layers = [plain.append_column("explain", pa.array([None, None], pa.string()))]
    layers += [rows([1.0, 1.0]).append_column("explain", pa.array(["grad-cam of layer4"] * 2))]
    [found] = diff.differences([TrialPair(0, 0, pa.concat_tables(layers), other)], "declip-2025")
    assert (found.a, found.b, found.images) == (0.375, 0.625, 2)
    with pytest.raises(DataError, match="A was scored on nothing"):
        diff.differences([TrialPair(0, 0, layers[1], other)], "declip-2025")
