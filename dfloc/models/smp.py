"""Segmenters of segmentation_models_pytorch, trained end to end: an architecture on an encoder, one logit per pixel."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from dfloc import repro
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError, unknown
from dfloc.models import encoders
from dfloc.models.base import Normalization, freeze
from dfloc.models.decoders import OUTPUT_SIZE, Examples, check_pixels
from dfloc.registry import MapSpec

BROKEN = (AssertionError, AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What the library raises where an architecture and an encoder do not go together."""


class Segmenter(nn.Module):
    """Images [B, 3, 256, 256], values 0 to 255, to logits [B, 1, 256, 256]: normalised as the encoder wants them.

    Args:
        net: of the library, with an encoder, a decoder and a head of one channel.
        normalization: of the encoder; that of the weights that it starts from comes with them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.net = net
        for name, values in normalization._asdict().items():
            self.register_buffer(name, torch.tensor(values, device="cpu"))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits; positive = fake."""
        scaled_BCHW = (x_BCHW / 255 - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)
        return cast(Tensor, self.net(scaled_BCHW))

    def begin_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take over an encoder's weights and their normalisation (`encoders.weights`).

        Raises:
            ConfigError: they do not fit the encoder.
        """
        encoders.fill(self.net.get_submodule("encoder"), weights)
        self.mean.copy_(weights["mean"])
        self.std.copy_(weights["std"])

    def solve(self, source: Examples) -> None:
        """Do nothing: no part of it has a closed form."""


def make_smp(spec: DecoderSpec, maps: Sequence[MapSpec], generator: torch.Generator) -> Segmenter:
    """Make a segmenter with random weights, as the library draws them, from the generator alone.

    Raises:
        ConfigError: no such architecture or encoder, the two do not go together, or it would not read pixels.
    """
    architecture, encoder = _names(spec)
    check_pixels(spec.name, maps)
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device="cpu"))
    try:
        with repro.seeded(seed):
            net = _build(architecture, encoder)
    except BROKEN as error:
        raise _odd(architecture, encoder, error) from error
    segmenter = Segmenter(net, encoders.normalization(encoder))
    if spec.prior is not None:
        last = [layer for layer in net.get_submodule("segmentation_head").modules() if isinstance(layer, nn.Conv2d)][-1]
        nn.init.constant_(cast(Tensor, last.bias), math.log(spec.prior / (1 - spec.prior)))
    if spec.batch_norm == "frozen":
        for layer in list(net.modules()):
            if isinstance(layer, nn.BatchNorm2d):
                freeze(layer)
    return segmenter


def check(spec: DecoderSpec) -> None:
    """Return if the library can build what a spec names for images of 256 pixels; nothing is drawn.

    Raises:
        ConfigError: no such architecture or encoder, or the two do not go together.
    """
    _check(*_names(spec))


@cache
def _check(architecture: str, encoder: str) -> None:
    try:
        with repro.seeded(0), torch.device("meta"):
            _pass(_build(architecture, encoder), "meta")
    except BROKEN:  # some encoders read values while they are built, which there are none of on meta
        try:
            with repro.seeded(0):
                _pass(_build(architecture, encoder), "cpu")
        except BROKEN as error:
            raise _odd(architecture, encoder, error) from error


@torch.no_grad()
def _pass(net: nn.Module, device: str) -> None:
    logit_11HW = net.eval()(torch.zeros(1, 3, OUTPUT_SIZE, OUTPUT_SIZE, device=device))
    if logit_11HW.shape != (1, 1, OUTPUT_SIZE, OUTPUT_SIZE):
        raise ValueError(f"logits are {'x'.join(map(str, logit_11HW.shape[1:]))}, expected 1x256x256")


def _build(architecture: str, encoder: str) -> nn.Module:
    options = {"dynamic_img_size": True} if architecture == "dpt" else {}  # transformers of timm are made for one size
    made: Any = encoders.library().create_model(
        architecture, encoder_name=encoder, encoder_weights=None, in_channels=3, classes=1, **options
    )
    return cast(nn.Module, made)


def _names(spec: DecoderSpec) -> tuple[str, str]:
    if not spec.architecture or not spec.encoder:
        raise ConfigError(
            'decoder "smp" needs an architecture and an encoder: {name: smp, architecture: unetplusplus, '
            "encoder: resnet50}"
        )
    known = encoders.library().MODEL_ARCHITECTURES_MAPPING
    if spec.architecture not in known:
        raise unknown("architecture", spec.architecture, known)
    encoders.check(spec.encoder)
    return spec.architecture, spec.encoder


def _odd(architecture: str, encoder: str, error: BaseException) -> ConfigError:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return ConfigError(
        f"{architecture} cannot be built on the encoder {encoder} for images of {OUTPUT_SIZE} pixels "
        f"({type(error).__name__}: {reason}); choose another encoder or architecture"
    )
