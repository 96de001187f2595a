"""What a backbone promises, and what every adapter does alike: input, device, a freeze that survives train()."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dfloc.errors import ConfigError, unknown
from dfloc.registry import MapSpec

M = TypeVar("M", bound=nn.Module)


class Normalization(NamedTuple):
    """What an input, RGB as fractions of 255, is moved and scaled by, channel by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Outputs(NamedTuple):
    """What a model says of images: which pixels are fake, [B, 1, H, W], of which class they are, [B, K]; logits."""

    map_B1HW: Tensor | None = None  # noqa: N815
    image_BK: Tensor | None = None  # noqa: N815


def outputs(said: Tensor | Outputs) -> Outputs:
    """Return what a model gave: a tensor of four dimensions is a map, one of two are logits of classes."""
    if isinstance(said, Outputs):
        return said
    return Outputs(map_B1HW=said) if said.ndim == 4 else Outputs(image_BK=said)


class Backbone(Protocol):
    """A frozen network (or filter bank) that turns images into maps; one pass gives every map that is wanted.

    Attributes:
        maps: every map that it can give, by its name without the backbone's.
        digest: of its weights: `none`, `random:<seed>`, or sha256 over the loaded tensors, whichever maps are wanted.

    A backbone of large inputs may have `batch`, the number of images that are handed to it at once.
    """

    maps: Mapping[str, MapSpec]
    digest: str

    def preprocess(self, image_HWC: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """Bring one decoded RGB image to the network's input, [3, S, S]."""
        ...

    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the wanted maps.

        `grid`: [B, C, H, W]; `tokens`: [B, H * W + 1, C], CLS first; `vector`: [B, C].
        """
        ...


class Reached(Backbone, Protocol):
    """A backbone that can go on from one of its maps, so that a gradient of what follows reaches the map."""

    def after(self, layer: str, map_: Tensor, wanted: Sequence[str], /) -> dict[str, Tensor]:
        """Return vectors [B, C] that a map is on the way to (`registry.BackboneRow.reached`); no gradient is cut off.

        Of that map, and of no other input, they are what calling the backbone gives.
        """
        ...


def refuse_unknown(name: str, wanted: Sequence[str], maps: Mapping[str, MapSpec]) -> None:
    """Return if a backbone has all wanted maps.

    Raises:
        ConfigError: it lacks one (says what it has).
    """
    for each in wanted:
        if each not in maps:
            raise unknown(f"map of {name}", each, maps)


def resized(
    image_HWC: np.ndarray[Any, np.dtype[np.uint8]], size: int, how: Image.Resampling = Image.Resampling.BILINEAR
) -> Tensor:
    """Return an RGB image as uint8 [3, size, size]: by PIL, bilinear, where it has another size; no crop."""
    if image_HWC.shape[:2] != (size, size):
        image_HWC = np.asarray(Image.fromarray(image_HWC).resize((size, size), how))
    return torch.from_numpy(np.ascontiguousarray(image_HWC.transpose(2, 0, 1)))


def entered(backbone: Backbone, image_HWC: np.ndarray[Any, np.dtype[np.uint8]], via: int | None = None) -> Tensor:
    """Return one image as a backbone takes it, first brought to a square of side `via` by PIL where that is set."""
    if via is not None and image_HWC.shape[:2] != (via, via):
        image_HWC = np.asarray(Image.fromarray(image_HWC).resize((via, via), Image.Resampling.BILINEAR))
    return backbone.preprocess(image_HWC)


def device_of(name: str) -> torch.device:
    """Return the device of a name: cpu, cuda, cuda:1.

    Raises:
        ConfigError: there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f'unknown device "{name}"; use cpu or cuda') from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f'device "{name}" was asked for, but torch sees {count} CUDA devices here; use --device cpu')
    return device


def refuse_weights(name: str, weights: str) -> None:
    """Refuse weights for a backbone that has none.

    Raises:
        ConfigError: weights are asked for.
    """
    if weights != "none":
        raise ConfigError(f'backbone "{name}" has no weights; use weights: none instead of "{weights}"')


def random_seed(weights: str) -> int | None:
    """Return the seed of weights that are drawn: `random` (0) or `random:<seed>`; None for any other word."""
    found = re.fullmatch(r"random(?::(\d+))?", weights)
    return int(found[1] or 0) if found else None


def freeze(module: M) -> M:
    """Put a module into eval mode for good and take its parameters out of training.

    `train()`, called on it, on a part of it or on what it is part of, leaves it as it is, so that neither BatchNorm
    statistics nor dropout can move. Gradients still flow through to its input.
    """
    module.eval().requires_grad_(False)
    for part in module.modules():
        vars(part)["train"] = partial(_stay, part)
    return module


def freeze_norms(module: nn.Module) -> None:
    """Freeze every BatchNorm of a module: statistics and affine."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            freeze(layer)


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train`: whatever the mode, nothing changes."""
    return module
