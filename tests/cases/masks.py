"""Masks of every depth and coding of one rectangle, each with what is right of it."""

import io
import struct
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 96
FAKE = np.zeros((HEIGHT, WIDTH), bool)
FAKE[8:24, 8:40] = True
AREA = 16 * 32 / (HEIGHT * WIDTH)


class Case(NamedTuple):
    """A mask, what is said of it by itself, and the words that make it the rectangle.

    Attributes:
        data: the encoded mask.
        refused: what its refusal says where it is called white; None where it is taken so, as ever.
        told: what `--fake-is` must say for it to be the rectangle.
    """

    data: bytes
    refused: str | None
    told: tuple[str, ...]


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def two(low: float, high: float, kind: type = np.uint8) -> np.ndarray:
    """The rectangle in one value, all else in another."""
    return np.where(FAKE, high, low).astype(kind)


def three(low: int, high: int, other: int, kind: type = np.uint8) -> np.ndarray:
    """As `two`, with a rectangle of a third value below."""
    pixels = two(low, high, kind)
    pixels[40:50, 50:90] = other
    return pixels


def palette(colours: list[int], pixels: np.ndarray | None = None) -> Image.Image:
    image = Image.fromarray(two(0, 1) if pixels is None else pixels, "P")
    image.putpalette(colours)
    return image


def colours(low: tuple[int, ...], high: tuple[int, ...]) -> np.ndarray:
    return np.where(FAKE[..., None], high, low).astype(np.uint8)


def deep(low: int, high: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads half of."""
    done, data = cv2.imencode(".png", np.repeat(two(low, high, np.uint16)[..., None], 3, axis=2))
    assert done
    return data.tobytes()


def transparent(mode: str, alpha: np.ndarray) -> Image.Image:
    image = Image.new(mode, (WIDTH, HEIGHT))
    image.putalpha(Image.fromarray(alpha))
    return image


def disc(low: int, high: int) -> np.ndarray:
    """A disc of a radius of 20 pixels in one value, all else in another."""
    rows, columns = np.indices(FAKE.shape)
    return np.where((rows - 30) ** 2 + (columns - 40) ** 2 < 400, high, low).astype(np.uint8)


def white_is_zero(pixels: np.ndarray | Image.Image) -> bytes:
    """A TIFF whose pixels are kept, and said to be white where they are 0."""
    data = encoded(pixels, TIFF)
    said, other = (struct.pack("<HHIH", 262, 3, 1, photometric) for photometric in (1, 0))
    assert data.count(said) == 1
    return data.replace(said, other)


TIFF = "TIFF"
ZERO = np.zeros((HEIGHT, WIDTH), np.uint8)
WHITISH = 255 - np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH)).astype(np.uint8)
CASES: dict[str, Callable[[], Case]] = {
    # black and white, or near both: as ever
    "8 bits": lambda: Case(encoded(two(0, 255)), None, ("white", "255", "nonzero")),
    "1 bit": lambda: Case(encoded(Image.fromarray(FAKE)), None, ("white", "1", "nonzero")),
    "1 bit, tiff": lambda: Case(encoded(Image.fromarray(FAKE), TIFF), None, ("white", "1", "nonzero")),
    "16 bits": lambda: Case(encoded(two(0, 65535, np.uint16)), None, ("white", "65535", "nonzero")),
    "32 bits, 65535": lambda: Case(encoded(two(0, 65535, np.int32), TIFF), None, ("white", "65535", "nonzero")),
    "rgb": lambda: Case(encoded(colours((0, 0, 0), (255,) * 3)), None, ("white", "255", "0xffffff", "nonzero")),
    "rgba, opaque": lambda: Case(
        encoded(colours((0, 0, 0, 255), (255,) * 4)), None, ("white", "255", "0xFFFFFF", "nonzero")
    ),
    "la, opaque": lambda: Case(encoded(Image.fromarray(two(0, 255)).convert("LA")), None, ("white", "255")),
    "16 bits a channel": lambda: Case(deep(0, 65535), None, ("white",)),
    "palette": lambda: Case(encoded(palette([0, 0, 0, 255, 255, 255])), None, ("white", "1", "0xffffff", "nonzero")),
    "palette, white first": lambda: Case(
        encoded(palette([255, 255, 255, 0, 0, 0], two(1, 0))), None, ("white", "0", "0xffffff")
    ),
    "palette, two indices white": lambda: Case(
        encoded(palette([0] * 3 + [255] * 6, np.where(FAKE, 1 + np.indices(FAKE.shape)[1] % 2, 0).astype(np.uint8))),
        "^labels that show as one colour: palette indices 0, 1 and 2; ",
        ("1,2", "2+1", "0xffffff", "nonzero"),
    ),
    "video range": lambda: Case(encoded(two(16, 235)), None, ("white", "235")),
    "0, 1 and 255": lambda: Case(encoded(three(0, 255, 1)), None, ("white", "255")),
    "0, 120 and 255, a line": lambda: Case(
        encoded(np.where(np.indices(FAKE.shape)[0] // 3 == 15, 120, two(0, 255)).astype(np.uint8)),
        None,
        ("white", "255"),
    ),
    "8 bits, white is zero": lambda: Case(white_is_zero(two(255, 0)), None, ("white", "255", "nonzero")),
    "1 bit, white is zero": lambda: Case(white_is_zero(Image.fromarray(~FAKE)), None, ("white", "1", "nonzero")),
    "jpeg": lambda: Case(encoded(two(0, 255), "JPEG", quality=60), None, ("white",)),
    "jpeg, rgb": lambda: Case(encoded(colours((0,) * 3, (255,) * 3), "JPEG", quality=60), None, ("white",)),
    # two values that say nothing by themselves
    "8 bits, 0/1": lambda: Case(encoded(two(0, 1)), "^values 0 and 1; .*--fake-is 1 .*fake=1", ("1", "nonzero")),
    "8 bits, 0/2": lambda: Case(encoded(two(0, 2)), "^values 0 and 2; .*--fake-is 2 ", ("2", "nonzero")),
    "8 bits, 0/100": lambda: Case(encoded(two(0, 100)), "^values 0 and 100; .*--fake-is 100 ", ("100", "nonzero")),
    "8 bits, 0/128": lambda: Case(encoded(two(0, 128)), "^values 0 and 128; ", ("128", "nonzero")),
    "8 bits, 0/200": lambda: Case(encoded(two(0, 200)), "^values 0 and 200; ", ("200", "nonzero")),
    "8 bits, 1/2": lambda: Case(encoded(two(1, 2)), "^values 1 and 2; ", ("2",)),
    "8 bits, 1/255": lambda: Case(encoded(two(1, 255)), None, ("white", "255")),
    "8 bits, 254/255": lambda: Case(encoded(two(254, 255)), "^values 254 and 255; ", ("255",)),
    "8 bits, 100/200": lambda: Case(encoded(two(100, 200)), "^values 100 and 200; ", ("200",)),
    "8 bits, bmp": lambda: Case(encoded(two(0, 2), "BMP"), "values 0 and 2; ", ("2", "nonzero")),
    "8 bits, webp": lambda: Case(encoded(two(0, 2), "WEBP", lossless=True), "values 0 and 2; ", ("2", "nonzero")),
    "labels": lambda: Case(encoded(three(0, 1, 2)), "^values 0, 1 and 2; ", ("1",)),
    "labels, 0 to 3": lambda: Case(
        encoded(np.maximum(three(0, 3, 2), np.eye(HEIGHT, WIDTH, dtype=np.uint8))), "^values 0, 1, 2 and 3; ", ("3",)
    ),
    "labels, far apart": lambda: Case(encoded(three(0, 200, 100)), "^values 0, 100 and 200; ", ("200",)),
    "0, 120 and 255": lambda: Case(
        encoded(three(0, 255, 120)), "^areas of grey between black and white: values 0, 120 and 255; ", ("255",)
    ),
    "16 bits, 0/20000/65535": lambda: Case(
        encoded(three(0, 65535, 20000, np.uint16)), "grey .*: 16-bit values 0, 20000 and 65535; ", ("65535",)
    ),
    "0/85/255": lambda: Case(encoded(three(0, 255, 85)), "^areas of grey .*: values 0, 85 and 255; ", ("255",)),
    "0/85/255, soft edges": lambda: Case(
        encoded(cv2.GaussianBlur(cv2.resize(three(0, 255, 85), None, fx=8, fy=8), (0, 0), 2)),
        r"^areas of grey between black and white: values 0 to 255 \(",
        (),
    ),
    "16 bits, 0/1": lambda: Case(encoded(two(0, 1, np.uint16)), "^16-bit values 0 and 1; ", ("1", "nonzero")),
    "16 bits, 0/1, tiff": lambda: Case(encoded(two(0, 1, np.uint16), TIFF), "^16-bit values 0 and 1; ", ("1",)),
    "16 bits, 0/255": lambda: Case(encoded(two(0, 255, np.uint16)), "^16-bit values 0 and 255; ", ("255", "nonzero")),
    "16 bits, 0/4095": lambda: Case(encoded(two(0, 4095, np.uint16)), "^16-bit values 0 and 4095; ", ("4095",)),
    "32 bits, 0/1": lambda: Case(encoded(two(0, 1, np.int32), TIFF), "values 0 and 1; ", ("1", "nonzero")),
    "32 bits, 0/255": lambda: Case(encoded(two(0, 255, np.int32), TIFF), "values 0 and 255; ", ("255", "nonzero")),
    "32 bits, 0/-1": lambda: Case(
        encoded(two(0, -1, np.int32), TIFF), "^32-bit values -1 and 0; .*--fake-is nonzero ", ("nonzero",)
    ),
    "32 bits, large": lambda: Case(encoded(two(7, 70000, np.int32), TIFF), "^32-bit values 7 and 70000; ", ("70000",)),
    "float": lambda: Case(
        encoded(two(0, 1, np.float32), TIFF), "^floating-point values 0 and 1; .*--fake-is 1 ", ("1", "nonzero")
    ),
    "float, 0/0.5": lambda: Case(
        encoded(two(0, 0.5, np.float32), TIFF), "^floating-point values 0 and 0.5; .*--fake-is nonzero ", ("nonzero",)
    ),
    "float, 0.25/0.5": lambda: Case(
        encoded(two(0.25, 0.5, np.float32), TIFF), "values 0.25 and 0.5; save masks as 8-bit PNG", ()
    ),
    "float, NaN": lambda: Case(
        encoded(two(0, np.nan, np.float32), TIFF), "values 0 and nan; save masks as 8-bit PNG", ()
    ),
    "16 bits, white is zero": lambda: Case(
        white_is_zero(two(65535, 0, np.uint16)), r"\(WhiteIsZero\); save it as PNG", ()
    ),
    "almost black": lambda: Case(
        encoded(colours((0, 0, 0), (0, 0, 4))),
        "^labels that show as one colour: values 0x000000 and 0x000004; .*--fake-is 0x000004 ",
        ("0x000004", "nonzero"),
    ),
    "almost black, rgba": lambda: Case(
        encoded(colours((0, 0, 0, 255), (0, 0, 1, 255))), "^labels that show as one colour", ("0x000001", "nonzero")
    ),
    "almost white": lambda: Case(
        encoded(colours((255,) * 3, (255, 255, 251))),
        "^labels that show as one .* 0xfffffb and 0xffffff",
        ("0xfffffb",),
    ),
    "float, 0/255": lambda: Case(encoded(two(0, 255, np.float32), TIFF), "^floating-point values 0 and 255", ("255",)),
    "rgb, 0/1": lambda: Case(encoded(colours((0,) * 3, (1,) * 3)), "^values 0 and 1; ", ("1", "0x010101", "nonzero")),
    "red": lambda: Case(
        encoded(colours((0, 0, 0), (255, 0, 0))),
        "^in colours: values 0x000000 and 0xff0000; .*--fake-is 0xff0000 ",
        ("0xff0000", "nonzero"),
    ),
    "blue on white": lambda: Case(
        encoded(colours((255,) * 3, (0, 0, 255))), "in colours: values 0x0000ff and 0xffffff", ("0x0000ff",)
    ),
    "coloured palette": lambda: Case(
        encoded(palette([0, 0, 0, 128, 0, 0])), "^in colours: palette indices 0 and 1; ", ("1", "0x800000", "nonzero")
    ),
    "black palette": lambda: Case(
        encoded(palette([0] * 768)), "^a palette that shows as one its palette indices 0 and 1; ", ("1", "nonzero")
    ),
    "white palette": lambda: Case(
        encoded(palette([255] * 768)), "^a palette that shows as one its palette indices 0 and 1; ", ("1", "nonzero")
    ),
    "dark palette": lambda: Case(encoded(palette([0, 0, 0, 9, 9, 9])), "^palette indices 0 and 1; ", ("1", "0x090909")),
    "16 bits a channel, 0/1": lambda: Case(deep(0, 1), "16 bits a channel with values up to 1", ()),
    "16 bits a channel, 0/255": lambda: Case(deep(0, 255), "16 bits a channel with values up to 255", ()),
    "16 bits a channel, 0/4095": lambda: Case(
        deep(0, 4095),
        "^16 bits a channel, their upper eight of values 0 and 15; save masks in grey, or in 8 bits a",
        (),
    ),
    "alpha": lambda: Case(encoded(transparent("RGB", two(0, 255))), "^transparent; .*--fake-is alpha", ("alpha",)),
    "grey alpha": lambda: Case(encoded(transparent("L", two(0, 255))), "^transparent; .*--fake-is alpha", ("alpha",)),
    "jpeg, 0/2": lambda: Case(encoded(two(0, 2), "JPEG"), "^values 0 and 2; save masks in black and white", ()),
    "jpeg, 0/100": lambda: Case(
        encoded(two(0, 100), "JPEG", quality=60), "^values 0 .*; save masks in black and white", ()
    ),
}
"""By name. All that can be told are the same rectangle."""

ONLY_NOW = ("16 bits, white is zero", "almost black", "almost black, rgba", "almost white")
"""Those that shards of before may hold, and that are read as they were: wrong, but never said to be otherwise."""

CONSTANT: dict[str, Callable[[], tuple[bytes, float | str]]] = {
    "black": lambda: (encoded(np.zeros((HEIGHT, WIDTH), np.uint8)), 0.0),
    "white": lambda: (encoded(np.full((HEIGHT, WIDTH), 255, np.uint8)), 1.0),
    "black, 1 bit": lambda: (encoded(Image.new("1", (WIDTH, HEIGHT), 0)), 0.0),
    "white, 1 bit": lambda: (encoded(Image.new("1", (WIDTH, HEIGHT), 1)), 1.0),
    "black, 16 bits": lambda: (encoded(np.zeros((HEIGHT, WIDTH), np.uint16)), 0.0),
    "white, 16 bits": lambda: (encoded(np.full((HEIGHT, WIDTH), 65535, np.uint16)), 1.0),
    "black, 32 bits": lambda: (encoded(np.zeros((HEIGHT, WIDTH), np.int32), TIFF), 0.0),
    "black, 16 bits a channel": lambda: (deep(0, 0), 0.0),
    "white, 16 bits a channel": lambda: (deep(65535, 65535), 1.0),
    "black, jpeg": lambda: (encoded(np.zeros((HEIGHT, WIDTH), np.uint8), "JPEG", quality=5), 0.0),
    "white, jpeg": lambda: (encoded(np.full((HEIGHT, WIDTH), 255, np.uint8), "JPEG", quality=5), 1.0),
    "white, webp": lambda: (encoded(np.full((HEIGHT, WIDTH), 255, np.uint8), "WEBP", quality=40), 1.0),
    "black, webp": lambda: (encoded(np.zeros((HEIGHT, WIDTH), np.uint8), "WEBP", quality=40), 0.0),
    "about white, webp": lambda: (encoded(WHITISH, "WEBP", quality=90), 1.0),
    "about white, png": lambda: (encoded(WHITISH), r"values 252 to 255 \(4 of them\)|values 252, 253, 254 and 255"),
    "1": lambda: (encoded(np.ones((HEIGHT, WIDTH), np.uint8)), "value 1 alone"),
    "2": lambda: (encoded(np.full((HEIGHT, WIDTH), 2, np.uint8)), "value 2 alone"),
    "3": lambda: (encoded(np.full((HEIGHT, WIDTH), 3, np.uint8)), "value 3 alone"),
    "grey, nearer to black": lambda: (encoded(np.full((HEIGHT, WIDTH), 100, np.uint8)), "^value 100 alone; "),
    "grey, nearer to white": lambda: (encoded(np.full((HEIGHT, WIDTH), 200, np.uint8)), "^value 200 alone; "),
    "grey, jpeg": lambda: (encoded(np.full((HEIGHT, WIDTH), 128, np.uint8), "JPEG"), "^value 128 alone; save masks"),
    "two blacks, webp": lambda: (encoded(two(0, 5), "WEBP", quality=90), 0.0),
    "about black": lambda: (encoded(np.full((HEIGHT, WIDTH), 20, np.uint8)), 0.0),
    "about white": lambda: (encoded(np.full((HEIGHT, WIDTH), 235, np.uint8)), 1.0),
    "16 bits, 255": lambda: (encoded(np.full((HEIGHT, WIDTH), 255, np.uint16)), "16-bit value 255 alone"),
    "16 bits, 1": lambda: (encoded(np.full((HEIGHT, WIDTH), 1, np.uint16)), "16-bit value 1 alone"),
}
"""Masks of one value, and the fake share where they are called white, or what their refusal says."""
