"""Patches (Tantaru et al., WACV 2024; Chai et al., ECCV 2020): Xception cut after a block, one decision per cell."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models.base import freeze
from dfloc.models.decoders import PIXELS, Examples, allocate, check_pixels, initialise
from dfloc.registry import MapSpec

INPUT_SIZE = 299
FRACTION = 22  # binary digits of Pillow's weights

# Of each block its input and output channels, its separable convolutions and its stride (Chollet, CVPR 2017, figure 5).
BLOCKS = (
    (64, 128, 2, 2),
    (128, 256, 2, 2),
    (256, 728, 2, 2),
    *((728, 728, 3, 1),) * 8,
    (728, 1024, 2, 2),
)


class SeparableBlock(nn.Module):
    """Separable convolutions, each with BatchNorm, ReLUs between them, and a shortcut past all of them.

    Args:
        in_channels: of its input.
        out_channels: of its output.
        convs: separable convolutions.
        stride: of the max pooling behind them, where it is not 1, and of the shortcut.
        relu_first: whether a ReLU stands before the first convolution.
        grow_last: whether the last convolution changes the number of channels, and not the first.
    """

    def __init__(
        self, in_channels: int, out_channels: int, convs: int, stride: int, *, relu_first: bool, grow_last: bool
    ) -> None:
        super().__init__()
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))
        widths = [in_channels] * convs + [out_channels] if grow_last else [in_channels] + [out_channels] * convs
        self.layers = nn.Sequential()
        for k in range(convs):
            if k or relu_first:
                self.layers.append(nn.ReLU())
            self.layers.append(nn.Conv2d(widths[k], widths[k], 3, padding=1, groups=widths[k], bias=False))
            self.layers.append(nn.Conv2d(widths[k], widths[k + 1], 1, bias=False))
            self.layers.append(nn.BatchNorm2d(widths[k + 1]))
        if stride != 1:
            self.layers.append(nn.MaxPool2d(3, stride, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return both ways' sum."""
        return cast(Tensor, self.layers(x_BCHW) + self.shortcut(x_BCHW))


class Xception(nn.Module):
    """Images [B, 3, 256, 256], values 0 to 255, to logits of a coarse grid: after block 2 [B, 1, 37, 37].

    Images are resized as by Pillow (uint8, bilinear) to 299, those of 299 are read as they are; values are -1 to 1. The
    head gives each cell two logits, and the difference of the two is the one logit of a cell: its binary cross-entropy
    is the cross-entropy of the two.

    Args:
        block: after which one the trunk ends, 1 to 12.
    """

    def __init__(self, block: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential()
        for number, (width, next_width, convs, stride) in enumerate(BLOCKS[:block], start=1):
            last = number == len(BLOCKS)
            self.blocks.append(SeparableBlock(width, next_width, convs, stride, relu_first=number > 1, grow_last=last))
        self.head = nn.Conv2d(BLOCKS[block - 1][1], 2, 1)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the trunk's output for images of any size, values -1 to 1."""
        return cast(Tensor, self.blocks(self.stem(x_BCHW)))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits; positive = fake."""
        logit_B2HW = self.head(self.features(scaled(x_BCHW)))
        return cast(Tensor, logit_B2HW[:, 1:] - logit_B2HW[:, :1])

    def solve(self, source: Examples) -> None:
        """Do nothing: no part of it has a closed form."""


def scaled(x_BCHW: Tensor) -> Tensor:
    """Return images, values 0 to 255, as Xception sees them: of 299 pixels, `enlarged` where they are not, -1 to 1."""
    large_BCHW = x_BCHW if x_BCHW.shape[-1] == INPUT_SIZE else enlarged(x_BCHW)
    return (large_BCHW / 255 - 0.5) / 0.5


def enlarged(x_BCHW: Tensor, to: int = INPUT_SIZE) -> Tensor:
    """Return images of whole grey levels enlarged to 299 pixels, as Pillow's bilinear resize has them, to the last one.

    Pillow goes along the rows, then along the columns, rounds in between, and weighs two neighbours by whole numbers of
    2^-22.

    Args:
        x_BCHW: the images.
        to: another side, not below theirs.
    """
    level_BCHW = x_BCHW.to(torch.int32)
    for dim in (3, 2):
        size = x_BCHW.shape[dim]
        place = (torch.arange(to, dtype=torch.float64, device=x_BCHW.device) + 0.5) * size / to - 0.5
        before = place.floor()
        sums = torch.tensor(1 << FRACTION - 1, dtype=torch.int32, device=x_BCHW.device)
        for index, weight in ((before, before + 1 - place), (before + 1, place - before)):
            taken = level_BCHW.index_select(dim, index.clamp(0, size - 1).long()).movedim(dim, -1)
            sums = sums + taken * (weight * (1 << FRACTION)).round().to(torch.int32)
        level_BCHW = (sums >> FRACTION).movedim(-1, dim)
    return level_BCHW.to(x_BCHW.dtype)


def make_xception(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> Xception:
    """Make a cut Xception as its `init` says, from the generator alone.

    Raises:
        ConfigError: the block is not named, or it would not read pixels.
    """
    if spec.block is None:
        raise ConfigError('decoder "xception" needs the block after which it ends, 1 to 12: {name: xception, block: 2}')
    check_pixels(spec.name, maps, (*PIXELS,))
    device = torch.get_default_device()
    with torch.device("meta"):
        made = Xception(spec.block)
    initialise(allocate(made, device), spec.init, generator)
    if spec.prior is not None:
        half = math.log(spec.prior / (1 - spec.prior)) / 2
        with torch.no_grad():
            cast(Tensor, made.head.bias).copy_(torch.tensor([-half, half]))
    if spec.batch_norm == "frozen":
        for layer in list(made.modules()):
            if isinstance(layer, nn.BatchNorm2d):
                freeze(layer)
    return made
