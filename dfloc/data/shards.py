"""Shards -> decoded images and fakeness; the one place where polarity is applied."""

import io
import re
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from upath import UPath

from dfloc import digests
from dfloc.data import exif, masks
from dfloc.data.manifest import OPTIONAL_COLUMNS, MaskKind, SampleRef
from dfloc.data.masks import Picture
from dfloc.errors import DataError

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 64_000_000
CACHE_BYTES = 256 << 20
FILES = ("image", "mask")

# Pillow's names of what is read, whatever a file calls itself.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")

# Codings that change values, by Pillow's names of formats and of what TIFF is compressed by.
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "jpeg": "JPEG", "tiff_jpeg": "JPEG", "WEBP": "WEBP", "webp": "WEBP"}
_PHOTOMETRIC = 262  # of TIFF; 0: white is zero, which Pillow turns over in 1 and 8 bits only
_PNG = b"\x89PNG\r\n\x1a\n"

# A scan costs a pass over all pixels and few bytes; encoders write at most 20, a decoder of TIFF refuses more than 100.
MAX_SCANS = 100
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")


def decode_image(data: bytes, *, new: bool = False) -> Pixels:
    """Decode an image as a viewer shows it (EXIF orientation applied) to RGB, uint8 [H, W, 3].

    Args:
        data: the encoded image.
        new: it enters now, and is refused where Pillow would show it inverted.

    Raises:
        DataError: the bytes are no whole image, or one of more than `MAX_PIXELS` pixels (checked before decoding).
    """
    image = open_image(data, new=new).image
    if image.mode == "F":
        raise DataError("floating-point pixels; expected 8 or 16 bits")
    if image.mode.startswith("I"):
        return np.repeat(_from_16_bits(image)[:, :, None], 3, axis=2)
    with decoding():
        return np.asarray(image.convert("RGB"))


def fakeness(
    mask: bytes | None, mask_kind: MaskKind, height: int, width: int, turn: int | None = None, *, new: bool = False
) -> Pixels:
    """Return how fake each pixel is, uint8 [H, W] at native size: 0 = real, 255 = wholly fake.

    Args:
        mask: the encoded mask; None where the kind has none (`real`: all 0, `generated`: all 255).
        mask_kind: which values of the mask are fake.
        height: of the image, in pixels.
        width: of the image, in pixels.
        turn: the image's EXIF orientation, where the mask lies on the image's pixels as they are stored.
        new: as for `masks.truth`.

    Raises:
        DataError: the mask is missing, is not what its kind says, or has another size than the image.
    """
    if mask_kind in ("real", "generated"):
        return np.full((height, width), 0 if mask_kind == "real" else 255, np.uint8)
    if mask is None:
        raise DataError(f"no mask for an image of kind {mask_kind}")
    picture = open_mask(mask, new=new)
    with decoding():
        fake_HW = masks.truth(picture, mask_kind, new=new)
    if turn is not None:
        fake_HW = exif.onto(fake_HW, picture.orientation, turn)
    if fake_HW.shape != (height, width):
        raise DataError(f"mask of {fake_HW.shape[1]}x{fake_HW.shape[0]} for an image of {width}x{height} pixels")
    return fake_HW


def fakeness_of(row: Mapping[str, Any], height: int, width: int) -> Pixels:
    """Return the fakeness of a shard's row (`mask, mask_kind, exif`; of one whose `exif` is `stored` also `image`).

    Raises:
        DataError: as `fakeness`.
    """
    turn = orientation(row["image"]["bytes"]) if row["exif"] == "stored" else None
    return fakeness(row["mask"] and row["mask"]["bytes"], row["mask_kind"], height, width, turn)


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
            file = self._files[shard]
            lacking = [name for name in OPTIONAL_COLUMNS if name not in file.schema_arrow.names]
            marks = [f"{name}_sha256" for name in FILES if columns is not None and name in columns]
            wanted = None if columns is None else [c for c in (*columns, *marks) if c not in lacking]
            table = file.read_row_group(group, wanted)
            for name in lacking if columns is None else [c for c in columns if c in lacking]:
                table = table.append_column(name, pa.nulls(table.num_rows))
            return table
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
                        of = row.get("id") or f"row {number}"
                        raise DataError(f"the {name} of {of} in {place} is not what was imported; import again")
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
        rows = reader.group(shard, group, ("mask", "mask_kind", "height", "width", "exif"))
        for index in indices:
            row = rows[samples[index].row]
            if row["exif"] == "stored":
                row = row | reader.group(shard, group, ("image",))[samples[index].row]
            try:
                truth[index] = fakeness_of(row, row["height"], row["width"])
            except DataError as error:
                raise DataError(f"{samples[index].id} in shard {folder / shard}: {error}") from error
    return [truth[index] for index in range(len(samples))]


def open_image(data: bytes, *, new: bool = False) -> Picture:
    """Decode an image, in its own mode, its EXIF orientation applied.

    Raises:
        DataError: as `decode_image`.
    """
    with decoding():
        image = _open(data)
        kept = image.format == "TIFF" and image.mode[0] in "IF"
        if new and kept and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
            raise DataError("a TIFF of more than 8 bits in which 0 is white (WhiteIsZero); save it as PNG")
        coding = image.info.get("compression", "") if image.format == "TIFF" else image.format
        lossy = _LOSSY.get(str(coding), "")
        if lossy == "WEBP" and b"VP8 " not in data:
            lossy = ""
        halved = image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile)
        turn = exif.orientation(image)
        image.load()
        return Picture(ImageOps.exif_transpose(image), turn, lossy, halved)


def orientation(data: bytes) -> int:
    """Return the EXIF orientation of an encoded image, 1 to 8.

    Raises:
        DataError: as `decode_image`.
    """
    if data.startswith(_PNG) and not any(mark in data for mark in (b"eXIf", b"exif", b"xmp")):
        return 1  # to look for them in a PNG is to decode it
    with decoding():
        return exif.orientation(_open(data))


def open_mask(data: bytes, *, new: bool = False) -> Picture:
    """Decode a mask, or a map, as `open_image` does.

    Raises:
        DataError: as `open_image`; it has 16 bits a channel, of which the upper eight say nothing.
    """
    picture = open_image(data, new=new)
    if picture.halved:
        with decoding():
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        most = 1 if found is None else int(np.atleast_3d(found)[..., :3].max())
        if 0 < most < 256:
            raise DataError(f"16 bits a channel with values up to {most}; save it in grey, or in 8 bits a channel")
    return picture


def _open(data: bytes) -> ImageFile:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{image.width}x{image.height} is more than the {MAX_PIXELS:,} pixels that are allowed")
    if image.format in ("JPEG", "MPO") and len(_SCAN.findall(data)) > MAX_SCANS:
        raise DataError(f"a JPEG of more than {MAX_SCANS} scans; save it again")
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
