"""Shards -> decoded images and fakeness; the one place where polarity is applied."""

import io
import struct
import warnings
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError
from upath import UPath

from dfloc import digests
from dfloc.data.manifest import MaskKind, SampleRef
from dfloc.errors import DataError

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 64_000_000
MAX_COLOUR = 16
CACHE_BYTES = 256 << 20
FILES = ("image", "mask")

# Pillow's names of what is read, whatever a file calls itself.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")

# What Pillow raises on damaged files of these formats.
_DAMAGED = (
    OSError,
    RuntimeError,
    AssertionError,
    AttributeError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)


def decode_image(data: bytes) -> Pixels:
    """Decode an image as a viewer shows it (EXIF orientation applied) to RGB, uint8 [H, W, 3].

    Raises:
        DataError: the bytes are no whole image, or one of more than `MAX_PIXELS` pixels (checked before decoding).
    """
    image = open_image(data)
    if image.mode.startswith("I"):
        return np.repeat(_from_16_bits(image)[:, :, None], 3, axis=2)
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

        The bytes of both are compared with their digests. The rows are those of the cache: they are not to be changed.

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
            self._groups[key] = _Group(self._verified(shard, group, columns, table), table.nbytes)
            while len(self._groups) > 1 and sum(kept.size for kept in self._groups.values()) > self._cache_bytes:
                self._groups.popitem(last=False)
        return self._groups[key].rows

    def _read(self, shard: str, group: int, columns: Sequence[str] | None) -> pa.Table:
        path = self._folder / shard
        try:
            if shard not in self._files:
                self._files[shard] = pq.ParquetFile(path.path, filesystem=path.fs, page_checksum_verification=True)
            marks = [f"{name}_sha256" for name in FILES if columns is not None and name in columns]
            return self._files[shard].read_row_group(group, columns=None if columns is None else [*columns, *marks])
        except Exception as error:
            raise DataError(f"cannot read row group {group} of shard {path} ({error}); import again") from error

    def _verified(self, shard: str, group: int, columns: Sequence[str] | None, table: pa.Table) -> list[dict[str, Any]]:
        """Return the rows of a table, in these columns, if the files in them are those that were imported."""
        place = f"row group {group} of shard {self._folder / shard}"
        try:
            rows: list[dict[str, Any]] = table.to_pylist()
            for number, row in enumerate(rows):
                for name in (name for name in FILES if name in row):
                    if row[f"{name}_sha256"] != (row[name] and digests.digest(row[name]["bytes"])):
                        raise DataError(f"the {name} in row {number} of {place} is not what was imported; import again")
            return rows if columns is None else [{name: row[name] for name in columns} for row in rows]
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{place} is damaged ({type(error).__name__}: {error}); import again") from error


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{image.width}x{image.height} is more than the {MAX_PIXELS:,} pixels that are allowed")
        image.load()
        image = ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise DataError(f"not an image of a type that is read ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"more than the {MAX_PIXELS:,} pixels that are allowed") from error
    except _DAMAGED as error:
        raise DataError(f"no whole image ({' '.join(str(error).split()) or type(error).__name__})") from error
    if image.mode == "F":
        raise DataError("floating-point pixels; expected 8 or 16 bits")
    return image


def _from_16_bits(image: Image.Image) -> Pixels:
    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.size and (values_HW.min() < 0 or values_HW.max() > 65535):
        raise DataError("32-bit grey values; expected 8 or 16 bits")
    return np.round(values_HW / 257).astype(np.uint8)


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
