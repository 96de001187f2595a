"""An image that its EXIF turns, and a mask that it may not turn: on which grid the mask lies."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from dfloc.errors import DataError

Pixels = npt.NDArray[np.uint8]
Way = Literal["stored", "shown"]
WAYS: tuple[Way, ...] = ("shown", "stored")

MARGIN = 0.1  # by how much one way must fit an original better than the other
_FLIPPED: dict[int, tuple[int, ...]] = {1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}
_BACK = {6: 8, 8: 6}


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image that is not loaded yet (loading a TIFF turns it): 1 to 8."""
    found: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if isinstance(found, int) and found in _FLIPPED else 1


def turned(pixels_HW: Pixels, by: int) -> Pixels:
    """Return stored pixels as a viewer shows them, by an EXIF orientation."""
    return np.flip(pixels_HW.swapaxes(0, 1) if by > 4 else pixels_HW, _FLIPPED[by])


def onto(shown_HW: Pixels, of_mask: int, of_image: int) -> Pixels:
    """Return a mask turned as its image is, not as its own EXIF has turned it already."""
    return np.ascontiguousarray(turned(turned(shown_HW, _BACK.get(of_mask, of_mask)), of_image))


def choose(
    masks: Mapping[Way, Pixels | DataError], asked: Way | None, fit: Callable[[Pixels], float] | None = None
) -> Way:
    """Return how a mask lies: on the grid of its image as `stored`, or as `shown`.

    Args:
        masks: what it would say, or why it cannot, each way.
        asked: what the user says.
        fit: how well it goes with the image's original, by how much more of the inside than of the outside is
            changed; None where no original is at hand.

    Raises:
        DataError: it fits in no way, or both ways and nothing decides.
    """
    fitting = {way: found for way in WAYS if not isinstance(found := masks[way], DataError)}
    if asked:
        if asked not in fitting:
            raise DataError(f"{masks[asked]} (of {asked} masks, by EXIF orientation and --masks-are)")
        return asked
    if not fitting:
        raise DataError(f"{masks['shown']} (with EXIF orientation applied, and without)")
    first, *second = fitting.values()
    if not second or np.array_equal(first, second[0]):
        return next(iter(fitting))
    if fit:
        stored, shown = fit(fitting["stored"]), fit(fitting["shown"])
        if abs(stored - shown) > MARGIN:
            return "stored" if stored > shown else "shown"
    raise DataError(
        "an EXIF orientation, and nothing shows whether the mask is to be turned too; say how masks lie: "
        "--masks-are stored (on the pixels of the file) or --masks-are shown (as a viewer shows the image)"
    )
