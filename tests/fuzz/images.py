"""Images, masks and maps of every format that is read, changed: an error, or an array that can be right."""

import io
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from dfloc.data.shards import MAX_PIXELS, decode_image, fakeness
from dfloc.engine import external_maps, predict_files
from dfloc.engine.predict import Prediction
from dfloc.errors import DataError
from tests.fuzz import mutate
from tests.fuzz.harness import Case, Part, WrongError

HEIGHT, WIDTH = 24, 37
KINDS = ("fake_is_black", "fake_is_white")


class Valid(NamedTuple):
    """A whole file, and what is in it as RGB (None: not what went in, as for JPEG)."""

    name: str
    data: bytes


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    return exif


@cache
def valid() -> tuple[Valid, ...]:
    """Return small whole files of every format, depth and coding that is read."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (HEIGHT // 4, WIDTH // 4 + 1, 4), np.uint8)
    rgba_HWC = coarse.repeat(4, 0).repeat(4, 1)[:HEIGHT, :WIDTH]
    rgba = Image.fromarray(rgba_HWC)
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    mask = Image.fromarray(np.where(rgba_HWC[..., 0] > 127, 255, 0).astype(np.uint8))
    deep = Image.fromarray(rgba_HWC[..., 0].astype(np.uint16) * 257)
    wide = Image.fromarray(np.asarray(mask).astype(np.int32))
    real = Image.fromarray(np.asarray(mask).astype(np.float32))
    palette = rgb.quantize(13)
    found = {f"png {name}": _encoded(image, "PNG") for name, image in _modes(rgba, deep, mask).items()}
    found |= {
        "png palette": _encoded(palette, "PNG", bits=4),
        "png palette, transparent": _encoded(palette, "PNG", transparency=3),
        "png palette, transparencies": _encoded(palette, "PNG", transparency=bytes(range(0, 250, 20))),
        "png transparent colour": _encoded(rgb, "PNG", transparency=tuple(int(v) for v in rgba_HWC[0, 0, :3])),
        "png exif": _encoded(rgb, "PNG", exif=_exif(6)),
        "png texts": _encoded(rgb, "PNG", pnginfo=_texts(), icc_profile=b"profile" * 9),
        "png interlaced": interlaced(np.asarray(grey)),
        "png animated": _encoded(rgb, "PNG", save_all=True, append_images=[rgba.convert("RGB").rotate(180)]),
        "jpeg": _encoded(rgb, "JPEG", exif=_exif(3)),
        "jpeg progressive": _encoded(rgb, "JPEG", progressive=True, exif=_exif(6)),
        "jpeg restart": _encoded(rgb, "JPEG", restart_marker_blocks=2, comment=b"words"),
        "jpeg grey": _encoded(grey, "JPEG"),
        "jpeg mask": _encoded(mask, "JPEG", quality=95),
        "jpeg cmyk": _encoded(rgb.convert("CMYK"), "JPEG"),
        "mpo": _encoded(rgb, "MPO", save_all=True, append_images=[rgb]),
        "webp lossy": _encoded(rgb, "WEBP"),
        "webp lossless": _encoded(rgb, "WEBP", lossless=True),
        "webp alpha": _encoded(rgba, "WEBP", exif=_exif(8)),
        "webp animated": _encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)], lossless=True),
        "webp mask": _encoded(mask, "WEBP", lossless=True),
        "tiff pages": _encoded(rgb, "TIFF", save_all=True, append_images=[grey, mask]),
        "tiff exif": _encoded(rgb, "TIFF", exif=_exif(6)),
        "tiff tiled": _encoded(rgb, "TIFF", compression="tiff_deflate", tiffinfo={322: 16, 323: 16}),
        "tiff 32": _encoded(wide, "TIFF"),
        "tiff float": _encoded(real, "TIFF"),
        "tiff big-endian": big_endian_tiff(np.asarray(grey).astype(np.uint16) * 257),
        "bmp rle8": rle8(np.asarray(grey)),
    }
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[f"tiff {compression}"] = _encoded(rgb, "TIFF", compression=compression)
        found[f"tiff grey {compression}"] = _encoded(grey, "TIFF", compression=compression)
    found |= {f"tiff 1 {how}": _encoded(mask.convert("1"), "TIFF", compression=how) for how in ("group3", "group4")}
    found |= {f"tiff {mode}": _encoded(rgb.convert(mode), "TIFF") for mode in ("CMYK", "YCbCr", "LAB", "RGBA", "P")}
    found |= {f"bmp {mode}": _encoded(rgb.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")}
    return tuple(Valid(name, data) for name, data in found.items())


def _modes(rgba: Image.Image, deep: Image.Image, mask: Image.Image) -> dict[str, Image.Image]:
    same = {mode: rgba.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA")}
    return {**same, "16": deep, "mask": mask, "mask 1": mask.convert("1"), "mask RGB": mask.convert("RGB")}


def _texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("one", "words " * 20, zip=True)
    info.add_itxt("two", "words " * 20, zip=True)
    return info


def interlaced(grey_HW: np.ndarray) -> bytes:
    """Return an Adam7 PNG; Pillow writes none."""
    import struct
    import zlib

    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    lines = (b"\0" + row.tobytes() for y, x, dy, dx in passes for row in grey_HW[y::dy, x::dx])
    head = struct.pack(">IIBBBBB", grey_HW.shape[1], grey_HW.shape[0], 8, 0, 0, 0, 1)
    return mutate.png_of([(b"IHDR", head), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")])


def big_endian_tiff(grey_HW: np.ndarray) -> bytes:
    """Return a 16-bit grey TIFF as other machines write it."""
    import struct

    height, width = grey_HW.shape
    data = grey_HW.astype(">u2").tobytes()
    tags = ((256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height))
    entries = [(tag, 4, value) for tag, value in (*tags, (279, len(data)))]
    listed = b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + struct.pack(">H", len(entries)) + listed + bytes(4)


def rle8(grey_HW: np.ndarray) -> bytes:
    """Return a run-length coded BMP; Pillow writes none."""
    import struct

    height, width = grey_HW.shape
    coded = b"".join(bytes([1, value]) if x < width else b"\0\0" for row in grey_HW[::-1] for x, value in _row(row))
    coded += b"\0\1"
    palette = b"".join(bytes([v, v, v, 0]) for v in range(256))
    offset = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(coded), 2835, 2835, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(coded), 0, 0, offset) + info + palette + coded


def _row(row: np.ndarray) -> list[tuple[int, int]]:
    return [*enumerate(map(int, row)), (len(row), 0)]


def harmless(data: bytes, rng: Random) -> bytes | None:
    """Change a file where no pixel is, so that all of them must stay; None where this format has no such place."""
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        chunks = mutate.png_chunks(data)
        place = next(k for k, (name, _) in enumerate(chunks) if name == b"IDAT")
        name, content = chunks[place]
        middle = rng.randrange(len(content) + 1)
        chunks[place : place + 1] = [(b"tEXt", b"a\0b"), (name, content[:middle]), (name, content[middle:])]
        return mutate.png_of(chunks)
    if data.startswith(b"\xff\xd8") and rng.random() < 0.7:
        return data[:2] + b"\xff\xfe\0\x09comment" + data[2:]
    return mutate.append(data, rng)


def _make(rng: Random) -> Case:
    files = valid()
    name, data = rng.choice(files)
    how = rng.random()
    if how < 0.1:
        changed, why, judge = harmless(data, rng), "harmless", _unchanged(data)
    elif how < 0.25:
        changed, why, judge = data[: rng.randrange(len(data))], "cut", _whole_or_refused(data)
    elif how < 0.4 and name.startswith("png"):
        changed, why, judge = mutate.png_content(data, rng), "chunks", read
    else:
        changed, why, judge = mutate.some(data, [file.data for file in files], rng), "changed", read
    if rng.random() < 0.1:
        judge = photograph if judge is read else judge
    return Case(f"{name}, {why}", changed, judge)


PART = Part("images and masks", 2700, _make)


def read(data: bytes) -> str:
    """Read bytes as image, mask and map; each is an error of data or an array that can be right."""
    words = {"image": _image(data), "mask": _mask(data), "map": _map_file(data, ".png")}
    return "read" if "read" in words.values() else "refused"


def _image(data: bytes) -> str:
    try:
        first_HW3 = decode_image(data)
    except DataError:
        return "refused"
    _expect(first_HW3.dtype == np.uint8 and first_HW3.ndim == 3 and first_HW3.shape[2] == 3, "no RGB", first_HW3)
    _expect(0 < first_HW3.shape[0] * first_HW3.shape[1] <= MAX_PIXELS, "of an odd size", first_HW3)
    _expect(np.array_equal(first_HW3, decode_image(data)), "another one the second time", first_HW3)
    return "read"


def _mask(data: bytes) -> str:
    size = _size(data)
    found = {}
    for kind in KINDS:
        try:
            found[kind] = fakeness(data, kind, *size)
        except DataError:
            continue
        _expect(found[kind].dtype == np.uint8 and found[kind].shape == size, "no mask of its size", found[kind])
    if not found:
        return "refused"
    _expect(len(found) == len(KINDS), "read by one polarity alone", next(iter(found.values())))
    black, white = (found[kind].astype(int) for kind in KINDS)
    _expect(bool((black + white == 255).all()), "not the reverse of itself", black)
    return "read"


def _size(data: bytes) -> tuple[int, int]:
    """Return height and width as shown; (1, 1) where they cannot be known."""
    try:
        return decode_image(data).shape[:2]
    except DataError:
        return (1, 1)


def _map_file(data: bytes, ending: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{ending}")
        path.write_bytes(data)
        try:
            prob_hw = external_maps.read(path)
        except DataError:
            return "refused"
    _expect(prob_hw.dtype == np.float32 and prob_hw.ndim == 2 and prob_hw.size > 0, "no map", prob_hw)
    _expect(bool(((prob_hw >= 0) & (prob_hw <= 1)).all()), "outside [0, 1]", prob_hw)
    return "read"


def photograph(data: bytes) -> str:
    """Read bytes as `dfloc predict` does: files with its size, or a word why not."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "a.png"), Path(folder, "out")
        path.write_bytes(data)
        listed, _ = predict_files.find([path])
        ((_, fault, _),) = predict_files.predict(
            _half, listed, out, {"trial": "t", "checkpoint": "best", "threshold": 0.5}
        )
        files = sorted(file.name for file in out.glob("*"))
        _expect(bool(fault) != (len(files) == 3), f'says "{fault}" and writes {files}')
    return "refused" if fault else "read"


def _half(image_HW3: np.ndarray) -> Prediction:
    return Prediction(torch.full(image_HW3.shape[:2], 0.5), 0.5)


_half.spec = SimpleNamespace()  # type: ignore[attr-defined]


def _unchanged(original: bytes) -> Callable[[bytes], str]:
    """Reads bytes that must show what the original shows."""

    def judge(data: bytes) -> str:
        found, expected = _pixels(data), _pixels(original)
        if expected is None and found is None:
            return "refused"
        _expect(found is not None and np.array_equal(found, expected), "other pixels", found)
        return "right"

    return judge


def _whole_or_refused(original: bytes) -> Callable[[bytes], str]:
    """Reads the beginning of the original: all that it shows, or an error; never a part."""

    def judge(data: bytes) -> str:
        found = _pixels(data)
        if found is None:
            return "refused"
        _expect(np.array_equal(found, _pixels(original)), "a part of it, read as if it were whole", found)
        return "right"

    return judge


def _pixels(data: bytes) -> np.ndarray | None:
    try:
        return decode_image(data)
    except DataError:
        return None


def _expect(good: bool, what: str, array: np.ndarray | None = None) -> None:
    if not good:
        of = "" if array is None else f" ({array.dtype} {array.shape})"
        raise WrongError(f"{what}{of}")


def _arrays() -> Mapping[str, bytes]:
    prob_hw = np.random.default_rng(1).random((6, 9))
    found = {}
    for dtype in ("<f2", "<f4", "<f8", ">f4"):
        buffer = io.BytesIO()
        np.save(buffer, prob_hw.astype(dtype))
        found[dtype] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.asfortranarray(prob_hw.astype(np.float32)))
    return {**found, "fortran": buffer.getvalue()}


def _make_array(rng: Random) -> Case:
    files = _arrays()
    name, data = rng.choice(list(files.items()))
    if rng.random() < 0.5:  # the header is text
        place = rng.randrange(10, 60)
        word = rng.choice((b"(", b"[", b"-", b"9" * 9, b"'O'", b"'<M8'", b"{", b"None", b",", b"\0", b"1e9", b"()"))
        changed = data[:place] + word + data[place + len(word) :]
    else:
        changed = mutate.some(data, list(files.values()), rng)
    return Case(f"npy {name}", changed, lambda data: _map_file(data, ".npy"))


ARRAYS = Part("maps as arrays", 300, _make_array)
