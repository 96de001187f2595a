"""The residual filters of steganalysis: a backbone without weights, and the local-variance map of a baseline."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dfloc.models.base import device_of, refuse_unknown, refuse_weights, resized
from dfloc.registry import MapSpec, backbone

CELL = 8
TRUNCATION = 8.0
NEAR_ZERO = 0.45
EPSILON = 1e-2
LUMINANCE = (0.299, 0.587, 0.114)

# High-pass filters of the spatial rich model, each with its divisor: second and third order along a row, square 5x5.
# (Fridrich and Kodovsky, "Rich Models for Steganalysis of Digital Images", IEEE TIFS 7(3), 2012.)
SECOND_ORDER: tuple[tuple[int, ...], ...] = ((1, -2, 1),)
THIRD_ORDER: tuple[tuple[int, ...], ...] = ((1, -3, 3, -1),)
SQUARE: tuple[tuple[int, ...], ...] = (
    (-1, 2, -2, 2, -1),
    (2, -6, 8, -6, 2),
    (-2, 8, -12, 8, -2),
    (2, -6, 8, -6, 2),
    (-1, 2, -2, 2, -1),
)
# Antidiagonals u + v of the 8x8 DCT, in eight bands from low to high frequency.
DCT_BANDS = ((1,), (2,), (3,), (4,), (5, 6), (7, 8), (9, 10), (11, 12, 13, 14))


class Srm:
    """Noise statistics of each 8x8 cell, from five residuals of the luminance.

    `stats` [66, 32, 32]: log mean absolute residual (5), log energy (5), correlation with the next pixel along a row
    and a column (10), share near zero (5), log energy in eight DCT bands (8); then the same less the image's median,
    because what gives a region away is that it differs from the rest. `absolute` [33, 32, 32]: the first half of these,
    which a wholly generated image has too. `variance` [1, 32, 32]: log variance of the luminance.

    Each image is computed on its own and with shifts in place of convolutions, so that its numbers depend neither on
    the batch it is in nor on a convolution algorithm.
    """

    digest = "none"

    def __init__(self, device: str):
        row = backbone("srm")
        self.maps: Mapping[str, MapSpec] = row.maps
        self.input_size = row.input_size
        self.device = device_of(device)
        self._dct = _dct_matrix(CELL).to(self.device)
        self._bands = _band_means(CELL).to(self.device)

    def preprocess(self, image_HWC: npt.NDArray[np.uint8]) -> Tensor:
        """Return an RGB image as uint8 [3, 256, 256], resized by PIL (bilinear) where it has another size."""
        return resized(image_HWC, self.input_size)

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the wanted maps, float32, of images with values 0 to 255.

        Raises:
            ConfigError: a map is unknown.
        """
        compute = {
            "stats": self._stats,
            "absolute": self._absolute,
            "variance": self._variance,
        }
        refuse_unknown("srm", wanted, self.maps)
        weights = torch.tensor(LUMINANCE, device=self.device).view(3, 1, 1)
        lumas = [(image.to(self.device, torch.float32) * weights).sum(dim=0) for image in images_BCHW]
        return {name: torch.stack([compute[name](luma_HW) for luma_HW in lumas]) for name in wanted}

    def _stats(self, luma_HW: Tensor) -> Tensor:
        stats = self._absolute(luma_HW)
        return torch.cat([stats, stats - _median(stats)])

    def _absolute(self, luma_HW: Tensor) -> Tensor:
        cells_Fyxhw = _cells(_residuals(luma_HW).clamp(-TRUNCATION, TRUNCATION))
        energy = cells_Fyxhw.square().mean(dim=(-2, -1))
        along_row = (cells_Fyxhw[..., :-1] * cells_Fyxhw[..., 1:]).mean(dim=(-2, -1))
        along_column = (cells_Fyxhw[..., :-1, :] * cells_Fyxhw[..., 1:, :]).mean(dim=(-2, -1))
        spectrum = (self._dct @ _cells(luma_HW) @ self._dct.T).square().flatten(-2) @ self._bands
        return torch.cat(
            [
                (cells_Fyxhw.abs().mean(dim=(-2, -1)) + EPSILON).log(),
                (energy + EPSILON).log(),
                along_row / (energy + EPSILON),
                along_column / (energy + EPSILON),
                (cells_Fyxhw.abs() < NEAR_ZERO).float().mean(dim=(-2, -1)),
                (spectrum + EPSILON).log().permute(2, 0, 1),
            ]
        )

    def _variance(self, luma_HW: Tensor) -> Tensor:
        return (_cells(luma_HW).var(dim=(-2, -1), correction=0) + EPSILON).log()[None]


def make(name: str, weights: str, device: str) -> Srm:
    """Return the backbone.

    Raises:
        ConfigError: weights are asked for; it has none.
    """
    refuse_weights(name, weights)
    return Srm(device)


def _residuals(luma_HW: Tensor) -> Tensor:
    """Return the five residuals [5, H, W]: second and third order along rows and columns, square 5x5."""
    padded = functional.pad(luma_HW[None, None], (2, 2, 2, 2), mode="reflect")[0, 0]
    across = [_filter(padded, taps) for taps in (SECOND_ORDER, THIRD_ORDER)]
    down = [_filter(padded.T, taps).T for taps in (SECOND_ORDER, THIRD_ORDER)]
    return torch.stack([*across, *down, _filter(padded, SQUARE)])


def _filter(padded_HW: Tensor, taps: tuple[tuple[int, ...], ...]) -> Tensor:
    """Correlate with centred taps, over the largest of them; the two outer pixels of each side are padding."""
    height, width = padded_HW.shape[0] - 4, padded_HW.shape[1] - 4
    top, left = 2 - len(taps) // 2, 2 - len(taps[0]) // 2
    total = torch.zeros(height, width, device=padded_HW.device)
    for dy, row in enumerate(taps):
        for dx, tap in enumerate(row):
            total.add_(padded_HW[top + dy : top + dy + height, left + dx : left + dx + width], alpha=tap)
    return total / max(abs(tap) for row in taps for tap in row)


def _cells(image_HW: Tensor) -> Tensor:
    """Cut [..., H, W] into cells: [..., H / 8, W / 8, 8, 8]."""
    height, width = image_HW.shape[-2:]
    blocks = image_HW.reshape(*image_HW.shape[:-2], height // CELL, CELL, width // CELL, CELL)
    return blocks.transpose(-3, -2).contiguous()


def _median(stats_CHW: Tensor) -> Tensor:
    """Return each channel's median, by sorting (torch.median has no deterministic kernel on CUDA)."""
    ordered = stats_CHW.flatten(1).sort(dim=1).values
    return ordered[:, ordered.shape[1] // 2, None, None]


def _dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II matrix."""
    frequency, position = np.indices((size, size))
    matrix = np.cos(np.pi * (position + 0.5) * frequency / size) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return torch.from_numpy(matrix.astype(np.float32))


def _band_means(size: int) -> Tensor:
    """Return [64, 8]: the average over the coefficients of each band."""
    antidiagonal = np.indices((size, size)).sum(axis=0).ravel()
    members = np.stack([np.isin(antidiagonal, band) for band in DCT_BANDS], axis=1)
    return torch.from_numpy((members / members.sum(axis=0)).astype(np.float32))
