"""What is trained on maps: linear and conv-N decoders."""

import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from dfloc import registry, repro
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models import answers
from dfloc.models.base import freeze
from dfloc.models.parts import Examples as Examples  # what decoders are made of has one door, this module
from dfloc.models.parts import Init as Init
from dfloc.models.parts import Standardize as Standardize
from dfloc.models.parts import allocate as allocate
from dfloc.models.parts import chunks as chunks
from dfloc.models.parts import initialise as initialise
from dfloc.registry import MapSpec

logger = logging.getLogger(__name__)

OUTPUT_SIZE = 256
PIXELS = {OUTPUT_SIZE: "pixels", 299: "pixels299"}  # the backbones that give the image itself, by its side


class Decoder(nn.Module):
    """Maps [B, C, H, W] to logits [B, 1, 256, 256] by named layers, registered in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits; positive = fake. Channels-last inside: quicker on a CPU, and what tensor cores want."""
        return cast(Tensor, self.layers(x_BCHW.contiguous(memory_format=torch.channels_last)))

    def solve(self, source: Examples) -> None:
        """Fit what has a closed form (the standardization, where there is one) to the training samples.

        Called once before the first step, unless the weights come from a parent, whose statistics then hold.
        """
        for layer in self.layers:
            if isinstance(layer, Standardize):
                layer.solve(source)


class ConvDecoder(Decoder):
    """DeCLIP's convolutional decoder (Smeu et al. 2025) for any grid, depth and channel plan.

    Per stage `depth // 4` times [conv, BatchNorm, ReLU], then x2 bilinear, except after the first
    `len(channels) - floor(log2(out_size / in_size))` stages where that is positive; then a bilinear resize to
    `out_size`, the last conv to one channel, and a bilinear resize of the logits to 256. DeCLIP's kernel is 5x5.

    Args:
        in_channels: channels of the maps.
        in_size: side of the maps' square grid.
        depth: convolutions of four stages, the last one not counted: N of conv-N, at least 4.
        channels: width of each stage.
        out_size: side of the last convolution's grid.
        grid: side to which maps are resized, bilinearly, before the first convolution; none: as they are.
        standardize: begins with a `Standardize`.
        init: default | declip | patches, see `initialise`.
        generator: where the weights are drawn from; none: one of its own with seed 0.
        kernel: side of every convolution in cells, odd; 1: each cell is called by itself alone.

    Raises:
        ConfigError: depth below 4, no stage, or a size below 1.
    """

    def __init__(
        self,
        in_channels: int,
        in_size: int,
        depth: int,
        channels: Sequence[int] = (512, 256, 128, 64),
        out_size: int = OUTPUT_SIZE,
        *,
        grid: int | None = None,
        standardize: bool = False,
        init: Init = "default",
        generator: torch.Generator | None = None,
        kernel: int = 5,
    ) -> None:
        if depth < 4:
            raise ConfigError(f"a conv decoder has a depth of at least 4 (one convolution per stage), not {depth}")
        if not channels or min(channels) < 1:
            raise ConfigError(f"a conv decoder needs channels, one width >= 1 per stage, not {tuple(channels)}")
        if min(in_channels, in_size, out_size, 1 if grid is None else grid) < 1:
            raise ConfigError(
                f"sizes are at least 1: in_channels {in_channels}, in_size {in_size}, out_size {out_size}, grid {grid}"
            )
        super().__init__()
        self._kernel = kernel
        device = torch.get_default_device()
        with torch.device("meta"):
            _begin(self, in_channels, standardize, grid)
            self._add_ladder(in_channels, grid or in_size, depth // 4, channels, out_size)
        allocate(self, device)
        initialise(self, init, generator or torch.Generator().manual_seed(0))

    def _add_ladder(self, width: int, size: int, convs: int, channels: Sequence[int], out_size: int) -> None:
        skipped = len(channels) - math.floor(math.log2(out_size / size))
        for stage, next_width in enumerate(channels, start=1):
            for k in range(1, convs + 1):
                self.layers.add_module(f"conv{stage}_{k}", self._convolution(width, next_width))
                self.layers.add_module(f"norm{stage}_{k}", nn.BatchNorm2d(next_width))
                self.layers.add_module(f"relu{stage}_{k}", nn.ReLU(inplace=True))
                width = next_width
            if stage > skipped:
                self.layers.add_module(f"double{stage}", nn.Upsample(scale_factor=2, mode="bilinear"))
                size *= 2
        if size != out_size:
            self.layers.add_module("resize", nn.Upsample(size=(out_size, out_size), mode="bilinear"))
        self.layers.add_module("head", self._convolution(width, 1))
        if out_size != OUTPUT_SIZE:
            self.layers.add_module("enlarge", nn.Upsample(size=(OUTPUT_SIZE, OUTPUT_SIZE), mode="bilinear"))

    def _convolution(self, width: int, next_width: int) -> nn.Conv2d:
        return nn.Conv2d(width, next_width, self._kernel, padding=self._kernel // 2)


def _begin(decoder: Decoder, channels: int, standardize: bool, grid: int | None) -> None:
    """Add what comes before the first layer that is trained."""
    if standardize:
        decoder.layers.add_module("standardize", Standardize(channels))
    if grid is not None:
        decoder.layers.add_module("grid", nn.Upsample(size=(grid, grid), mode="bilinear"))


def build(
    spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator, num_classes: int | None = None
) -> nn.Module:
    """Make the decoder that a spec names, for maps that are concatenated on the first one's grid.

    It maps [B, C, H, W] to logits [B, 1, 256, 256], of images to logits [B, K] or `models.base.Outputs`, and has
    `solve(source)`, to be called once before the first step unless weights come from a parent. A baseline has no
    parameters: `solve` is all its training.

    Args:
        spec: what it is to be.
        maps: that it reads.
        generator: where the weights are drawn from.
        num_classes: K of a task of images; None: the task is to localize.

    Raises:
        ConfigError: the name is unknown, or the maps, the task or the spec do not suit it.
    """
    if not maps:
        raise ConfigError(f'decoder "{spec.name}" needs at least one map')
    make = registry.find("decoder", spec.name, spec.plugin)
    of_images = "image" in answers.gives(spec, num_classes)
    if num_classes is not None and not of_images:
        answer = " or ".join(sorted(registry.DECODER_GIVES))
        cure = 'let its factory say make.gives = "image", or ' if spec.plugin else ""
        raise ConfigError(
            f'decoder "{spec.name}" gives a map, but the task asks for an answer an image; {cure}use {answer}'
        )
    if num_classes is not None and num_classes < 2:
        raise ConfigError(f"a task of images tells two classes or more apart, not {num_classes}")
    vectors = [spec_ for spec_ in maps if spec_.layout == "vector"]
    if vectors and not of_images:
        raise ConfigError(f'decoder "{spec.name}" needs maps with a grid; a vector of {vectors[0].channels} has none')
    tells = hasattr(make, "gives") if spec.plugin else spec.name in registry.DECODER_GIVES
    return cast(nn.Module, make(spec, maps, generator, *([num_classes] if tells else [])))


@lru_cache
def check(spec: DecoderSpec, maps: tuple[MapSpec, ...], num_classes: int | None = None) -> None:
    """Return if `build` can make a decoder; nothing is drawn. What a model's library can build, it says itself.

    Raises:
        ConfigError: as for `build`.
    """
    if _of_library(spec, num_classes):
        check_pixels(spec.name, maps, (*PIXELS,) if spec.name == "timm" else (OUTPUT_SIZE,))
    else:
        weight_bytes(spec, maps, num_classes)


@lru_cache
def weight_bytes(spec: DecoderSpec, maps: tuple[MapSpec, ...], num_classes: int | None = None) -> int:
    """Return the bytes of a decoder's weights; 0 where only a library or a plug-in knows them."""
    if _of_library(spec, num_classes) or spec.plugin:
        return 0
    with torch.device("meta"):
        made = build(spec, maps, torch.Generator("cpu"), num_classes)
    return sum(tensor.nbytes for tensor in made.state_dict().values())


def _of_library(spec: DecoderSpec, num_classes: int | None) -> bool:
    """Return whether a library alone can build a decoder, and the task is what it is for."""
    return spec.name == ("smp" if num_classes is None else "timm")


@lru_cache
def needs_two(spec: DecoderSpec, maps: tuple[MapSpec, ...], num_classes: int | None = None) -> bool:
    """Return whether a decoder takes a training step on two images, but not on one; found by trying.

    BatchNorm cannot see one value of a channel: one image that is pooled to one cell, as by deeplabv3, deeplabv3plus,
    pan and upernet on any encoder, by others on some, and by conv on a grid of one cell.

    Args:
        spec: of what is trained.
        maps: that it reads.
        num_classes: as for `build`.
    """
    for device in ("cpu",) if spec.plugin else ("meta", "cpu"):  # some encoders read values, which meta has none of
        if _runs(spec, maps, 2, device, num_classes):
            return not _runs(spec, maps, 1, device, num_classes)
    return False


def _runs(spec: DecoderSpec, maps: tuple[MapSpec, ...], num_images: int, device: str, num_classes: int | None) -> bool:
    channels, tokens = sum(each.channels for each in maps), spec.reads_tokens
    grid = (1, maps[0].height * maps[0].width + 1) if tokens else (maps[0].height, maps[0].width)
    try:
        with repro.seeded(0), torch.no_grad(), torch.device(device):
            decoder = build(spec, maps, torch.Generator("cpu"), num_classes).to(device).train()
            decoder(torch.zeros(num_images, channels, *grid))
    except Exception:
        logger.debug("%s on %d images, %s", spec.name, num_images, device, exc_info=True)
        return False
    return True


def check_pixels(name: str, maps: Sequence[MapSpec], sides: Sequence[int] = (OUTPUT_SIZE,)) -> None:
    """Return if the maps are the one that a model reads which is trained end to end: an image of one of some sides.

    Raises:
        ConfigError: they are others.
    """
    if len(maps) != 1 or tuple(maps[0]) not in [(3, side, side, "grid") for side in sides]:
        shapes = ", ".join(f"{each.channels}x{each.height}x{each.width}" for each in maps)
        known = " or ".join(f"[{PIXELS[side]}]" for side in sides)
        raise ConfigError(f'decoder "{name}" is trained end to end on maps: {known}; it cannot read {shapes}')


def make_conv(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> Decoder:
    """Make a conv-N decoder."""
    if maps[0].height != maps[0].width and spec.grid is None:
        size = f"{maps[0].height}x{maps[0].width}"
        raise ConfigError(f"a conv decoder needs a square grid, not {size}; set its grid, or use linear")
    decoder = ConvDecoder(
        sum(each.channels for each in maps),
        maps[0].height,
        spec.depth,
        spec.channels,
        spec.out_size,
        grid=spec.grid,
        standardize=spec.standardize,
        init=spec.init,
        generator=generator,
        kernel=spec.kernel,
    )
    return _finish(decoder, spec)


def make_linear(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> Decoder:
    """Make a linear probe: one weight per channel, shared by all cells, its logits resized bicubically (as DeCLIP)."""
    channels = sum(each.channels for each in maps)
    decoder = Decoder()
    device = torch.get_default_device()
    with torch.device("meta"):
        _begin(decoder, channels, spec.standardize, spec.grid)
        decoder.layers.add_module("head", nn.Conv2d(channels, 1, 1))
        decoder.layers.add_module("enlarge", nn.Upsample(size=(OUTPUT_SIZE, OUTPUT_SIZE), mode="bicubic"))
    initialise(allocate(decoder, device), spec.init, generator)
    return _finish(decoder, spec)


def _finish(decoder: Decoder, spec: DecoderSpec) -> Decoder:
    if spec.prior is not None:
        head = cast(nn.Conv2d, decoder.layers.get_submodule("head"))
        nn.init.constant_(cast(Tensor, head.bias), math.log(spec.prior / (1 - spec.prior)))
    if spec.batch_norm == "frozen":
        for layer in decoder.layers:
            if isinstance(layer, nn.BatchNorm2d):
                freeze(layer)
    return decoder
