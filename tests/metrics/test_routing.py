"""Two steps by their rows: what routing costs, and what is a mean over fakes and reals made of."""

import math

import numpy as np
import pandas as pd
import pytest

from dfloc.errors import DataError
from dfloc.metrics import routing


def maps(iou: list[float], fake: list[int], called: list[int] | None = None) -> pd.DataFrame:
    """Rows of maps: IoU, fake pixels of the truth, and pixels called fake."""
    tp = [min(a, b) for a, b in zip(fake, called or fake, strict=True)]
    fp = [a - b for a, b in zip(called or fake, tp, strict=True)]
    fn = [a - b for a, b in zip(fake, tp, strict=True)]
    return pd.DataFrame({"id": [f"i{n}" for n in range(len(iou))], "iou": iou, "tp": tp, "fp": fp, "fn": fn})


ROUTER = pd.DataFrame(
    {
        "id": ["i0", "i1", "i2", "i3"],
        "class": ["ldm", "ldm", "lama", "other"],
        "called": ["ldm", "lama", "real", "lama"],
        "score": [0.9, 0.6, 0.2, 0.7],
    }
)
PARTS = {"ldm": maps([0.8, 0.6, 0.1, 0.3], [9] * 4), "lama": maps([0.2, 0.5, 0.9, 0.4], [9] * 4)}
OWN = maps([0.8, 0.5, 0.0, 0.4], [9] * 4)


def test_the_right_router_takes_the_part_of_the_true_class() -> None:
    found = routing.routed(OWN.iloc[:3], ROUTER.iloc[:3], {name: rows.iloc[:3] for name, rows in PARTS.items()}, "iou")
    assert found.oracle_N.tolist() == [0.8, 0.6, 0.9]
    assert found.recall == pytest.approx(1 / 3)
    assert found.cost == pytest.approx((0 + 0.1 + 0.9) / 3)
    assert found.oracle - found.own_N.mean() == pytest.approx(found.cost)
    by_cell = {(cell.true, cell.called): cell for cell in routing.cells([found])}
    assert [*by_cell] == [("lama", "real"), ("ldm", "lama"), ("ldm", "ldm")]
    assert by_cell["lama", "real"].part == pytest.approx(0.9)
    assert by_cell["ldm", "lama"].share == 0.5


def test_an_image_of_a_class_without_a_part_has_no_right_router() -> None:
    found = routing.routed(OWN, ROUTER, PARTS, "iou")
    assert math.isnan(found.oracle_N[3])
    assert math.isnan(found.cost)


def test_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="rows of the same images, those of lama are not"):
        routing.routed(OWN, ROUTER, {**PARTS, "lama": PARTS["lama"].iloc[::-1]}, "iou")


def test_the_notebooks_93_52() -> None:
    """F2: fakes' mean 91.49 and 860 of 900 reals with an empty map; 853 of them are called real."""
    fakes = maps([0.9149] * 900, [9] * 900)
    empty = [0] * 860 + [5] * 40
    reals = maps([1.0] * 860 + [0.0] * 40, [0] * 900, empty)
    reals["routed"] = ["real"] * 853 + ["ldm"] * 47
    found = routing.with_reals(fakes, reals, "iou")
    assert round(100 * found.together, 2) == 93.52
    assert round(100 * found.fakes, 2) == 91.49
    assert (found.empty, found.passed, found.misrouted) == pytest.approx((860 / 900, 853 / 900, 7 / 900))
    assert found.nothing == 0.5
    assert found.together == pytest.approx((found.fakes + found.empty) / 2)


def test_without_a_router_nothing_is_passed() -> None:
    found = routing.with_reals(maps([0.5], [9]), maps([1.0, 0.0], [0, 0], [0, 3]), "iou")
    assert found.empty == 0.5
    assert math.isnan(found.passed)
    assert math.isnan(found.misrouted)


def test_thresholds_from_rows() -> None:
    """By hand: over the threshold the part's IoU, else that of an empty map."""
    part = maps([0.8, 0.6, 0.9, 0.4], [9] * 4)
    swept = routing.at_threshold(ROUTER, part, "iou", [0.0, 0.6, 0.95])
    assert swept == pytest.approx([np.mean([0.8, 0.6, 0.9, 0.4]), np.mean([0.8, 0, 0, 0.4]), 0])
    reals = maps([0.0, 1.0, 0.0, 0.0], [0] * 4, [3, 0, 3, 3])
    assert routing.at_threshold(ROUTER, reals, "iou", [0.0, 0.65, 0.95]) == pytest.approx([0.25, 0.5, 1])
