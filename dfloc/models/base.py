"""What a backbone promises, and a freeze that survives train()."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

from dfloc.registry import MapSpec

M = TypeVar("M", bound=nn.Module)


class Backbone(Protocol):
    """A frozen network (or filter bank) that turns images into maps; one pass gives every map that is wanted.

    Attributes:
        maps: every map that it can give, by its name without the backbone's.
    """

    maps: Mapping[str, MapSpec]

    def preprocess(self, image_HWC: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """Bring one decoded RGB image to the network's input, [3, S, S]."""
        ...

    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the wanted maps.

        `grid`: [B, C, H, W]; `tokens`: [B, H * W + 1, C], CLS first; `vector`: [B, C].
        """
        ...


def freeze(module: M) -> M:
    """Put a module into eval mode for good and take its parameters out of training.

    `train()`, called on it, on a part of it or on what it is part of, leaves it as it is, so that neither BatchNorm
    statistics nor dropout can move. Gradients still flow through to its input.
    """
    module.eval().requires_grad_(False)
    for part in module.modules():
        vars(part)["train"] = partial(_stay, part)
    return module


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train`: whatever the mode, nothing changes."""
    return module
