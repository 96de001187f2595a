"""One shard's worth of samples -> a Parquet file and a receipt; what cannot be used is named."""

import hashlib
import io
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from dfloc import storage
from dfloc.data import alignment, dolos
from dfloc.data.alignment import MaskVerdict
from dfloc.data.dolos import Sample
from dfloc.data.exif import WAYS, Way, choose
from dfloc.data.folders import EXTENSIONS, text
from dfloc.data.originals import changed
from dfloc.data.rejects import Reject
from dfloc.data.shards import Pixels, decode_image, fakeness, orientation
from dfloc.errors import DataError

GROUP_ROWS = 128
GROUP_BYTES = 64 << 20
GROUP_PIXELS = 128 << 20
MAX_FILE_BYTES = 256 << 20

_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("pair", pa.string()),
        ("stem", pa.string()),
        ("domain", pa.string()),
        ("split", pa.string()),
        ("image", _FILE),
        ("mask", _FILE),
        ("mask_kind", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fake_area", pa.float64()),
        ("image_sha256", pa.string()),
        ("mask_sha256", pa.string()),
        ("exif", pa.string()),
        ("pixels_sha256", pa.string()),
    ]
)


class ShardJob(NamedTuple):
    """Samples of one domain and split, in rank order, the file that they go to, and how many originals to look at."""

    path: UPath
    samples: Sequence[Sample]
    group_rows: int = GROUP_ROWS
    num_judged: int = 0


class ShardReceipt(NamedTuple):
    """What a shard holds: rows of each group, sum of the fake areas, grey mask pixels; and what it does not hold.

    `judged` is what originals say of the masks of its first samples.
    """

    groups: list[int]
    fake_area: float
    grey_pixels: int
    rejected: list[Reject]
    judged: Sequence[MaskVerdict] = ()

    @property
    def num_rows(self) -> int:
        """Samples that were written."""
        return sum(self.groups)


def write_shard(job: ShardJob) -> ShardReceipt:
    """Read, check and write the samples of one shard; the file is whole or not there (nor is it where it is empty).

    Raises:
        OSError: the shard cannot be written.
    """
    receipt = ShardReceipt([], 0.0, 0, [])
    buffer = io.BytesIO()
    how = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    with pq.ParquetWriter(buffer, SCHEMA, **how) as writer:
        for rows in _groups(_usable(job, receipt.rejected), job.group_rows):
            judged = [found for row in rows if (found := row.pop("judged"))]
            grey_pixels = sum(row.pop("grey_pixels") for row in rows)
            fake_area = sum(row["fake_area"] for row in rows)
            receipt = ShardReceipt(
                [*receipt.groups, len(rows)],
                receipt.fake_area + fake_area,
                receipt.grey_pixels + grey_pixels,
                receipt.rejected,
                [*receipt.judged, *judged],
            )
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA), row_group_size=len(rows))
    if receipt.groups:
        storage.put(job.path, buffer.getvalue())
    return receipt


def _usable(job: ShardJob, rejected: list[Reject]) -> Iterator[dict[str, Any]]:
    for place, sample in enumerate(job.samples):
        try:
            yield _row(sample, place < job.num_judged)
        except Exception as error:  # noqa: BLE001 (one odd file does not end an import)
            reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            rejected.append(Reject(sample.id, sample.name, " ".join(reason.split())))


def _groups(rows: Iterator[dict[str, Any]], group_rows: int) -> Iterator[list[dict[str, Any]]]:
    """Part rows into groups of at most so many, and of not much more than `GROUP_BYTES` or `GROUP_PIXELS`."""
    group: list[dict[str, Any]] = []
    size = pixels = 0
    for row in rows:
        group.append(row)
        size += len(row["image"]["bytes"])
        pixels += row["width"] * row["height"]
        if len(group) == group_rows or size >= GROUP_BYTES or pixels >= GROUP_PIXELS:
            yield group
            group, size, pixels = [], 0, 0
    if group:
        yield group


def _row(sample: Sample, judged: bool) -> dict[str, Any]:
    if sample.image.suffix.lower() not in EXTENSIONS:
        raise DataError(f"no image type that is read ({', '.join(sorted(EXTENSIONS))})")
    if sample.mask is None and dolos.kind(sample.mask_kind) == "local":
        raise DataError(sample.fault or "no mask of that name")
    image = _bytes(sample.image)
    image_HW3 = decode_image(image, new=True)
    height, width = image_HW3.shape[:2]
    try:
        mask = None if sample.mask is None else _bytes(sample.mask)
        truth_HW, way = _truth(sample, image, image_HW3, mask)
    except DataError as error:
        raise DataError(f"mask: {error}") from error
    return {
        "id": sample.id,
        "pair": sample.pair,
        "stem": sample.stem,
        "domain": sample.domain,
        "split": sample.split,
        "image": {"bytes": image, "path": text(sample.image.name)},
        "mask": sample.mask and {"bytes": mask, "path": text(sample.mask.name)},
        "mask_kind": sample.mask_kind,
        "width": width,
        "height": height,
        "fake_area": float(np.mean(truth_HW > 127.5)),
        "image_sha256": hashlib.sha256(image).hexdigest(),
        "mask_sha256": None if mask is None else hashlib.sha256(mask).hexdigest(),
        "exif": way,
        "pixels_sha256": pixels_sha256(image_HW3),
        "grey_pixels": int(np.count_nonzero((truth_HW > 0) & (truth_HW < 255))),
        "judged": _judged(sample.original, image_HW3, truth_HW) if judged and sample.original else None,
    }


def pixels_sha256(image_HW3: Pixels) -> str:
    """Return the digest of a decoded image: of its shape and its bytes."""
    return hashlib.sha256(f"{image_HW3.shape}".encode() + image_HW3.tobytes()).hexdigest()


def judge(sample: Sample) -> MaskVerdict | None:
    """Return what a sample's original says of its mask; None where it has none, or cannot be used itself."""
    rejected: list[Reject] = []
    rows = list(_usable(ShardJob(UPath(), [sample], num_judged=1), rejected))
    return rows[0]["judged"] if rows else None


def _judged(original: Path, image_HW3: Pixels, truth_HW: Pixels) -> MaskVerdict:
    try:
        return alignment.judge(image_HW3, decode_image(_bytes(original), new=True), truth_HW)
    except DataError:
        return MaskVerdict(None, None, alignment.UNCOMPARED)


def _truth(sample: Sample, image: bytes, image_HW3: Pixels, mask: bytes | None) -> tuple[Pixels, Way | None]:
    """Return the fakeness of an image, and how its mask lies where its EXIF, or the mask's, turns it."""
    height, width = image_HW3.shape[:2]
    turns = [orientation(data) for data in (image, mask) if data is not None]
    if mask is None or turns == [1, 1]:
        return fakeness(mask, sample.mask_kind, height, width, new=True), None
    found: dict[Way, Pixels | DataError] = {}
    for way, turn in zip(WAYS, (None, turns[0]), strict=True):
        try:
            found[way] = fakeness(mask, sample.mask_kind, height, width, turn, new=True)
        except DataError as error:
            found[way] = error
    way = choose(found, sample.masks_are, _fit(sample.original, image_HW3) if sample.original else None)
    chosen = found[way]
    assert not isinstance(chosen, DataError)
    return chosen, way


def _fit(original: Path, image_HW3: Pixels) -> Callable[[Pixels], float]:
    """Return by how much more of the inside of a mask than of its outside was changed of the original."""

    def fit(fake_HW: Pixels) -> float:
        found = changed(image_HW3, decode_image(_bytes(original), new=True), fake_HW)
        return (found.inside or 0.0) - (found.outside or 0.0)

    return fit


def _bytes(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError("no regular file (a pipe, a socket or a device)")
        if found.st_size > MAX_FILE_BYTES:
            raise DataError(f"a file of more than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
