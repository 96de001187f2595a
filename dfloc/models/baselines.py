"""What is solved on maps instead of trained: the baselines that every table has."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models.decoders import OUTPUT_SIZE, Examples, chunks
from dfloc.registry import MapSpec

CERTAIN = 10.0  # the logit of a baseline that has no doubt
NUM_CANDIDATES = 64  # thresholds that `threshold` chooses from


class AllFake(nn.Module):
    """Calls every pixel fake."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the same logit everywhere."""
        return torch.full((len(x_BCHW), 1, OUTPUT_SIZE, OUTPUT_SIZE), CERTAIN, device=x_BCHW.device)

    def solve(self, source: Examples) -> None:
        """Learn nothing."""


class MeanMask(nn.Module):
    """Answers with the mean of the training targets, whatever the image."""

    logit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("logit", torch.zeros(1, 1, OUTPUT_SIZE, OUTPUT_SIZE))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the same map for each image."""
        return self.logit.expand(len(x_BCHW), -1, -1, -1)

    def solve(self, source: Examples) -> None:
        """Average the targets; the logit is clamped to +-10."""
        total_HW = sum(batch.target_BHW.double().sum(0) for batch in chunks(source))
        logit_HW = torch.logit(cast(Tensor, total_HW) / source.num_samples).clamp(-CERTAIN, CERTAIN)
        self.logit.copy_(logit_HW)


class Threshold(nn.Module):
    """Calls fake what lies on one side of a threshold of a one-channel map, resized bilinearly to 256."""

    threshold: Tensor
    above: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("above", torch.ones((), dtype=torch.bool))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return +10 on the fake side, -10 on the other."""
        fake_B1HW = (_enlarge(x_BCHW) > self.threshold) == self.above
        return torch.where(fake_B1HW, CERTAIN, -CERTAIN)

    def solve(self, source: Examples) -> None:
        """Choose, of 64 quantiles of the training maps, the threshold and side with the highest mean IoU."""
        values = np.concatenate([batch.x.float().flatten().cpu().numpy() for batch in chunks(source)])
        shares = (np.arange(NUM_CANDIDATES) + 0.5) / NUM_CANDIDATES
        candidate_T = torch.from_numpy(np.quantile(values, shares).astype(np.float32))
        iou_2T = torch.zeros(2, NUM_CANDIDATES, dtype=torch.float64)
        for batch in chunks(source):
            iou_2T += _iou_by_threshold(_enlarge(batch.x).cpu(), batch.target_BHW.cpu() > 0.5, candidate_T).sum(1)
        side, best = divmod(int(iou_2T.argmax()), NUM_CANDIDATES)
        self.threshold.copy_(candidate_T[best])
        self.above.fill_(side == 0)


def make_all_fake(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> AllFake:
    """Make the baseline that calls every pixel fake."""
    return AllFake()


def make_mean_mask(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> MeanMask:
    """Make the baseline that answers with the mean training mask."""
    return MeanMask()


def make_threshold(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> Threshold:
    """Make the baseline that thresholds one channel."""
    channels = sum(each.channels for each in maps)
    if channels != 1:
        raise ConfigError(
            f'decoder "threshold" needs one map of one channel (such as srm/variance), not {channels} channels'
        )
    return Threshold()


def _enlarge(x_BCHW: Tensor) -> Tensor:
    return functional.interpolate(x_BCHW.float(), (OUTPUT_SIZE, OUTPUT_SIZE), mode="bilinear")


def _iou_by_threshold(x_B1HW: Tensor, fake_BHW: Tensor, candidate_T: Tensor) -> Tensor:
    """Return each image's IoU, [2 (above, not above), B, T], from one histogram of its values per side of the truth."""
    num_bins = len(candidate_T) + 1
    bin_BP = torch.bucketize(x_B1HW.flatten(1), candidate_T)
    cell_BP = bin_BP + num_bins * fake_BHW.flatten(1).long()
    cell_BP += 2 * num_bins * torch.arange(len(cell_BP))[:, None]
    count_B2N = torch.bincount(cell_BP.flatten(), minlength=2 * num_bins * len(cell_BP)).view(-1, 2, num_bins)
    below_B2T = count_B2N.cumsum(2)[:, :, :-1]
    above_B2T = count_B2N.sum(2, keepdim=True) - below_B2T
    truth_B1 = count_B2N[:, 1].sum(1, keepdim=True)
    side_2B2T = torch.stack([above_B2T, below_B2T]).double()
    return (side_2B2T[:, :, 1] + 1e-8) / (side_2B2T[:, :, 0] + truth_B1 + 1e-8)
