"""Does a map of relevance lie where an image is fake: the pointing game, and the share of its mass."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfloc.metrics import protocols
from dfloc.metrics.metric import IOU
from dfloc.metrics.protocols import COUNTS
from dfloc.metrics.table import Array, Table, column, known

POINTED, MASS = "pointed", "mass_inside"
NUMBERS = {"explain_iou": IOU.key, "explain_pointed": "pointed", "explain_mass": "mass", "explain_area": "area"}
"""Of explained fakes: the name of a number in CSVs and MLflow, and the attribute of `Looks` that it is."""
PEAK = 1e-6  # below its maximum: what rounding leaves between equal pixels


class Looks(NamedTuple):
    """What the explanations of fakes say together; NaN where no map says anything.

    Attributes:
        images: that are fake in part.
        iou: mean IoU of the pixels over the protocol's threshold with the mask.
        pointed: share of images whose highest pixel is fake.
        mass: mean share of a map's mass on fake pixels; a map of zeros has none.
        area: mean share of fake pixels: what mass and pointing of a map that looks anywhere come to.
        blank: maps of zeros.
    """

    images: int
    iou: float
    pointed: float
    mass: float
    area: float
    blank: int

    @property
    def numbers(self) -> dict[str, float]:
        """What is told of it beside the protocol's numbers, by `NUMBERS`; without what no map says."""
        told = {name: float(getattr(self, field)) for name, field in NUMBERS.items()}
        return {name: value for name, value in told.items() if not np.isnan(value)}


def pointing(prob_Bhw: Tensor, truth_BHW: Tensor, protocol: str) -> dict[str, Tensor]:
    """Measure each map, at the truth's size and by the protocol's resize, against what the protocol calls fake.

    Returns:
        `pointed`: the share of the highest pixels that are fake, 0 of a map of zeros (Zhang et al. 2018, without a
        margin); `mass_inside`: the share of the map's sum on fake pixels, NaN of a map of zeros. Both float64 [B].
    """
    rule, size = protocols.find(protocol), (truth_BHW.shape[1], truth_BHW.shape[2])
    prob_BHW = prob_Bhw
    if prob_Bhw.shape[1:] != size:
        prob_BHW = rule.resize(prob_Bhw[:, None], size)[:, 0].clamp(min=0)
    fake_BP, prob_BP = rule.binarise(truth_BHW).flatten(1), prob_BHW.double().flatten(1)
    top_B, sum_B = prob_BP.amax(1), prob_BP.sum(1)
    peak_BP = (prob_BP >= top_B[:, None] - PEAK) & (top_B > PEAK)[:, None]
    pointed_B = (peak_BP & fake_BP).sum(1) / peak_BP.sum(1).clamp(min=1).double()
    mass_B = (prob_BP * fake_BP).sum(1) / sum_B
    return {POINTED: pointed_B, MASS: torch.where(sum_B > 0, mass_B, torch.nan)}


def looks(rows: Table) -> Looks | None:
    """Return what the explained rows of fakes say; None where no row is explained and fake in part."""
    if not known(rows, POINTED):
        return None
    tp, fp, fn, tn = (column(rows, name).astype(np.float64) for name in COUNTS)
    partly = (tp + fn > 0) & (fp + tn > 0)
    if not partly.any():
        return None
    pointed, mass, spread = (column(rows, name).astype(np.float64)[partly] for name in (POINTED, MASS, "spread"))
    return Looks(
        images=int(partly.sum()),
        iou=float((tp[partly] / (tp + fp + fn)[partly]).mean()),
        pointed=float(pointed.mean()),
        mass=_mean(mass),
        area=float(((tp + fn) / (tp + fp + fn + tn))[partly].mean()),
        blank=int((spread == 0).sum()),
    )


def numbers(rows: Table) -> dict[str, float]:
    """Return `Looks.numbers` of rows; nothing of rows that are not explained."""
    found = looks(rows)
    return found.numbers if found else {}


def words(found: Looks) -> Iterator[str]:
    """Yield what explanations say, for a screen; they are relative to their own maximum, no probabilities."""
    yield (
        f"explanation on {found.images:,} fakes: highest pixel in the fake region {found.pointed:.3f}, share of the "
        f"map's mass there {found.mass:.3f}, of the area {found.area:.3f}"
    )
    if found.blank:
        yield f"{found.blank:,} explanations are zero everywhere: no part of the layer says more than another"


def _mean(values: Array) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")
