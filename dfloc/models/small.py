"""Small convolutional models on frozen maps that learn from labels of images: one is explained, one gives a map."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models.base import Outputs, freeze_norms
from dfloc.models.decoders import Decoder, Examples, Standardize, allocate, initialise
from dfloc.models.heads import Pool
from dfloc.registry import MapSpec


class Small(Decoder):
    """Maps [B, C, H, W] to image logits [B, K]: of each width a 3x3 convolution, BatchNorm and ReLU; mean; linear.

    Grad-CAM reads `layers.features`, the output of the last ReLU, on the maps' own grid.

    Args:
        channels: C.
        num_classes: K.
        spec: `widths`, `standardize` (of each channel, over the training images' cells) and `init` are read.
        generator: where the weights are drawn from.
    """

    def __init__(self, channels: int, num_classes: int, spec: DecoderSpec, generator: torch.Generator) -> None:
        super().__init__()
        device = torch.get_default_device()
        with torch.device("meta"):
            if spec.standardize:
                self.layers.add_module("standardize", Standardize(channels))
            self.layers.add_module("features", _convolutions(channels, spec.widths))
            self.layers.add_module("pool", Pool("mean"))
            self.layers.add_module("head", nn.Conv2d(spec.widths[-1], num_classes, 1))
            self.layers.add_module("flatten", nn.Flatten())
        initialise(allocate(self, device), spec.init, generator)


class SmallAttention(nn.Module):
    """Maps [B, C, H, W] to a map [B, 1, H, W] of where it looks, and image logits [B, K] of what it sees there.

    The first convolution's features are multiplied by the map's sigmoid, as in Dang et al., CVPR 2020, after a block of
    Xception; the other convolutions, the mean and the linear layer read the product.

    Args:
        channels: C.
        num_classes: K; None: the task is to localize, so that what stands behind the map is not made.
        spec: `widths`, `standardize` and `init` are read.
        generator: where the weights are drawn from.
    """

    def __init__(self, channels: int, num_classes: int | None, spec: DecoderSpec, generator: torch.Generator) -> None:
        super().__init__()
        device, (first, *rest) = torch.get_default_device(), spec.widths
        with torch.device("meta"):
            self.standardize = Standardize(channels) if spec.standardize else None
            self.first = _convolutions(channels, [first])
            self.map = nn.Conv2d(first, 1, 3, padding=1)
            self.rest = _convolutions(first, rest) if num_classes is not None else None
            self.head = nn.Conv2d(spec.widths[-1], num_classes, 1) if num_classes is not None else None
        initialise(allocate(self, device), spec.init, generator)

    def forward(self, x_BCHW: Tensor) -> Tensor | Outputs:
        """Return the map, positive = fake, and where there are classes their logits."""
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        if self.standardize is not None:
            x_BCHW = self.standardize(x_BCHW)
        seen_BCHW = self.first(x_BCHW)
        map_B1HW = cast(Tensor, self.map(seen_BCHW))
        if self.rest is None or self.head is None:
            return map_B1HW
        pooled_BC11 = self.rest(seen_BCHW * map_B1HW.sigmoid()).mean((2, 3), keepdim=True)
        return Outputs(map_B1HW, self.head(pooled_BC11).flatten(1))

    def solve(self, source: Examples) -> None:
        """Fit the standardization, where there is one, to the training samples."""
        if self.standardize is not None:
            self.standardize.solve(source)


def make_small(
    spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None
) -> Small:
    """Make a small classifier of maps with a grid.

    Raises:
        ConfigError: the task is to localize, or a map has no grid.
    """
    if num_classes is None:
        raise ConfigError(
            'decoder "small" answers once an image, but the task is to localize; use conv or small-attention, or set '
            "task: detect"
        )
    made = Small(_channels(spec, maps), num_classes, spec, generator)
    if spec.batch_norm == "frozen":
        freeze_norms(made)
    return made


def make_small_attention(
    spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None
) -> SmallAttention:
    """Make a small model with a map, and of a task of images logits behind it.

    Raises:
        ConfigError: a map has no grid.
    """
    made = SmallAttention(_channels(spec, maps), num_classes, spec, generator)
    if spec.batch_norm == "frozen":
        freeze_norms(made)
    return made


def _convolutions(channels: int, widths: Sequence[int]) -> nn.Sequential:
    found = nn.Sequential()
    for number, width in enumerate(widths, start=1):
        found.add_module(f"conv{number}", nn.Conv2d(channels, width, 3, padding=1))
        found.add_module(f"norm{number}", nn.BatchNorm2d(width))
        found.add_module(f"relu{number}", nn.ReLU())
        channels = width
    return found


def _channels(spec: DecoderSpec, maps: Sequence[MapSpec]) -> int:
    vectors = [each for each in maps if each.layout == "vector"]
    if vectors:
        raise ConfigError(
            f'decoder "{spec.name}" needs maps with a grid; a vector of {vectors[0].channels} has none: use linear'
        )
    return sum(each.channels for each in maps)
