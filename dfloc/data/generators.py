"""The mini-Dolos' masks, and its four generators, which leave different traces under them, or all over."""

from collections.abc import Callable, Mapping
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Generator = Callable[[Pixels, npt.NDArray[np.bool_], np.random.Generator], Pixels]

MASK_AREA = (0.05, 0.35)


def telea(image_HWC: Pixels, mask_HW: npt.NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Inpaint with OpenCV's fast marching method, radius 5 (Telea 2004): the only one that makes new content."""
    return cast(Pixels, cv2.inpaint(image_HWC, mask_HW.astype(np.uint8), 5, cv2.INPAINT_TELEA))


def reencode(image_HWC: Pixels, mask_HW: npt.NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Simulate a trace, no inpainter: shrink to 0.7, compress as JPEG of quality 85, enlarge bicubically."""
    height, width = image_HWC.shape[:2]
    small = cv2.resize(image_HWC, (round(0.7 * width), round(0.7 * height)), interpolation=cv2.INTER_AREA)
    _, code = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    decoded = cast(Pixels, cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]
    return cast(Pixels, cv2.resize(decoded, (width, height), interpolation=cv2.INTER_CUBIC))


def renoise(image_HWC: Pixels, mask_HW: npt.NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Simulate a trace, no inpainter: remove noise (Gaussian of sigma 1.2 pixels), add white noise of deviation 3."""
    smooth = cv2.GaussianBlur(image_HWC.astype(np.float32), (0, 0), 1.2)
    return _rounded(smooth + 3 * rng.standard_normal(smooth.shape, dtype=np.float32))


def checkerboard(image_HWC: Pixels, mask_HW: npt.NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """Simulate the trace of a transposed convolution, no inpainter.

    Half size, zeros inserted, [0.5, 1, 0.5] along both axes, then a gain of 1 +- 2 %, alternating as on a chessboard.
    """
    height, width = image_HWC.shape[:2]
    sparse = np.zeros(image_HWC.shape, np.float32)
    sparse[::2, ::2] = cv2.resize(image_HWC, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    taps = np.array([0.5, 1, 0.5], np.float32)
    large = cv2.sepFilter2D(sparse, cv2.CV_32F, taps, taps)
    sign_HW1 = 1 - 2 * (np.indices((height, width)).sum(axis=0) % 2)[..., None]
    return _rounded(large * (1 + 0.02 * sign_HW1))


SOURCE = "mini"  # of the built-in data, generators of plug-ins included

GENERATORS: Mapping[str, Generator] = {
    "telea": telea,
    "reencode": reencode,
    "renoise": renoise,
    "checkerboard": checkerboard,
}

# Domains that are made anew all over, beside the others: what a generator gives under a mask of the whole image.
WHOLE: Mapping[str, Generator] = {"renoise-full": renoise}


def draw_mask(size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return a mask [size, size], true = to be generated: an ellipse, a rotated box or a thick line.

    It covers 5 to 35 % of the image; a shape outside these bounds is drawn anew.
    """
    while True:
        area = rng.uniform(*MASK_AREA) * size**2
        shape = (_ellipse, _box, _line)[rng.integers(3)]
        canvas = np.zeros((size, size), np.uint8)
        shape(canvas, area, rng)
        if MASK_AREA[0] <= canvas.mean() <= MASK_AREA[1]:
            return canvas > 0


def _ellipse(canvas: Pixels, area: float, rng: np.random.Generator) -> None:
    cv2.ellipse(canvas, _rotated(canvas, area * 4 / np.pi, rng), 1, cv2.FILLED)


def _box(canvas: Pixels, area: float, rng: np.random.Generator) -> None:
    corners = cv2.boxPoints(_rotated(canvas, area, rng))
    cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], 1)


def _line(canvas: Pixels, area: float, rng: np.random.Generator) -> None:
    size = len(canvas)
    points = np.rint(rng.uniform(0.1 * size, 0.9 * size, (3, 2))).astype(np.int32)
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    thickness = int(np.clip(area / max(length, 1.0), 0.06 * size, 0.25 * size))
    cv2.polylines(canvas, [points], isClosed=False, color=1, thickness=thickness)


def _rotated(
    canvas: Pixels, area: float, rng: np.random.Generator
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Return a rotated rectangle of that area, sides in a ratio of at most 2, its centre in the middle of the image."""
    ratio = np.sqrt(rng.uniform(0.5, 2))
    x, y = rng.uniform(0.25 * len(canvas), 0.75 * len(canvas), 2)
    side = np.sqrt(area)
    return (float(x), float(y)), (float(side * ratio), float(side / ratio)), float(rng.uniform(0, 180))


def _rounded(values: npt.NDArray[np.floating]) -> Pixels:
    return cast(Pixels, np.clip(np.rint(values), 0, 255).astype(np.uint8))
