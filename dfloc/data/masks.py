"""What a picture of two values says: which pixels are fake, or that its values must be named."""

import math
import re
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dfloc.errors import ConfigError, DataError

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]

MAX_COLOUR = 16  # by how much the channels of a grey pixel may differ: JPEG
END = 32  # how far from 0 and 255 black and white may lie
NOISE = 8  # how far a picture all in black or white may be from it after lossy coding; else it is a label
FEW = 16  # a picture of no more values than these has no grey between black and white
LEVEL = 4  # by how much the pixels of a label may differ after lossy coding
SHOWN = 4  # values that a sentence names

_VALUE = r"(\d{1,10}|0x[0-9a-f]{6})"
KIND = re.compile(rf"fake_is_black|fake_is_white|fake_is=(nonzero|alpha|{_VALUE}(,{_VALUE})*)|real|generated")
"""Every mask kind; the values behind `fake_is=` are those of the stored pixels, or colours."""
FORMS = "black|white|nonzero|alpha|VALUE[,VALUE]"
_DEPTHS = {"I": "32-bit", "F": "floating-point"}
_EXACT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "F")  # modes that keep the values of their files, beside I
_MOST = {"1": 1, "L": 255, "P": 255, "RGB": 255}


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        image: in its own mode, as a viewer shows it.
        orientation: of its EXIF, 1 to 8, which `image` is already turned by.
        lossy: `JPEG` or `WEBP` where its values are only about those that were saved, else empty.
        halved: whether it has 16 bits a channel, of which `image` has the upper eight.
    """

    image: Image.Image
    orientation: int = 1
    lossy: str = ""
    halved: bool = False


class Grey(NamedTuple):
    """A picture in grey: its values [H, W] as they are stored, which of them is white, and all of them in 8 bits."""

    values: Numbers
    white: int
    eight: Pixels


def kind_of(said: str) -> str:
    """Return the mask kind that `--fake-is` means: `white`, `nonzero`, `alpha`, `2`, `1,2` (or `1+2`), `0xff0000`.

    Raises:
        ConfigError: it means none.
    """
    words = said.strip().lower()
    values = re.split("[,+]", words)
    if all(re.fullmatch(_VALUE, value) for value in values):
        plain = {value if value.startswith("0x") else str(int(value)) for value in values}
        words = ",".join(sorted(plain, key=lambda value: (value.startswith("0x"), int(value, 0))))
    kind = f"fake_is_{words}" if words in ("black", "white") else f"fake_is={words}"
    if KIND.fullmatch(kind) is None:
        raise ConfigError(
            f'"{said}" cannot be the fake side of masks: expected {FORMS}; a VALUE is one of the stored pixels (of a '
            "palette: the index), or a colour as 0xff0000"
        )
    return kind


def is_said(said: str) -> bool:
    """Return whether `kind_of` can read this."""
    try:
        kind_of(said)
    except ConfigError:
        return False
    return True


def is_doubtful(low: float, high: float) -> bool:
    """Return whether a truth from `low` to `high`, of 255, is none: a 0/1 mask, or different values on one side.

    Every pixel of these would count as real, or every one as fake, although the picture tells them apart.
    """
    return high == 1 or (low != high and not low < 127.5 <= high)


def is_two_valued(grey: Grey) -> bool:
    """Return whether a map of probabilities has two values and these are not black and white, or is 1 all over."""
    low, high = grey.values.min(), grey.values.max()
    if low == high:
        return bool(low in (1, 255) and low != grey.white)
    far = max(low, grey.white - high) > END * grey.white / 255
    return bool(far and np.isin(grey.values, (low, high)).all())


def truth(picture: Picture, kind: str, *, new: bool = False) -> Pixels:
    """Return how fake each pixel of a mask is, uint8 [H, W].

    Args:
        picture: the mask.
        kind: one of those with a mask.
        new: it enters now; black and white must be near 0 and 255, without areas of grey between them, and values must
            be those that the file stores. Shards that hold others from before are read where each pixel is nearer to
            one of them.

    Raises:
        DataError: the picture is not what its kind says; names the values that it has, and the cure.
    """
    if kind in ("fake_is_black", "fake_is_white"):
        grey = in_grey(picture)
        _check(grey, picture, new)
        return grey.eight if kind == "fake_is_white" else 255 - grey.eight
    if not kind.startswith("fake_is=") or KIND.fullmatch(kind) is None:
        raise DataError(f'masks of the kind "{kind}", which this version does not know')
    if picture.halved:
        raise DataError("a mask of 16 bits a channel; save it in grey, or in 8 bits a channel")
    if kind == "fake_is=alpha":
        return _opaque(picture, new)
    if picture.lossy:
        raise DataError(f"a {picture.lossy} mask, whose values are not exact; say black or white, or save masks as PNG")
    if new and not _is_number(picture.image) and picture.image.mode not in _EXACT:
        raise DataError(f"a {picture.image.mode} mask, of which no values can be said; save masks as 8-bit PNG")
    return np.where(_chosen(picture.image, kind.removeprefix("fake_is=").split(",")), 255, 0).astype(np.uint8)


def in_grey(picture: Picture, colour: int = MAX_COLOUR) -> Grey:
    """Return a picture in grey.

    Args:
        picture: of any layout.
        colour: by how much the channels of a pixel may differ.

    Raises:
        DataError: it is transparent, in colours, or of numbers that are no grey; names the values that it has.
    """
    image = picture.image
    if _is_number(image):
        values_HW = np.asarray(image)
        if image.mode == "F" or values_HW.min() < 0 or values_HW.max() > 65535:
            raise _unsaid(picture)
        return Grey(values_HW, 65535, np.round(values_HW / 257).astype(np.uint8))
    if _is_transparent(image):
        raise DataError("transparent; expected black and white, or that the opaque pixels are fake: --fake-is alpha")
    if image.mode not in ("1", "L"):
        shown = image.convert("RGB")
        if np.ptp(np.asarray(shown).astype(np.int16), axis=2).max() > colour:
            raise _unsaid(picture, "in colours:")
        image = shown
    eight_HW = np.asarray(image.convert("L"))
    if picture.image.mode == "P" and np.ptp(eight_HW) == 0 != np.ptp(np.asarray(picture.image)):
        raise _unsaid(picture, "a palette that shows as one its")
    return Grey(eight_HW, 255, eight_HW)


def value_words(values: Numbers, form: str = "{:.10g}", noun: str = "value") -> str:
    """Return the values of a picture as a sentence has them: `values 0 and 100`, `values 0 to 103 (57 of them)`."""
    found = np.unique(values)
    words = [form.format(value.item()) for value in (found if len(found) <= SHOWN else found[[0, -1]])]
    many = f"{noun}s" if noun == "value" else "palette indices"
    if len(found) > SHOWN:
        return f"{many} {words[0]} to {words[1]} ({len(found)} of them)"
    return f"{many} {', '.join(words[:-1])} and {words[-1]}" if words[1:] else f"{noun} {words[0]} alone"


def _unsaid(picture: Picture, what: str = "") -> DataError:
    """Return the error for a picture of which it is not said what its values mean."""
    image = picture.image
    values_HW, form = _numbers(image), "{:.10g}"
    if not _is_number(image) and (values_HW < 0).any():
        values_HW, form = _colours(image), "0x{:06x}"
    depth = "16-bit" if image.mode.startswith("I;") else _DEPTHS.get(image.mode, "")
    if picture.halved:
        depth, cure = "16 bits a channel, their upper eight of", "save masks in grey, or in 8 bits a channel"
    elif picture.lossy:
        cure = "save masks in black and white, as PNG"
    else:
        said = _sayable(np.unique(values_HW), form)
        cure = f"say which is fake: --fake-is {said} (in --own: fake={said})" if said else "save masks as 8-bit PNG"
    noun = "palette index" if image.mode == "P" and form != "0x{:06x}" else "value"
    return DataError(" ".join(f"{what} {depth} {value_words(values_HW, form, noun)}; {cure}".split()))


def _sayable(found: Numbers, form: str) -> str:
    """Return what `--fake-is` can say of the values of a picture; nothing where it can say none of them."""
    last = form.format(found[-1].item())
    if is_said(last) and (found[-1] != 0 or len(found) == 1):
        return last if len(found) <= SHOWN else "VALUE[,VALUE]"
    return "nonzero" if len(found) <= SHOWN and 0 in found and np.isfinite(found).all() else ""


def _check(grey: Grey, picture: Picture, new: bool) -> None:
    """Refuse a picture that is not black and white."""
    low, high = (float(end) * 255 / grey.white for end in (grey.values.min(), grey.values.max()))
    if min(high, 255 - low) <= (NOISE if picture.lossy else 0):
        is_clear = low == high or picture.lossy == "WEBP"  # which makes of one value some beside it
    elif low == high:
        is_clear = not 0 < low <= NOISE and not (new and END < low < 255 - END)
    else:
        far = new and max(low, 255 - high) > END
        few = far and _is_few(grey.eight)
        is_clear = not few and not is_doubtful(low, high)
    if high == 1 or not is_clear:
        raise _unsaid(picture)
    if new and _has_grey_labels(grey.eight, bool(picture.lossy)):
        raise _unsaid(picture, "areas of grey between black and white:")
    if new and not picture.lossy and _is_merged(picture.image, grey.eight):
        raise _unsaid(picture, "labels that show as one colour:")


def _is_few(eight_HW: Pixels) -> bool:
    return bool(np.count_nonzero(np.bincount(eight_HW.ravel(), minlength=256)) <= FEW)


def _has_grey_labels(eight_HW: Pixels, lossy: bool) -> bool:
    """Return whether grey between black and white fills areas of one value, which edges and soft ones do not.

    Lossy coding widens and blurs edges and makes steps of slopes, so the areas must be larger, unless there are none in
    black, or none in white.
    """
    if not _has_middle(eight_HW):
        return False
    if not lossy:
        return _has_middle(_level(eight_HW, 5 if _is_few(eight_HW) else 25, 0))
    if _has_middle(_level(eight_HW, 49, LEVEL)):
        return True
    ends = _level(eight_HW, 5, 4 * LEVEL)
    one_sided = not ((ends <= END).any() and (ends >= 255 - END).any())
    return one_sided and _has_middle(_level(eight_HW, 9, LEVEL))


def _has_middle(values: Pixels) -> bool:
    return bool(((values > END) & (values < 255 - END)).any())


def _level(eight_HW: Pixels, side: int, spread: int) -> Pixels:
    """Return the values [N] of the pixels in whose square, of an odd side, values differ by no more than `spread`."""
    inner = (slice(side // 2, -(side // 2)),) * 2
    square = np.ones((side, side), np.uint8)
    spread_HW = np.asarray(cv2.dilate(eight_HW, square)) - np.asarray(cv2.erode(eight_HW, square))
    found: Pixels = eight_HW[inner][spread_HW[inner] <= spread]
    return found


def _is_merged(image: Image.Image, eight_HW: Pixels) -> bool:
    """Return whether values that differ are the same in grey, all of them, or those of a palette in colour."""
    if image.mode in ("1", "L") or _is_number(image):
        return False
    colours_HW = _colours(image)
    if image.mode == "P":
        used, places = np.unique(np.asarray(image), return_index=True)
        return len(np.unique(colours_HW.ravel()[places])) < len(used)
    return bool(np.ptp(eight_HW) == 0 != np.ptp(colours_HW))


def _opaque(picture: Picture, new: bool) -> Pixels:
    if _is_number(picture.image) or not picture.image.has_transparency_data:
        raise DataError("no transparency, and --fake-is alpha takes the opaque pixels as fake")
    alpha_HW = np.asarray(picture.image.convert("RGBA"))[..., 3]
    try:
        _check(Grey(alpha_HW, 255, alpha_HW), Picture(Image.fromarray(alpha_HW)), new)
    except DataError as error:
        raise DataError(f"transparency of {value_words(alpha_HW)}; expected 0 (real) and 255 (fake)") from error
    return alpha_HW


def _is_number(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _is_transparent(image: Image.Image) -> bool:
    return bool(image.has_transparency_data) and bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)


def _numbers(image: Image.Image) -> Numbers:
    """Return the stored value of each pixel [H, W]: of a palette the index, of a colour that is no grey -1."""
    if _is_number(image) or image.mode in ("L", "P"):
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    colours_HW3 = np.asarray(image.convert("RGB"))
    return np.where(np.ptp(colours_HW3, axis=2) == 0, colours_HW3[..., 0].astype(np.int16), np.int16(-1))


def _chosen(image: Image.Image, said: list[str]) -> npt.NDArray[np.bool_]:
    """Return where a picture has one of the values that are said, or any but 0 (`nonzero`)."""
    if image.mode != "P" and not _is_number(image) and _is_transparent(image):
        raise DataError("transparent; say that the opaque pixels are fake (--fake-is alpha), or save without")
    values_HW = _numbers(image)
    if image.mode == "F" and not np.isfinite(values_HW).all():
        raise DataError("NaN or infinite values")
    if said == ["nonzero"]:
        return np.asarray(values_HW != 0)
    plain = [int(value) for value in said if not value.startswith("0x")]
    most = 65535 if image.mode.startswith("I;") else _MOST.get(image.mode, math.inf)
    if len(plain) == len(said) and min(plain) > most:
        raise DataError(f"{value_words(values_HW)}, of which none can be {' or '.join(said)}")
    chosen_HW = np.isin(values_HW, plain)
    if len(plain) < len(said):
        chosen_HW |= np.isin(_colours(image), [int(value, 16) for value in said if value.startswith("0x")])
    return chosen_HW


def _colours(image: Image.Image) -> Numbers:
    """Return each pixel's colour as one number, 0xRRGGBB."""
    if _is_number(image):
        raise DataError("no colours; say its values")
    red_HW, green_HW, blue_HW = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.uint32), 2, 0)
    return np.asarray(red_HW << 16 | green_HW << 8 | blue_HW)
