"""Numbers of a set, from rows that are counted by hand."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as sk

from dfloc.errors import DataError
from dfloc.metrics import by_area, counts, native, score, sets, summarise
from tests.metrics.test_pixel import maps, truths

K = len(native.GRID)


def rows(**changes: list) -> dict[str, list]:
    """Four images of 100 pixels: two with fakes, two photographs; the first photograph has a false alarm of 20."""
    found = {
        "protocol": ["dfloc-1"] * 4,
        "iou": [0.5, 0.25, 0.0, 1.0],
        "f1": [2 / 3, 0.4, 0.0, 1.0],
        "ap": [0.9, 0.5, math.nan, math.nan],
        "auc": [0.8, 0.6, math.nan, math.nan],
        "mcc": [0.5, 0.1, 0.0, 0.0],
        "pbca": [0.9, 0.7, 0.8, 1.0],
        "tp": [10, 5, 0, 0],
        "fp": [10, 5, 20, 0],
        "fn": [0, 10, 0, 0],
        "tn": [80, 80, 80, 100],
        "mask_area": [0.1, 0.15, 0.0, 0.0],
        "grid_tp": [[10] * K, [5] * K, [0] * K, [0] * K],
        "grid_fp": [[10] * K, [5] * K, [20] * K, [0] * K],
    }
    return found | changes


@pytest.mark.parametrize("table", [pd.DataFrame, pa.table])
def test_summary_by_hand(table: type) -> None:
    summary = summarise(table(rows()), "dfloc-1")
    assert summary == pytest.approx(
        {
            "iou": 1.75 / 4,
            "f1": (2 / 3 + 0.4 + 1) / 4,
            "ap": 0.7,
            "auc": 0.7,
            "mcc": 0.15,
            "pbca": 0.85,
            **{f"nan/{key}": 0 for key in ("iou", "f1", "mcc", "pbca")},
            "nan/ap": 2,
            "nan/auc": 2,
            "pooled_iou": 15 / 60,
            "pooled_f1": 30 / 75,
            "false_alarm_area": 0.1,
            "iou/area/0.05-0.1": 0.5,
            "iou/area/0.1-0.2": 0.25,
        }
    )


def test_numbers_without_an_image_are_absent() -> None:
    fakes = summarise(pd.DataFrame(rows())[:2], "dfloc-1")
    assert "false_alarm_area" not in fakes
    photographs = summarise(pd.DataFrame(rows())[3:], "dfloc-1")
    assert not [key for key in photographs if key.startswith("iou/area")]
    assert (photographs["pooled_iou"], photographs["pooled_f1"], photographs["false_alarm_area"]) == (1, 1, 0)
    assert "ap" not in photographs


def test_pooled_scores_are_scikit_learns_of_all_pixels() -> None:
    fake_BHW = truths(4)
    prob_BHW = maps("noisy", fake_BHW)
    summary = summarise(measured(prob_BHW, fake_BHW), "dfloc-1")
    fake, called = fake_BHW.flatten().numpy(), (prob_BHW > 0.5).flatten().numpy()
    assert summary["pooled_iou"] == pytest.approx(sk.jaccard_score(fake, called))
    assert summary["pooled_f1"] == pytest.approx(sk.f1_score(fake, called))


def measured(prob_BHW: torch.Tensor, fake_BHW: torch.Tensor) -> pd.DataFrame:
    found = score(prob_BHW, fake_BHW, "dfloc-1") | counts(prob_BHW, fake_BHW, "dfloc-1")
    return pd.DataFrame({key: value.tolist() for key, value in found.items()} | {"protocol": "dfloc-1"})


def test_the_validation_threshold_is_the_best_there_and_the_test_set_has_no_say() -> None:
    """Maps that say the right thing at a fifth of the probability: 0.5 finds nothing, a low threshold all."""
    fake_BHW = truths(6)
    prob_BHW = maps("noisy", fake_BHW) * 0.4
    valid, test = measured(prob_BHW[:3], fake_BHW[:3]), measured(prob_BHW[3:], fake_BHW[3:])
    pairs = list(zip(fake_BHW[:3].flatten(1).numpy(), prob_BHW[:3].flatten(1).numpy(), strict=True))
    f1s = [np.mean([sk.f1_score(fake, prob > np.float32(t)) for fake, prob in pairs]) for t in native.GRID]
    chosen = native.GRID[int(np.argmax(f1s))]
    assert chosen < 0.3
    summary = summarise(test, "dfloc-1", valid)
    assert summary["threshold"] == sets.best_threshold(valid, "dfloc-1") == chosen
    pairs = list(zip(fake_BHW[3:].flatten(1).numpy(), prob_BHW[3:].flatten(1).numpy(), strict=True))
    expected = np.mean([sk.f1_score(fake, prob > np.float32(chosen)) for fake, prob in pairs])
    assert summary["f1_valid"] == pytest.approx(expected)
    assert summary["f1_valid"] > summary["f1"] + 0.3
    assert "f1_valid" not in summarise(test, "dfloc-1")
    assert summarise(test[:1], "dfloc-1", valid)["threshold"] == chosen


def test_of_equal_thresholds_the_nearest_to_the_protocols() -> None:
    assert sets.best_threshold(pd.DataFrame(rows()), "dfloc-1") == 0.5
    better = [[0] * 3 + [10] * (K - 3), *rows()["grid_tp"][1:]]
    assert sets.best_threshold(pd.DataFrame(rows(grid_tp=better)), "dfloc-1") == 0.5
    low = [[11] * 4 + [10] * (K - 4), *rows()["grid_tp"][1:]]
    assert sets.best_threshold(pd.DataFrame(rows(grid_tp=low)), "dfloc-1") == native.GRID[3]


def test_threshold_errors() -> None:
    with pytest.raises(DataError, match="declip-2025 chooses no threshold"):
        sets.best_threshold(pd.DataFrame(rows()).assign(protocol="declip-2025"), "declip-2025")
    with pytest.raises(DataError, match="came also dfloc-1"):
        sets.best_threshold(pd.DataFrame(rows()), "declip-2025")
    with pytest.raises(DataError, match='column "grid_tp"'):
        sets.best_threshold(pd.DataFrame(rows()).drop(columns="grid_tp"), "dfloc-1")
    with pytest.raises(DataError, match='lists of one length in the column "grid_tp"'):
        sets.best_threshold(pd.DataFrame(rows(grid_tp=[[1], [1, 2], [1], [1]])), "dfloc-1")
    with pytest.raises(DataError, match="came none"):
        sets.best_threshold(pd.DataFrame(rows())[:0], "dfloc-1")


def test_by_area_of_any_protocol() -> None:
    frame = pd.DataFrame({"mask_area": [0, 0.1, 0.10001, 0.2, 0.9, 0.9], "pbca": [9, 0.2, 0.4, 0.6, math.nan, 0.1]})
    assert [tuple(one) for one in by_area(frame, "pbca", (0, 0.1, 0.2, 0.5, 1))] == [
        (0, 0.1, 1, 0.2),
        (0.1, 0.2, 2, 0.5),
        (0.2, 0.5, 0, None),
        (0.5, 1, 1, 0.1),
    ]
    with pytest.raises(DataError, match='column "mask_area"'):
        by_area(frame.drop(columns="mask_area"), "pbca")
