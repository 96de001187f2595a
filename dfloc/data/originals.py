"""A fake beside the photograph that it was made from: which pixels were changed, and whether its mask says so."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Marks = npt.NDArray[np.bool_]

UNTOUCHED = 0.75
WINDOW = 7
LEVELS = 10.0
RATIO = 0.02


class Changed(NamedTuple):
    """How much of a fake differs from its original.

    Attributes:
        inside: share of the pixels inside the mask (fakeness over 127.5) that are changed; None where it has none, or
            where nothing can be compared.
        outside: the same outside of the mask.
        everywhere: whether both sides differ from the original in most pixels, as after encoding it anew; then only
            plain changes count.
    """

    inside: float | None
    outside: float | None
    everywhere: bool = False


def changed(image_HW3: Pixels, original_HW3: Pixels, fakeness_HW: Pixels) -> Changed:
    """Return which share of the pixels was changed, inside and outside of a mask.

    Where one side of the mask equals the original in at least 75 % of its pixels, a pixel is changed if any channel
    differs at all. Else the whole picture was encoded anew, or resized: then a pixel is changed if the 7x7 pixels
    around it differ by more than 10 of 256 levels of grey on average (JPEG of quality 75 stays below). An original of
    another size is resized to the image's where its sides have the same ratio (within 2 %); else it is a crop or
    another photograph, and nothing is told.
    """
    marks_HW, everywhere = difference(image_HW3, original_HW3, fakeness_HW > 127.5)
    if marks_HW is None:
        return Changed(None, None)
    return Changed(*shares(marks_HW, fakeness_HW > 127.5), everywhere)


def difference(image_HW3: Pixels, original_HW3: Pixels, fake_HW: Marks) -> tuple[Marks | None, bool]:
    """Return the pixels that were changed, as `changed` counts them, and its `everywhere`; None: not comparable."""
    height, width = fake_HW.shape
    if original_HW3.shape != image_HW3.shape:
        wide, high = original_HW3.shape[1] * height, original_HW3.shape[0] * width
        if abs(wide - high) > RATIO * max(wide, high):
            return None, False
        original_HW3 = cv2.resize(original_HW3, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    exact_HW: Marks = (image_HW3 != original_HW3).any(axis=2)
    sides = [share for share in shares(exact_HW, fake_HW) if share is not None]
    if min(sides) <= 1 - UNTOUCHED:
        return exact_HW, False
    plain_HW = cv2.absdiff(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY), cv2.cvtColor(original_HW3, cv2.COLOR_RGB2GRAY))
    near_HW: Marks = cv2.blur(plain_HW.astype(np.float32), (WINDOW, WINDOW)) > LEVELS
    return near_HW, True


def shares(marks_HW: Marks, fake_HW: Marks) -> tuple[float | None, float | None]:
    """Return the share of pixels that are marked inside and outside of a mask; None where a side has no pixels."""
    inside, outside = marks_HW[fake_HW], marks_HW[~fake_HW]
    return float(inside.mean()) if inside.size else None, float(outside.mean()) if outside.size else None
