"""How two trials differ: paired differences of hand-made rows."""

import math

import numpy as np
import pyarrow as pa
import pytest

from dfloc.errors import ConfigError, DataError
from dfloc.sweep import diff
from dfloc.sweep.diff import Difference, TrialPair, choose


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
