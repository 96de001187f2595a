"""Fakes beside their originals, and copies of one picture under other names; what is right follows from the making."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 96, 96
BOX = (slice(16, 52), slice(12, 60))
"""Rows and columns that are fake: no turn or mirror of it covers it."""

Pixels = np.ndarray


def save(path: Path, pixels: Pixels, **how: object) -> None:
    """Write a picture, of the type that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def smooth(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """Return a picture of smooth noise, [H, W, 3], as a photograph: neighbours are alike."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).copy()


def triple(seed: int) -> tuple[Pixels, Pixels, Pixels]:
    """Return a fake, its original and its mask (white = fake): inside every pixel is changed, outside none."""
    original = smooth(seed)
    fake, mask = original.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
    fake[BOX] = 255 - fake[BOX]
    mask[BOX] = 255
    return fake, original, mask


def write_triples(folder: Path, num: int = 4, change: Callable[[Pixels], Pixels] = lambda mask: mask) -> None:
    """Write images/, masks/ and originals/ of one name each, masks changed by a function."""
    for k in range(num):
        for part, pixels in zip(("images", "originals", "masks"), triple(k), strict=True):
            save(folder / part / f"t{k}x.png", change(pixels) if part == "masks" else pixels)


def write_pair(folder: Path, split: str, name: str, image: Pixels, **how: object) -> None:
    """Write an image of a split, and a mask with a fake rectangle."""
    save(folder / "images" / split / name, image, **how)
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[8:24, 8:40] = 255
    save(folder / "masks" / split / f"{name.rpartition('.')[0]}.png", mask)
