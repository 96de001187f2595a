"""`dfloc-1`: our own evaluation, every edge case of it defined."""

import numpy as np
from torch import Tensor

from dfloc.metrics import pixel, sets
from dfloc.metrics.metric import AP, AUC, F1, F1_CHOSEN, FALSE_ALARM, IOU, MCC, PBCA, POOLED_IOU
from dfloc.metrics.protocols import OVER_HALF, Protocol, bilinear, over_half
from dfloc.metrics.table import Array, Table, column

GRID = tuple(step / 20 for step in range(1, 20))


def dfloc_1() -> Protocol:
    """Per-image numbers that scikit-learn gives as well, all of them fractions but `mcc`, which is in [-1, 1].

    Map: resized to the truth's size by tensor bilinear interpolation with antialias; called fake where strictly over
    0.5. Truth: fake over 127.5, no pixel left out. "Empty" = without a fake pixel, "full" = of fake pixels alone.

    - `iou`, `f1`: 1 where truth and call are empty; 0 where only one of the two is. A full truth is nothing special.
    - `ap`, `auc` (pixels of equal probability together; a constant map has the share of fake pixels, and 0.5): NaN
      where the truth is empty or full, since there is nothing to rank.
    - `mcc`: 0 where the truth or the call is empty or full, so that a constant call is never better than chance.
    - `pbca`: the share of pixels called rightly; always defined.

    NaN are left out of means and counted. Numbers of a set, beside the means: `pooled_iou` and `pooled_f1` over all its
    pixels (1 where nothing is fake nor called so); `false_alarm_area`, the mean share of pixels called fake on the
    images without a fake pixel (absent where there are none); `iou/area/<low>-<high>`, the mean IoU of the images
    whose fake area is in that bin (absent where there are none); and, from rows of validation images, `threshold` and
    `f1_valid` (see `sets.summarise`).
    """
    return Protocol(
        name="dfloc-1",
        metrics=(IOU, F1, AP, AUC, MCC, PBCA, POOLED_IOU, F1_CHOSEN, FALSE_ALARM),
        threshold=0.5,
        binarise=over_half,
        resize=bilinear,
        measure=_measure,
        tracked=("iou", "f1", "ap", "auc", "pooled_iou", "f1_valid"),
        truth=OVER_HALF,
        all_fake=_all_fake,
        grid=GRID,
        of_set=_of_set,
    )


def _measure(prob_BHW: Tensor, called_BHW: Tensor, fake_BHW: Tensor) -> dict[str, Tensor]:
    tp, fp, fn, tn = (
        (called & fake).sum((1, 2))
        for called, fake in (
            (called_BHW, fake_BHW),
            (called_BHW, ~fake_BHW),
            (~called_BHW, fake_BHW),
            (~called_BHW, ~fake_BHW),
        )
    )
    ap_B, auc_B = pixel.areas(prob_BHW, fake_BHW)
    return {
        "iou": pixel.share(tp, tp + fp + fn),
        "f1": pixel.share(2 * tp, 2 * tp + fp + fn),
        "ap": ap_B,
        "auc": auc_B,
        "mcc": pixel.mcc(tp, fp, fn, tn),
        "pbca": pixel.accuracy(called_BHW, fake_BHW),
    }


def _all_fake(fake_B: Array, pixels_B: Array) -> dict[str, Array]:
    """Return what calling every pixel fake scores, a constant map: its ranking is chance."""
    ranked_B = (fake_B > 0) & (fake_B < pixels_B)
    return {
        "iou": fake_B / pixels_B,
        "f1": 2 * fake_B / (fake_B + pixels_B),
        "ap": np.where(ranked_B, fake_B * fake_B / pixels_B / np.maximum(fake_B, 1), np.nan),
        "auc": np.where(ranked_B, 0.5, np.nan),
        "mcc": np.zeros(len(fake_B)),
        "pbca": fake_B / pixels_B,
    }


def _of_set(rows: Table) -> dict[str, float]:
    tp, fp, fn, tn = (column(rows, name).astype("float64") for name in ("tp", "fp", "fn", "tn"))
    found = {"pooled_f1": float(sets.f1(tp.sum(), fp.sum(), tp.sum() + fn.sum()))}
    real = tp + fn == 0
    if real.any():
        found["false_alarm_area"] = float((fp[real] / (fp + tn)[real]).mean())
    bins = sets.by_area(rows, "iou")
    return found | {f"iou/area/{one.low:g}-{one.high:g}": one.mean for one in bins if one.mean is not None}
