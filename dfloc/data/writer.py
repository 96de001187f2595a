"""One shard's worth of samples -> a Parquet file and a receipt; what cannot be used is named."""

import hashlib
import io
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from dfloc import storage
from dfloc.data import dolos
from dfloc.data.dolos import EXTENSIONS, Sample
from dfloc.data.rejects import Reject
from dfloc.data.shards import decode_image, fakeness
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
    ]
)


class ShardJob(NamedTuple):
    """Samples of one domain and split, in rank order, and the file that they go to."""

    path: UPath
    samples: Sequence[Sample]
    group_rows: int = GROUP_ROWS


class Receipt(NamedTuple):
    """What a shard holds: rows of each group, sum of the fake areas, grey mask pixels; and what it does not hold."""

    groups: list[int]
    fake_area: float
    grey_pixels: int
    rejected: list[Reject]

    @property
    def num_rows(self) -> int:
        """Samples that were written."""
        return sum(self.groups)


def write_shard(job: ShardJob) -> Receipt:
    """Read, check and write the samples of one shard; the file is whole or not there (nor is it where it is empty).

    Raises:
        OSError: the shard cannot be written.
    """
    receipt = Receipt([], 0.0, 0, [])
    buffer = io.BytesIO()
    how = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    with pq.ParquetWriter(buffer, SCHEMA, **how) as writer:
        for rows in _groups(_usable(job.samples, receipt.rejected), job.group_rows):
            grey_pixels = sum(row.pop("grey_pixels") for row in rows)
            fake_area = sum(row["fake_area"] for row in rows)
            receipt = Receipt(
                [*receipt.groups, len(rows)],
                receipt.fake_area + fake_area,
                receipt.grey_pixels + grey_pixels,
                receipt.rejected,
            )
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA), row_group_size=len(rows))
    if receipt.groups:
        storage.put(job.path, buffer.getvalue())
    return receipt


def _usable(samples: Sequence[Sample], rejected: list[Reject]) -> Iterator[dict[str, Any]]:
    for sample in samples:
        try:
            yield _row(sample)
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


def _row(sample: Sample) -> dict[str, Any]:
    if sample.image.suffix.lower() not in EXTENSIONS:
        raise DataError(f"no image type that is read ({', '.join(sorted(EXTENSIONS))})")
    if sample.mask is None and dolos.kind(sample.mask_kind) == "local":
        raise DataError("no mask of that name")
    image = _bytes(sample.image)
    height, width = decode_image(image).shape[:2]
    try:
        mask = None if sample.mask is None else _bytes(sample.mask)
        truth_HW = fakeness(mask, sample.mask_kind, height, width)
    except DataError as error:
        raise DataError(f"mask: {error}") from error
    return {
        "id": sample.id,
        "pair": sample.pair,
        "stem": sample.stem,
        "domain": sample.domain,
        "split": sample.split,
        "image": {"bytes": image, "path": dolos.text(sample.image.name)},
        "mask": sample.mask and {"bytes": mask, "path": dolos.text(sample.mask.name)},
        "mask_kind": sample.mask_kind,
        "width": width,
        "height": height,
        "fake_area": float(np.mean(truth_HW > 127.5)),
        "image_sha256": hashlib.sha256(image).hexdigest(),
        "mask_sha256": None if mask is None else hashlib.sha256(mask).hexdigest(),
        "grey_pixels": int(np.count_nonzero((truth_HW > 0) & (truth_HW < 255))),
    }


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
