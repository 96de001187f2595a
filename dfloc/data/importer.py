"""Sample references -> Parquet shards + manifest (Ray Data)."""

import hashlib
import logging
import os
import pickle
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from upath import UPath

from dfloc import disk, storage
from dfloc.data import dolos, rejects
from dfloc.data.dolos import Sample
from dfloc.data.folders import text
from dfloc.data.leakage import Overlap, in_two_splits, overlaps, sentence, showing
from dfloc.data.manifest import (
    FILE_NAME,
    DomainSplit,
    Manifest,
    SampleRef,
    ShardInfo,
    read_samples,
    read_shard,
)
from dfloc.data.publish import SplitPart, Written, publish
from dfloc.data.rejects import Reject
from dfloc.data.writer import GROUP_ROWS, ShardJob, ShardReceipt, write_shard
from dfloc.errors import DataError, DflocError
from dfloc.owner import Owner
from dfloc.worker_check import WorkerCheck
from dfloc.workers import Workers, first_cause, quiet_data

SHARD_ROWS = 4096
SHARD_BYTES = 256 << 20
RETRIES = 3
MAX_JUDGED = 500
"""Images of a split whose originals are looked at, the first in the stems rank."""

logger = logging.getLogger(__name__)

SCRATCH, OWNER = ".import", "owner.json"
"""The folder in which an import writes, and who does: whether one that is found there is still at work."""
_REMOVE_TRIES = 25

BySplit = Mapping[DomainSplit, SplitPart]


class ImportSummary(NamedTuple):
    """What an import did: the manifest as it is now, images written, images left alone, and what was rejected."""

    manifest: Manifest
    written: int
    unchanged: int
    rejected: list[Reject]


def import_samples(
    samples: Sequence[Sample],
    out: UPath,
    *,
    allow_rejects: bool = False,
    allow_overlap: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    group_rows: int = GROUP_ROWS,
    shard_rows: int = SHARD_ROWS,
) -> ImportSummary:
    """Write samples into a data folder, beside what it holds; shards and manifest change only when all is well.

    `rejected.csv` names what the last import of each split could not use, and does so even where it was refused.
    A split whose files have the names, sizes and times of its last import is left alone, without Ray and without a
    look into them. A new time alone is harmless: the same bytes are written again.

    Args:
        samples: of any domains, in any order.
        out: the data folder; made if it is missing.
        allow_rejects: go on where more than 1 % of the images cannot be used.
        allow_overlap: go on where a photograph lies in two splits.
        on_progress: called with the images done and to do.
        group_rows: most rows of a row group.
        shard_rows: most rows of a shard.

    Raises:
        DataError: too many rejects (`rejected.csv` names them), photographs in two splits, masks of both polarities
            in one domain, nothing that can be used, or a folder that cannot be written.
    """
    old = Manifest.load(out) if (out / FILE_NAME).exists() else Manifest(domains={})
    parts = _split_parts(samples, f"{group_rows},{shard_rows}")
    changed = {place: part for place, part in parts.items() if not _is_unchanged(out, old, place, part)}
    if not changed:
        return ImportSummary(old, 0, _count(parts), rejects.read(out))
    _check_polarity(old, parts)
    held = [] if allow_overlap else _held(out, old, changed)
    if not allow_overlap:
        _check_names(changed, held)
    with _scratch(out) as scratch:
        written = _write(scratch, changed, group_rows, shard_rows, on_progress)
        rejected = _rejected(out, changed, written, allow_rejects)
        if not allow_overlap:
            _check_pixels(scratch, written, held)
        manifest = publish(out, scratch, old, changed, written)
    return ImportSummary(manifest, sum(s.receipt.num_rows for s in written), _count(parts) - _count(changed), rejected)


def is_imported(samples: Sequence[Sample], out: UPath, group_rows: int = GROUP_ROWS) -> bool:
    """Return whether a data folder holds these samples, by the names, sizes and times of their files.

    Args:
        samples: what would be imported.
        out: the data folder.
        group_rows: with which it would be.
    """
    if not (out / FILE_NAME).exists():
        return not samples
    old = Manifest.load(out)
    layout = f"{group_rows},{SHARD_ROWS}"
    return all(_is_unchanged(out, old, place, part) for place, part in _split_parts(samples, layout).items())


def _count(parts: BySplit) -> int:
    return sum(len(part.samples) for part in parts.values())


@contextmanager
def _scratch(out: UPath) -> Iterator[UPath]:
    """Give a folder inside the data folder, and delete it in the end, with what an earlier import left in it."""
    folder, new = out.absolute() / SCRATCH, not out.exists()
    try:
        storage.put_json(folder / OWNER, Owner.me().model_dump(mode="json"))
        yield folder
    except OSError as error:
        raise DataError(f"cannot write the data folder {out}: {error.strerror or error}") from error
    finally:
        _remove(folder)
        if new and out.exists() and not any(out.iterdir()):
            out.rmdir()


def _remove(folder: UPath) -> None:
    """Delete a folder; tasks that an interruption left in flight may still write into it, so try for some seconds."""
    for _ in range(_REMOVE_TRIES):
        try:
            if folder.exists():
                folder.fs.rm(folder.path, recursive=True)
        except OSError as error:
            logger.info("%s is still written to: %s", folder, error)
            time.sleep(0.2)
        else:
            return


def _rejected(out: UPath, changed: BySplit, written: Sequence[Written], allow: bool) -> list[Reject]:
    """Name what was rejected, beside the rejects of the splits that stay, and refuse too many new ones."""
    new = [reject for shard in written for reject in shard.receipt.rejected]
    all_rejects = sorted([*new, *(reject for reject in rejects.read(out) if reject.place not in changed)])
    rejects.save(out, all_rejects)
    if not allow:
        rejects.check(out, new, _count(changed))
    return all_rejects


def _split_parts(samples: Sequence[Sample], layout: str) -> BySplit:
    """Part samples by domain and split, and digest the names, sizes and times of their files, and where masks lie."""
    parts: dict[DomainSplit, SplitPart] = {}
    images = {sample.image.absolute() for sample in samples}
    for place, group in groupby(dolos.in_order(samples), key=lambda sample: (sample.domain, sample.split)):
        members = [_absolute(sample) for sample in group]
        lines, places, sizes = [layout], [], []
        for sample in members:
            size, time = _stat(sample.image)
            mask = None if sample.mask is None else (sample.mask.name, *_stat(sample.mask))
            asked = f"\x1f{sample.masks_are}" if sample.masks_are else ""
            if sample.original and sample.original not in images:
                asked += f"\x1foriginal {_stat(sample.original)}"
            by_id = sample.mask_kind != "real" or sample.stem == dolos.photograph(sample.pair)
            if sample.photograph or not by_id:
                asked += f"\x1f{sample.stem}"
            lines.append(f"{sample.id}\x1f{sample.mask_kind}\x1f{size}\x1f{time}\x1f{mask}{asked}")
            if sample.mask is not None:
                places.append(text(os.path.relpath(sample.mask, sample.image.parent)))
            sizes.append(size)
        before, origin = _digest(lines), _digest([*lines, *places])
        parts[place] = SplitPart(members, sizes, origin, before)
    return parts


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _absolute(sample: Sample) -> Sample:
    """Return the sample with paths that hold in a worker's folder too."""
    return sample._replace(
        image=sample.image.absolute(),
        mask=sample.mask and sample.mask.absolute(),
        original=sample.original and sample.original.absolute(),
    )


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _is_unchanged(out: UPath, old: Manifest, place: DomainSplit, part: SplitPart) -> bool:
    domain, split = place
    info = old.domains[domain].splits.get(split) if domain in old.domains else None
    if info is None or info.origin not in (part.origin, part.before):
        return False
    if part.family not in (None, old.domains[domain].family):
        return False
    return all((out / s.path).exists() for s in info.shards)


def _check_polarity(old: Manifest, parts: BySplit) -> None:
    for (domain, _), part in parts.items():
        known = old.domains.get(domain)
        staying = sorted(set(known.splits) - {split for name, split in parts if name == domain}) if known else []
        if known and staying and known.mask_kind != part.samples[0].mask_kind:
            raise DataError(
                f"{domain} comes with masks {part.samples[0].mask_kind}, but its split {staying[0]}, which stays, has "
                f"{known.mask_kind}; import all its splits together, or into another folder"
            )
        if known and staying and known.photograph != part.samples[0].photograph:
            raise DataError(
                f"{domain} comes with source images told by {part.samples[0].photograph}, but its split {staying[0]}, "
                f"which stays, has {known.photograph}; import all its splits together, or into another folder"
            )


def _held(out: UPath, old: Manifest, changed: BySplit) -> list[SampleRef]:
    """Return the samples that stay in the data folder."""
    return [
        ref
        for domain, info in old.domains.items()
        for split in info.splits
        if (domain, split) not in changed
        for ref in read_samples(out, old, domain, split)
    ]


def _check_names(changed: BySplit, held: Sequence[SampleRef]) -> None:
    """Refuse photographs that names show in two splits, before anything is written."""
    fresh = [sample for part in changed.values() for sample in part.samples]
    shown = list(showing([*fresh, *held]))
    stems = {one.stem for one in shown if isinstance(one, Sample)}
    _refuse([case for case in in_two_splits((one.stem, one.split) for one in shown) if case.stem in stems])


def _check_pixels(scratch: UPath, written: Sequence[Written], held: Sequence[SampleRef]) -> None:
    """Refuse new images that equal one of another split, before they come to their place."""
    fresh = [
        ref
        for path, place, receipt in written
        if receipt.groups
        for ref in read_shard(scratch, ShardInfo(path=path, digest="", groups=tuple(receipt.groups)), *place)
    ]
    pixels = {ref.pixels_sha256 for ref in fresh}
    found = overlaps([*fresh, *(ref for ref in held if ref.pixels_sha256 in pixels)])
    _refuse([case for case in found if case.by_pixels])


def _refuse(found: Sequence[Overlap]) -> None:
    if found:
        raise DataError(f"{sentence(found)}; move them, or go on with --allow-overlap")


def _write(
    scratch: UPath, changed: BySplit, group_rows: int, shard_rows: int, on_progress: Callable[[int, int], None] | None
) -> list[Written]:
    """Write all shards into the scratch folder, one task each."""
    jobs: list[tuple[str, DomainSplit, ShardJob]] = []
    for (domain, split), part in changed.items():
        left = MAX_JUDGED
        for number, members in enumerate(_chunks(part, shard_rows)):
            path = f"{domain}/{split}-{number:05}.parquet"
            jobs.append((path, (domain, split), ShardJob(scratch / path, members, group_rows, left)))
            left = max(0, left - len(members))
    if storage.is_local(scratch):
        disk.refuse(Path(scratch.path), sum(sum(part.sizes) for part in changed.values()), "the images and masks")
    total = sum(len(job.samples) for _, _, job in jobs)
    receipts: dict[int, ShardReceipt] = {}
    with closing(_run([job for _, _, job in jobs])) as finished:
        for index, receipt in finished:
            receipts[index] = receipt
            if on_progress:
                on_progress(sum(len(jobs[done][2].samples) for done in receipts), total)
    return [Written(path, place, receipts[index]) for index, (path, place, _) in enumerate(jobs)]


def _chunks(part: SplitPart, shard_rows: int) -> Iterator[list[Sample]]:
    """Part samples into shards of at most so many, and of not much more than `SHARD_BYTES`."""
    chunk: list[Sample] = []
    size = 0
    for sample, sample_size in zip(part.samples, part.sizes, strict=True):
        chunk.append(sample)
        size += sample_size
        if len(chunk) == shard_rows or size >= SHARD_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _run(jobs: Sequence[ShardJob]) -> Generator[tuple[int, ShardReceipt]]:
    """Write shards through Ray Data, in any order; yield a job's index and its receipt when it is done.

    Raises:
        OSError: a shard cannot be written.
        DataError: a worker died.
        WorkspaceError: a worker runs another dfloc.
    """
    with Workers():
        import ray.data

        proof = WorkerCheck.begin()
        proof.check_nodes()
        items = [{"index": index, "job": pickle.dumps(job)} for index, job in enumerate(jobs)]
        with quiet_data():
            made = ray.data.from_items(items, override_num_blocks=len(items))
            done = made.map(_task, fn_kwargs={"proof": proof}, max_retries=RETRIES)
        try:
            for row in done.iter_rows():
                if row["error"]:
                    raise pickle.loads(row["error"])
                yield row["index"], pickle.loads(row["receipt"])
        except ray.exceptions.RayError as error:
            cause = first_cause(error)
            raise DataError(f"nothing was imported: {cause}; when that is mended, start again") from error


def _task(item: dict[str, Any], proof: WorkerCheck) -> dict[str, Any]:
    """Write a shard; an error travels pickled, because Ray would write its own words into it."""
    error: Exception | None = None
    receipt = ShardReceipt([], 0.0, 0, [])
    try:
        proof.check()
        receipt = write_shard(pickle.loads(item["job"]))
    except OSError as failure:
        error = OSError(0, failure.strerror or str(failure))
    except DflocError as failure:
        error = failure
    return {"index": item["index"], "receipt": pickle.dumps(receipt), "error": pickle.dumps(error) if error else b""}
