"""Shards against their manifest, lists against their names, and what is known of backbones' weights."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial

import numpy as np
from upath import UPath

from dfloc import registry, storage
from dfloc.data import lists
from dfloc.data.manifest import (
    FILE_NAME,
    Manifest,
    ShardInfo,
    SplitInfo,
    list_digest,
    read_areas,
    read_shard,
    shard_digest,
)
from dfloc.data.shards import ShardReader, decode_image, read_truth
from dfloc.doctor.finding import Check, Finding
from dfloc.errors import DataError, DflocError, WorkspaceError
from dfloc.features.weights import Origin
from dfloc.storage import Workspace

ORIGIN = "origin.json"
"""Beside shards that a sweep imported by itself, and can import again."""


def checks(workspace: Workspace, more: Sequence[UPath], data: set[str]) -> Iterator[Check]:
    """Yield the checks of all shards, lists and weights.

    Args:
        workspace: whose.
        more: folders of shards outside of it.
        data: names of the data that its sweeps were planned on.
    """
    folders = [*(path.parent for path in sorted(workspace.shards.glob(f"*/{FILE_NAME}"), key=str)), *more]
    for folder in folders:
        yield from _data(folder)
    held = cache(partial(_held, folders))
    whole = data <= {folder.name for folder in folders}
    for path in sorted(workspace.lists.glob("*.json"), key=str):
        yield Check("list", path, partial(_list, workspace, path, held, whole))
    for path in sorted(workspace.weights.glob("*.json"), key=str):
        yield Check("weights", path, partial(_origin, path))


def _data(folder: UPath) -> Iterator[Check]:
    try:
        manifest = Manifest.load(folder)
        manifest.local  # noqa: B018
    except DataError as error:
        yield Check("shard", folder, partial(iter, [_lost(folder, folder / FILE_NAME, _reason(error))]))
        return
    for domain, info in manifest.domains.items():
        for split, part in info.splits.items():
            yield Check("shard", folder / domain, partial(_split, folder, part, domain, split))
            for shard in part.shards:
                yield Check("shard", folder / shard.path, partial(_shard, folder, shard, domain, split))


def _split(folder: UPath, part: SplitInfo, domain: str, split: str) -> Iterator[Finding]:
    """Ask whether the manifest tells the truth of its shards; one that is damaged is found by itself."""
    try:
        samples = [one for shard in part.shards for one in read_shard(folder, shard, domain, split)]
        areas = read_areas(folder, part)
    except DataError:
        return
    told = (part.count, part.photographs, part.digest)
    found = (len(samples), len({sample.stem for sample in samples}), list_digest(samples))
    if told != found or not np.isclose(part.fake_area, np.mean(areas), rtol=1e-9):
        yield _lost(folder, folder / FILE_NAME, f"says other things of {domain}/{split} than its shards hold")


def _shard(folder: UPath, shard: ShardInfo, domain: str, split: str) -> Iterator[Finding]:
    path, reader = folder / shard.path, ShardReader(folder, cache_bytes=0)
    if not path.exists():
        yield _lost(folder, path, "is gone")
        return
    try:
        samples = read_shard(folder, shard, domain, split)
        if shard_digest(samples, shard.groups) != shard.digest:
            raise DataError("holds other samples than its manifest says")
        areas = iter(read_areas(folder, SplitInfo(count=len(samples), photographs=0, digest="", shards=(shard,),
                                                  fake_area=0, grey_pixels=0)))
        for group in range(len(shard.groups)):
            mine = [sample for sample in samples if sample.group == group]
            rows = reader.group(shard.path, group)
            for sample, row, truth_HW in zip(mine, rows, read_truth(folder, mine, reader), strict=True):
                _same(sample.id, row["image"]["bytes"], sample.image_sha256)
                _same(sample.id, row["mask"]["bytes"] if row["mask"] else None, sample.mask_sha256)
                if decode_image(row["image"]["bytes"]).shape[:2] != truth_HW.shape:
                    raise DataError(f"the size of {sample.id} is not that of its image")
                if float(np.mean(truth_HW > 127.5)) != next(areas):
                    raise DataError(f"the fake area of {sample.id} is not that of its mask")
    except DflocError as error:
        yield _lost(folder, path, _reason(error))
