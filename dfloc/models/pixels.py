"""The image itself as a map: what a model that is trained end to end reads, decoded once in a sweep."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dfloc.errors import unknown
from dfloc.models.base import device_of, refuse_weights, resized
from dfloc.registry import MapSpec, backbone

RESIZES = {"pil-bilinear": Image.Resampling.BILINEAR, "pil-lanczos": Image.Resampling.LANCZOS}


class Pixels:
    """A backbone that changes nothing: its one map, whose own name is empty, is the image, uint8 [3, S, S].

    Args:
        device: cpu | cuda.
        name: pixels (256, bilinear) | pixels299 (299, Lanczos); of an image of that size the two resize nothing.
    """

    digest = "none"

    def __init__(self, device: str, name: str = "pixels"):
        row = backbone(name)
        self.maps: Mapping[str, MapSpec] = row.maps
        self.input_size = row.input_size
        self.device = device_of(device)
        self._name, self._how = name, RESIZES[row.resize]

    def preprocess(self, image_HWC: npt.NDArray[np.uint8]) -> Tensor:
        """Return an RGB image as uint8 [3, S, S], resized by PIL where it has another size."""
        return resized(image_HWC, self.input_size, self._how)

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the images, values 0 to 255.

        Raises:
            ConfigError: a map is unknown.
        """
        for name in wanted:
            if name not in self.maps:
                raise unknown(f"map of {self._name}", name, [self._name])
        return {name: images_BCHW.to(self.device) for name in wanted}


def make(name: str, weights: str, device: str) -> Pixels:
    """Return the backbone.

    Raises:
        ConfigError: weights are asked for; it has none.
    """
    refuse_weights(name, weights)
    return Pixels(device, name)
