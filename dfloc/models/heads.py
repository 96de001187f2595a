"""What answers once an image: linear heads on vectors and pooled maps, and the share of each class."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models import decoders
from dfloc.models.baselines import CERTAIN
from dfloc.models.decoders import Decoder, Examples, Standardize, allocate, chunks, initialise
from dfloc.registry import MapSpec


class Pool(nn.Module):
    """Maps [B, C, H, W] to one cell [B, C, 1, 1]: their first token, their mean, their maximum, or the last two.

    Args:
        how: cls (of tokens as a grid of one row, CLS first) | mean | max | mean+max (2 C channels, means first).
    """

    def __init__(self, how: Literal["cls", "mean", "max", "mean+max"]) -> None:
        super().__init__()
        self.how = how

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the pooled maps."""
        if self.how == "cls":
            return x_BCHW[:, :, :1, :1]
        means, highest = x_BCHW.mean((2, 3), keepdim=True), x_BCHW.amax((2, 3), keepdim=True)
        return {"mean": means, "max": highest}.get(self.how, torch.cat([means, highest], dim=1))


class Pooled:
    """Training samples as what stands behind a pooling reads them."""

    def __init__(self, source: Examples, pool: nn.Module) -> None:
        self._source, self._pool = source, pool

    @property
    def num_samples(self) -> int:
        """Number of training samples."""
        return self._source.num_samples

    def batch(self, indices: Sequence[int], epoch: int) -> Any:
        """Return these samples with their maps pooled."""
        batch = self._source.batch(indices, epoch)
        return batch._replace(x=self._pool(batch.x))


class LinearHead(Decoder):
    """Maps [B, C, H, W], or vectors [B, C, 1, 1], to image logits [B, K]: pooled, standardized, weighed.

    Args:
        channels: C.
        num_classes: K.
        spec: `pool`, `standardize` (of each pooled channel, over the training images) and `init` are read.
        generator: where the weights are drawn from.
    """

    def __init__(self, channels: int, num_classes: int, spec: DecoderSpec, generator: torch.Generator) -> None:
        super().__init__()
        width = 2 * channels if spec.pool == "mean+max" else channels
        device = torch.get_default_device()
        with torch.device("meta"):
            if spec.pool is not None:
                self.layers.add_module("pool", Pool(spec.pool))
            if spec.standardize:
                self.layers.add_module("standardize", Standardize(width))
            self.layers.add_module("head", nn.Conv2d(width, num_classes, 1))
            self.layers.add_module("flatten", nn.Flatten())
        initialise(allocate(self, device), spec.init, generator)

    def solve(self, source: Examples) -> None:
        """Fit the standardization, where there is one, to the pooled maps of the training samples."""
        named = dict(self.layers.named_children())
        super().solve(Pooled(source, named["pool"]) if "pool" in named else source)


class Prior(nn.Module):
    """Answers with the share of each class in the training list, whatever the image.

    Args:
        num_classes: K.
    """

    logit: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("logit", torch.zeros(1, num_classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the same logits [B, K] for each image."""
        return self.logit.expand(len(x_BCHW), -1)

    def solve(self, source: Examples) -> None:
        """Count the labels; logits are log shares, whose softmax is the shares, and at least -10."""
        counts = [torch.bincount(batch.label_B.cpu(), minlength=self.logit.shape[1]) for batch in chunks(source)]
        share_K = torch.stack(counts).sum(0).double() / source.num_samples
        self.logit.copy_(share_K.log().clamp(min=-CERTAIN)[None])


def make_linear(
    spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None
) -> Decoder:
    """Make a linear probe: of pixels (`decoders.make_linear`), or of whole images where there are classes.

    Raises:
        ConfigError: it pools and should localize, does not pool and should answer once an image, or cannot pool so.
    """
    if num_classes is None:
        if spec.pool is not None:
            raise ConfigError(
                f'decoder "linear" with pool: {spec.pool} answers once an image, but the task is to localize; leave '
                "out pool, or set task: detect"
            )
        return decoders.make_linear(spec, maps, generator)
    for name in ("grid", "prior"):
        if getattr(spec, name) is not None:
            raise ConfigError(f'decoder "linear" has a {name} of maps alone; this task is of images: leave out {name}')
    _check_pool(spec, maps)
    return LinearHead(sum(each.channels for each in maps), num_classes, spec, generator)


def make_prior(
    spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None
) -> Prior:
    """Make the baseline that answers with the share of each class.

    Raises:
        ConfigError: the task is to localize.
    """
    if num_classes is None:
        raise ConfigError(
            'decoder "prior" answers with the share of each class, but the task is to localize; use mean-mask, or set '
            "task: detect"
        )
    return Prior(num_classes)


def _check_pool(spec: DecoderSpec, maps: Sequence[MapSpec]) -> None:
    layouts = {each.layout for each in maps}
    shapes = ", ".join(f"{each.layout} {each.channels}x{each.height}x{each.width}" for each in maps)
    if layouts == {"vector"}:
        if spec.pool is not None:
            raise ConfigError(f'decoder "linear" has nothing to pool in vectors ({shapes}); leave out pool')
        return
    if "vector" in layouts:
        raise ConfigError(f'decoder "linear" reads vectors or maps with a grid, not both ({shapes}); name one kind')
    if spec.pool is None:
        has_cls = ", or cls" if layouts == {"tokens"} else ""
        raise ConfigError(
            f'decoder "linear" answers once an image and must pool {shapes}; add pool: mean, max or mean+max{has_cls}'
        )
    grids = {(each.height, each.width) for each in maps}
    if spec.pool == "cls" and (layouts != {"tokens"} or len(grids) > 1):
        raise ConfigError(f'decoder "linear" with pool: cls needs tokens of one grid, not {shapes}; use pool: mean')
