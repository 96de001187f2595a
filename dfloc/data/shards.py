"""Shards -> decoded images and fakeness; the one place where polarity is applied."""

import io
import re
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError
from upath import UPath

from dfloc.data.manifest import MaskKind, SampleRef
from dfloc.errors import DataError

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 64_000_000
MAX_COLOUR = 16
CACHE_BYTES = 256 << 20

# Pillow's names of what is read, whatever a file calls itself.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")

# A scan costs a pass over all pixels and few bytes; encoders write at most 20, a decoder of TIFF refuses more than 100.
MAX_SCANS = 100
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


def decode_image(data: bytes) -> Pixels:
    """Decode an image as a viewer shows it (EXIF orientation applied) to RGB, uint8 [H, W, 3].

    Raises:
        DataError: the bytes are no whole image, or one of more than `MAX_PIXELS` pixels (checked before decoding).
    """
    image = open_image(data)
    if image.mode.startswith("I"):
        return np.repeat(_from_16_bits(image)[:, :, None], 3, axis=2)
    with decoding():
        return np.asarray(image.convert("RGB"))


def fakeness(mask: bytes | None, mask_kind: MaskKind, height: int, width: int) -> Pixels:
    """Return how fake each pixel is, uint8 [H, W] at native size: 0 = real, 255 = wholly fake.

    Args:
        mask: the encoded mask; None where the kind has none (`real`: all 0, `generated`: all 255).
        mask_kind: which side of the mask is the fake one.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        DataError: the mask is missing, cannot be read as black and white, or has another size than the image.
    """
    if mask_kind in ("real", "generated"):
        return np.full((height, width), 0 if mask_kind == "real" else 255, np.uint8)
    if mask is None:
        raise DataError(f"no mask for an image of kind {mask_kind}")
    grey_HW = _grey(mask)
    if grey_HW.shape != (height, width):
        raise DataError(f"mask of {grey_HW.shape[1]}x{grey_HW.shape[0]} for an image of {width}x{height} pixels")
    return grey_HW if mask_kind == "fake_is_white" else 255 - grey_HW


class _Group(NamedTuple):
    rows: list[dict[str, Any]]
    size: int


class ShardReader:
    """Reads row groups of the shards in a data folder, the last ones from memory.

    Args:
        folder: the data folder.
        cache_bytes: how much of the row groups is kept.
    """

    def __init__(self, folder: UPath, cache_bytes: int = CACHE_BYTES):
        self._folder = folder
        self._cache_bytes = cache_bytes
        self._files: dict[str, pq.ParquetFile] = {}
        self._groups: OrderedDict[tuple[str, int, tuple[str, ...] | None], _Group] = OrderedDict()

    def group(self, shard: str, group: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a row group in order; `image` and `mask` are `{bytes, path}`, or None for no mask.

        The rows are those of the cache: they are not to be changed.

        Args:
            shard: path relative to the data folder.
            group: index of the row group.
            columns: what to read; all columns by default.

        Raises:
            DataError: the shard is missing or damaged.
        """
        key = (shard, group, None if columns is None else tuple(columns))
        if key in self._groups:
            self._groups.move_to_end(key)
        else:
            table = self._read(shard, group, columns)
            self._groups[key] = _Group(table.to_pylist(), table.nbytes)
            while len(self._groups) > 1 and sum(kept.size for kept in self._groups.values()) > self._cache_bytes:
                self._groups.popitem(last=False)
        return self._groups[key].rows

    def _read(self, shard: str, group: int, columns: Sequence[str] | None) -> pa.Table:
        path = self._folder / shard
        try:
            if shard not in self._files:
                self._files[shard] = pq.ParquetFile(path.path, filesystem=path.fs)
            return self._files[shard].read_row_group(group, columns=columns)
        except (OSError, IndexError, pa.ArrowException) as error:
            raise DataError(f"cannot read row group {group} of shard {path} ({error}); import again") from error


def read_truth(folder: UPath, samples: Sequence[SampleRef], reader: ShardReader | None = None) -> list[Pixels]:
    """Return the fakeness of samples in the order asked, each uint8 [H, W] at native size.

    Args:
        folder: the data folder.
        samples: of any shards, in any order.
        reader: keeps row groups in memory between calls; a new one by default.
    """
    reader = reader or ShardReader(folder)
    places: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        places[sample.shard, sample.group].append(index)
    truth: dict[int, Pixels] = {}
    for (shard, group), indices in places.items():
        rows = reader.group(shard, group, ("mask", "mask_kind", "height", "width"))
        for index in indices:
            row = rows[samples[index].row]
            mask = None if row["mask"] is None else row["mask"]["bytes"]
            truth[index] = fakeness(mask, row["mask_kind"], row["height"], row["width"])
    return [truth[index] for index in range(len(samples))]


def open_image(data: bytes) -> Image.Image:
    """Decode an image, in its own mode, its EXIF orientation applied.

    Raises:
        DataError: as `decode_image`.
    """
    with decoding():
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{image.width}x{image.height} is more than the {MAX_PIXELS:,} pixels that are allowed")
        if image.format in ("JPEG", "MPO") and len(_SCAN.findall(data)) > MAX_SCANS:
            raise DataError(f"a JPEG of more than {MAX_SCANS} scans; save it again")
        image.load()
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("floating-point pixels; expected 8 or 16 bits")
    return image


@contextmanager
def decoding() -> Iterator[None]:
    """Make one sentence of whatever Pillow raises on bytes from outside, and none of what it warns of.

    Raises:
        DataError: Pillow raised anything.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"not an image of a type that is read ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"more than the {MAX_PIXELS:,} pixels that are allowed") from error
    except Exception as error:
        raise DataError(f"no whole image ({' '.join(str(error).split()) or type(error).__name__})") from error


def _from_16_bits(image: Image.Image) -> Pixels:
    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.size and (values_HW.min() < 0 or values_HW.max() > 65535):
        raise DataError("32-bit grey values; expected 8 or 16 bits")
    return np.round(values_HW / 257).astype(np.uint8)


@decoding()
def _grey(data: bytes) -> Pixels:
    """Decode a mask of any layout that is black and white in the end: grey, palette, 16 bits, RGB(A)."""
    image = open_image(data)
    wide = image.mode.startswith("I")
    grey_HW = _from_16_bits(image) if wide else np.asarray(_without_colour(image).convert("L"))
    if grey_HW.max() == 1:
        raise DataError("a mask with the values 0 and 1; expected 0 (black) and 255 (white)")
    return grey_HW


def _without_colour(image: Image.Image) -> Image.Image:
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise DataError("a transparent mask; expected black and white")
    if image.mode in ("1", "L"):
        return image
    image = image.convert("RGB")
    if np.ptp(np.asarray(image).astype(np.int16), axis=2).max() > MAX_COLOUR:
        raise DataError("a mask in colours; expected black and white")
    return image
