"""`declip-2025`: DeCLIP's evaluation, bug for bug."""

import numpy as np
import torch
from torch import Tensor

from dfloc.metrics import pixel
from dfloc.metrics.metric import AP, F1_FIXED, F1_ORACLE, IOU, PBCA, POOLED_IOU
from dfloc.metrics.protocols import OVER_HALF, Protocol, bilinear, over_half
from dfloc.metrics.table import Array


def declip_2025() -> Protocol:
    """DeCLIP's evaluation, bug for bug (Smeu et al. 2025, validate.py and utils.py), and `pbca` as ours.

    Map: resized to the truth's size by tensor bilinear interpolation with antialias, after the sigmoid. Truth: fake
    over 127.5. `iou`: both empty counts 1. `f1_fixed`, `f1_best` leave out a border band, so that a truth under 15x15
    has nothing to find; `f1_best` is an oracle's (the image's own best threshold) and NaN for a map that is constant
    on the pixels that count. `ap` is over all pixels, 0 where nothing is fake. All are fractions.

    In one thing `ap` is not DeCLIP's: rounding may take a saturated map a few 1e-7 over 1 where it is made smaller, and
    torchmetrics, which DeCLIP calls, takes such a map for logits and puts a sigmoid on it, so that probabilities about
    2e-7 apart become equal. Ours does not; the row says `out_of_range`, and a report counts them.
    """
    return Protocol(
        name="declip-2025",
        metrics=(IOU, F1_FIXED, F1_ORACLE, AP, PBCA, POOLED_IOU),
        threshold=0.5,
        binarise=over_half,
        resize=bilinear,
        measure=_measure,
        tracked=("iou", "ap"),
        truth=OVER_HALF,
        out_of_range="before AP DeCLIP puts a sigmoid on a map that rounding takes out of [0, 1] when it is resized; "
        "ours is of the map as it is",
        all_fake=_all_fake,
    )


def _measure(prob_BHW: Tensor, called_BHW: Tensor, fake_BHW: Tensor) -> dict[str, Tensor]:
    surely_fake_BHW, surely_pristine_BHW = pixel.banded(fake_BHW)
    tp_B = (called_BHW & surely_fake_BHW).sum((1, 2))
    fp_B = (called_BHW & surely_pristine_BHW).sum((1, 2))
    fixed_B = pixel.f1(tp_B, fp_B, surely_fake_BHW.sum((1, 2)))
    ap_B, best_B = pixel.ranked(prob_BHW, fake_BHW, surely_fake_BHW, surely_pristine_BHW)
    return {
        "iou": pixel.iou(called_BHW, fake_BHW),
        "f1_fixed": fixed_B,
        "f1_best": torch.maximum(best_B, fixed_B),
        "ap": ap_B,
        "pbca": pixel.accuracy(called_BHW, fake_BHW),
    }


def _all_fake(fake_B: Array, pixels_B: Array) -> dict[str, Array]:
    """Return what calling every pixel fake scores; F1 would need the border that it leaves out."""
    return {
        "iou": (fake_B + 1e-8) / (pixels_B + 1e-8),
        "ap": fake_B * fake_B / pixels_B / np.maximum(fake_B, 1),
        "pbca": fake_B / pixels_B,
    }
