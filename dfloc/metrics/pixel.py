"""Per-image numbers of probability maps, vectorised over the batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

EROSION = 15  # side of the window that takes the border off the truth's fake side, in pixels
DILATION = 11  # ... and off its pristine side

# The state of a pixel in the sort keys of `ranked`: two bits.
PRISTINE, FAKE_IGNORED, FAKE = 1, 2, 3  # 0: pristine, in the band


def iou(called_BHW: Tensor, fake_BHW: Tensor) -> Tensor:
    """Return intersection over union of what is called fake and what is; both empty: 1 (DeCLIP, utils.py)."""
    both_B = (called_BHW & fake_BHW).sum((1, 2)).double()
    either_B = (called_BHW | fake_BHW).sum((1, 2)).double()
    return (both_B + 1e-8) / (either_B + 1e-8)


def overlap(called_BHW: Tensor, fake_BHW: Tensor) -> Tensor:
    """Return intersection over union, exactly; both empty: 1 (as scikit-learn's jaccard_score, zero_division=1)."""
    return share((called_BHW & fake_BHW).sum((1, 2)), (called_BHW | fake_BHW).sum((1, 2)))


def share(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole in float64; 1 where there is nothing of the whole."""
    return torch.where(whole > 0, part.double() / whole.clamp(min=1), 1.0)


def accuracy(called_BHW: Tensor, fake_BHW: Tensor) -> Tensor:
    """Return the share of pixels called rightly (PBCA)."""
    return (called_BHW == fake_BHW).double().mean((1, 2))


def f1(tp: Tensor, fp: Tensor, num_fake: Tensor) -> Tensor:
    """Return F1 from counts; nothing to find and nothing found: 1 (DeCLIP, utils.py)."""
    return (2 * tp.double() + 1e-32) / (tp + fp + num_fake).double().clamp(min=1e-32)


def mcc(tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
    """Return Matthews' correlation; 0 where truth or call is of one class alone (as scikit-learn)."""
    tp, fp, fn, tn = (count.double() for count in (tp, fp, fn, tn))
    scale = ((tp + fp).sqrt() * (tp + fn).sqrt()) * ((tn + fp).sqrt() * (tn + fn).sqrt())
    return torch.where(scale > 0, (tp * tn - fp * fn) / scale.clamp(min=1), 0.0)


def above(prob_BHW: Tensor, fake_BHW: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Count the fake and the pristine pixels whose probability is strictly above each threshold.

    Args:
        prob_BHW: float32.
        fake_BHW: bool.
        thresholds: rising.

    Returns:
        Two of int64 [B, thresholds].
    """
    edges = torch.tensor(thresholds, dtype=torch.float32, device=prob_BHW.device)
    passed_BP = torch.bucketize(prob_BHW.flatten(1).contiguous(), edges)
    fake_BP = fake_BHW.flatten(1).long()
    counts = []
    for weight_BP in (fake_BP, 1 - fake_BP):
        count_BK = weight_BP.new_zeros(len(prob_BHW), len(edges) + 1).scatter_add_(1, passed_BP, weight_BP)
        counts.append(count_BK.flip(1).cumsum(1).flip(1)[:, 1:])
    return counts[0], counts[1]


def areas(prob_BHW: Tensor, fake_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return average precision and the area under the ROC curve over all pixels, from one sort.

    Both as scikit-learn's: not binned, pixels of equal probability taken together. NaN where the truth is of one
    class alone: then there is nothing to rank.

    Args:
        prob_BHW: float32 in [0, 1].
        fake_BHW: bool.
    """
    key_BP = _sorted_keys(prob_BHW.flatten(1), 2 * fake_BHW.flatten(1).int())
    last_BP = _ends(key_BP >> 2)
    fake_BP = (key_BP & 3) >= FAKE_IGNORED
    tp_BP = fake_BP.long().cumsum(1)
    num_fake_B = tp_BP[:, -1]
    both_B = (num_fake_B > 0) & (num_fake_B < tp_BP.shape[1])
    ap_B, auc_B = _average_precision(tp_BP, last_BP), _roc_area(tp_BP, last_BP)
    return torch.where(both_B, ap_B, torch.nan), torch.where(both_B, auc_B, torch.nan)


def banded(fake_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return (surely fake, surely pristine): the truth eroded by 15x15, and what its dilation by 11x11 leaves.

    The band between counts as neither (as TruFor and DeCLIP). Beyond the image's edge nothing erodes or dilates.
    """
    eroded_BHW = ~_any_within(~fake_BHW, EROSION)
    return eroded_BHW, ~_any_within(fake_BHW, DILATION)


def _any_within(mask_BHW: Tensor, side: int) -> Tensor:
    """Return whether a pixel's window of an odd side holds any of the mask, from box sums."""
    reach = side // 2
    sum_BHW = mask_BHW.long()
    for dim in (1, 2):
        padding = [reach + 1, reach] if dim == 2 else [0, 0, reach + 1, reach]
        running = functional.pad(sum_BHW, padding).cumsum(dim)
        size = sum_BHW.shape[dim]
        sum_BHW = running.narrow(dim, side, size) - running.narrow(dim, 0, size)
    return sum_BHW > 0


def ranked(prob_BHW: Tensor, fake_BHW: Tensor, eroded_BHW: Tensor, pristine_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return average precision over all pixels, and F1 at the image's own best threshold, from one sort.

    Average precision is not binned: the sum over distinct probabilities of recall gained times precision there; 0
    where nothing is fake (as torchmetrics and scikit-learn). F1 looks at the pixels surely fake or pristine alone and
    is the best over the cuts between two of their distinct probabilities; NaN where there is no such cut.

    Args:
        prob_BHW: float32 in [0, 1].
        fake_BHW: bool.
        eroded_BHW: what is surely fake, see `banded`.
        pristine_BHW: what is surely not.
    """
    state_BHW = 2 * fake_BHW.int() + (eroded_BHW | pristine_BHW).int()
    key_BP = _sorted_keys(prob_BHW.flatten(1), state_BHW.flatten(1))
    level_BP, state_BP = key_BP >> 2, key_BP & 3
    last_BP = _ends(level_BP)
    tp_BP = (state_BP >= FAKE_IGNORED).long().cumsum(1)
    return _average_precision(tp_BP, last_BP), _best_f1(state_BP, last_BP)


def _sorted_keys(prob_BP: Tensor, state_BP: Tensor) -> Tensor:
    """Sort pixels by falling probability, their state packed into the same 32 bits.

    The bits of a float32 in [0, 1] are a number of 30 bits in the floats' order, so that one sort of integers (much
    faster than argsort, and than torch's on a CPU) does for probability and state.
    """
    bits_BP = (prob_BP + 0.0).contiguous().view(torch.int32)
    key_BP = (2**29 - 1 - bits_BP) * 4 + state_BP
    if key_BP.is_cuda:
        return key_BP.sort(dim=1).values
    return torch.from_numpy(np.sort(key_BP.numpy(), axis=1))


def _ends(level_BP: Tensor) -> Tensor:
    """Return where runs of equal probability end."""
    return functional.pad(level_BP[:, 1:] != level_BP[:, :-1], (0, 1), value=True)


def _average_precision(tp_BP: Tensor, last_BP: Tensor) -> Tensor:
    """Sum recall gained times precision over the ends of runs of equal probability."""
    at_B, at_P = last_BP.nonzero(as_tuple=True)
    tp_K = tp_BP[at_B, at_P]
    area_K = _gained(tp_K, at_B).double() * tp_K / (at_P + 1)
    area_B = area_K.new_zeros(len(tp_BP)).index_add_(0, at_B, area_K)
    return area_B / tp_BP[:, -1].clamp(min=1)


def _roc_area(tp_BP: Tensor, last_BP: Tensor) -> Tensor:
    """Sum trapezes between the ends of runs of equal probability."""
    at_B, at_P = last_BP.nonzero(as_tuple=True)
    tp_K = tp_BP[at_B, at_P]
    fp_K = at_P + 1 - tp_K
    area_K = _gained(fp_K, at_B).double() * (tp_K - _gained(tp_K, at_B).double() / 2)
    area_B = area_K.new_zeros(len(tp_BP)).index_add_(0, at_B, area_K)
    num_fake_B = tp_BP[:, -1].double()
    return area_B / (num_fake_B * (tp_BP.shape[1] - num_fake_B)).clamp(min=1)


def _gained(count_K: Tensor, at_B: Tensor) -> Tensor:
    """Return what a running count of each image gained since the end before, or since 0."""
    first_K = at_B.diff(prepend=at_B.new_full((1,), -1)) > 0
    return torch.where(first_K, count_K, count_K.diff(prepend=count_K.new_zeros(1)))


def _best_f1(state_BP: Tensor, last_BP: Tensor) -> Tensor:
    """Take the best F1 over the cuts that leave a counted pixel on either side."""
    tp_BP = (state_BP == FAKE).long().cumsum(1)
    fp_BP = (state_BP == PRISTINE).long().cumsum(1)
    num_fake_B1, num_pristine_B1 = tp_BP[:, -1:], fp_BP[:, -1:]
    called_BP = tp_BP + fp_BP
    cut_BP = last_BP & (called_BP > 0) & (called_BP < num_fake_B1 + num_pristine_B1)
    best_B = torch.where(cut_BP, f1(tp_BP, fp_BP, num_fake_B1), -1.0).amax(1)
    return torch.where(best_B < 0, torch.nan, best_B)
