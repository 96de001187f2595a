"""Shards against their manifest, lists against their names, and what is known of backbones' weights."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
from upath import UPath

from dfloc import registry, storage
from dfloc.data import sample_lists
from dfloc.data.manifest import (
    FILE_NAME,
    Manifest,
    SampleRef,
    ShardInfo,
    SplitInfo,
    list_digest,
    read_areas,
    read_shard,
    shard_digest,
)
from dfloc.data.shards import ShardReader, decode_image, read_truth
from dfloc.doctor.finding import Check, Finding, reason
from dfloc.errors import DataError, DflocError, WorkspaceError
from dfloc.features.weights import Origin
from dfloc.storage import ASIDE, Workspace
from dfloc.sweep.sweep_data import ORIGIN

_LIST, _WORD = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{16}")

AREA_TOLERANCE = 1e-3
"""Another version of a JPEG decoder may take a pixel at a mask's edge for the other side."""

IMPORTED = "imported again by the next sweep with the same --data and --own; maps and trials stay"
PLANNED = "made again by the next start of the sweep that planned it"


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
    held_aside = (path.parent for path in workspace.shards.glob(f"*/{FILE_NAME}{ASIDE}*"))
    for folder in sorted({*held_aside, *(path.parent for path in workspace.shards.glob(f"*/{ORIGIN}"))}, key=str):
        if not (folder / FILE_NAME).exists():
            yield Check("shard", folder, partial(iter, [_gone(folder)]))
    held = cache(partial(_held, folders))
    whole = data <= {folder.name for folder in folders}
    for path in sorted(filter(_is_list, workspace.lists.glob("*.json")), key=str):
        yield Check("list", path, partial(_list, workspace, path, held, whole))
    for beside, read in (("pixels", sample_lists.pixels), ("stems", sample_lists.stems)):
        for path in sorted(filter(_is_list, workspace.lists.glob(f"*.{beside}")), key=str):
            yield Check("list", path, partial(_companion, workspace, path, read))
    for path in sorted((each for each in workspace.weights.glob("*.json") if _WORD.fullmatch(each.stem)), key=str):
        yield Check("weights", path, partial(_origin, path))


def _is_list(path: UPath) -> bool:
    return _LIST.fullmatch(path.stem) is not None


def _data(folder: UPath) -> Iterator[Check]:
    try:
        manifest = Manifest.load(folder)
    except DataError as error:
        damaged = folder / FILE_NAME
        yield Check("shard", damaged, partial(iter, [_lost(folder, damaged, reason(error, damaged))]))
        return
    if (folder / ORIGIN).exists():
        yield Check("record", folder / ORIGIN, partial(_json, folder))
    yield Check("record", folder / FILE_NAME, partial(_seal, folder / FILE_NAME))
    for domain, info in manifest.domains.items():
        for split, part in info.splits.items():
            yield Check("shard", folder / domain, partial(_split, folder, part, domain, split))
            for shard in part.shards:
                yield Check("shard", folder / shard.path, partial(_shard, folder, shard, domain, split))


def _seal(path: UPath) -> Iterator[Finding]:
    if not storage.is_sealed(path):
        yield Finding("record", path, "has no digest of its own", state="unverifiable")


def _json(folder: UPath) -> Iterator[Finding]:
    try:
        tree = storage.get_json(folder / ORIGIN)["tree"]
        wrong = "" if isinstance(tree, str) else "names no tree"
    except (WorkspaceError, KeyError, TypeError) as error:
        wrong = f"is damaged ({error})"
    if wrong:
        yield _lost(folder, folder / ORIGIN, wrong)


def _split(folder: UPath, part: SplitInfo, domain: str, split: str) -> Iterator[Finding]:
    """Ask whether the manifest tells the truth of its shards; one that is damaged is found by itself."""
    try:
        samples = [one for shard in part.shards for one in read_shard(folder, shard, domain, split)]
        areas = read_areas(folder, part)
    except DataError:
        return
    recorded = (part.count, part.photographs, part.digest)
    found = (len(samples), len({sample.stem for sample in samples}), list_digest(samples))
    if recorded != found or not np.isclose(part.fake_area, np.mean(areas), rtol=1e-9):
        yield _lost(folder, folder / FILE_NAME, f"says other things of {domain}/{split} than its shards hold")


def _shard(folder: UPath, shard: ShardInfo, domain: str, split: str) -> Iterator[Finding]:
    path = folder / shard.path
    try:
        if not path.exists():
            raise DataError("is gone")
        samples = read_shard(folder, shard, domain, split)
        if shard_digest(samples, shard.groups) != shard.digest:
            raise DataError("holds other samples than its manifest says")
        for group in range(len(shard.groups)):
            _group(folder, shard.path, [sample for sample in samples if sample.group == group])
    except DflocError as error:
        yield _lost(folder, path, reason(error, path))


def _group(folder: UPath, shard: str, samples: Sequence[SampleRef]) -> None:
    """Read a row group, which compares the files in it with their digests; compare what was noted of each with it.

    Raises:
        DataError: something differs.
    """
    reader = ShardReader(folder)
    rows = reader.group(shard, samples[0].group)
    for sample, row, truth_HW in zip(samples, rows, read_truth(folder, samples, reader), strict=True):
        if decode_image(row["image"]["bytes"]).shape[:2] != truth_HW.shape:
            raise DataError(f"says another size of {sample.id} than its image has")
        if abs(np.mean(truth_HW > 127.5) - row["fake_area"]) > AREA_TOLERANCE:
            raise DataError(f"says another fake area of {sample.id} than its mask has")


def _lost(folder: UPath, path: UPath, wrong: str) -> Finding:
    """Say what becomes of data: those beside which `ORIGIN` lies a sweep imports again, a user's only the user."""
    there = (path,) if path.exists() or path.is_symlink() else ()
    if _is_imported(folder):  # a new import tells photographs by the rules of the manifest that is set aside
        records = (folder / FILE_NAME, *([path] if path.name == ORIGIN else []))
        removed = () if path in records else there
        return Finding("shard", path, wrong, IMPORTED, removed, tuple(each for each in records if each.exists()))
    after = f"import again what {folder} was made from: dfloc data import SRC --out {folder}; maps and trials stay"
    return Finding("shard", path, wrong, after, aside=there, lost=True)


def _is_imported(folder: UPath) -> bool:
    return any(folder.glob(f"{ORIGIN}*"))


def _gone(folder: UPath) -> Finding:
    if not _is_imported(folder):
        return _lost(folder, folder / FILE_NAME, "is gone")
    return Finding("shard", folder, "is not imported at present", IMPORTED, state="awaited")


def _held(folders: Sequence[UPath]) -> list[dict[str, SampleRef]]:
    """Return the samples of each folder, by id; of what is damaged, none."""
    found = []
    for folder in folders:
        samples: dict[str, SampleRef] = {}
        try:
            for domain, info in Manifest.load(folder).domains.items():
                for split, part in info.splits.items():
                    refs = (ref for shard in part.shards for ref in read_shard(folder, shard, domain, split))
                    samples.update((ref.id, ref) for ref in refs)
        except DataError:
            samples = {}
        found.append(samples)
    return found


def _list(
    workspace: Workspace, path: UPath, held: Callable[[], list[dict[str, SampleRef]]], whole: bool
) -> Iterator[Finding]:
    if storage.dangles(path):
        yield Finding("list", path, "is a link to nothing", PLANNED, (path,))
        return
    try:
        ids = sample_lists.ids(workspace, path.stem) or ()
    except WorkspaceError as error:
        if str(path) not in str(error):  # what stands beside it is damaged
            return
        yield Finding("list", path, reason(error, path), PLANNED, (path,))
        return
    lines = storage.get_json(path)
    if lines and not isinstance(lines[0], str):  # it holds what its digest is over
        return
    joined = [[samples[name] for name in ids] for samples in held() if samples.keys() >= {*ids}]
    if any(list_digest(refs) == path.stem for refs in joined):
        return
    if not ids or (joined and whole):
        yield Finding("list", path, "is not the list that it is named by", PLANNED, (path,))
        return
    yield Finding("list", path, "has ids alone, and no shards here have them all", state="unverifiable")


def _companion(workspace: Workspace, path: UPath, read: Callable[[Workspace, str], object]) -> Iterator[Finding]:
    if storage.dangles(path):
        yield Finding("list", path, "is a link to nothing", PLANNED, (path,))
    if not path.with_suffix(".json").exists():  # nothing reads what stands beside a list that is gone
        return
    try:
        read(workspace, path.stem)
    except WorkspaceError as error:
        if str(path) in str(error):  # else the list itself is damaged
            yield Finding("list", path, reason(error, path), PLANNED, (path,))


def _origin(path: UPath) -> Iterator[Finding]:
    if storage.dangles(path):
        yield Finding("weights", path, "is a link to nothing", "the next sweep looks into the weights again", (path,))
        return
    try:
        origin = storage.get_model(Origin, path)
    except WorkspaceError as error:
        yield Finding("weights", path, reason(error, path), "the next sweep looks into the weights again", (path,))
        return
    kept = path.with_name(f"{origin.digest}.safetensors")
    if not kept.exists():
        return
    try:
        made = registry.find("backbone", origin.backbone, origin.plugin)(origin.backbone, str(kept), "cpu")
        if made.digest == origin.digest:
            return
        wrong = "holds other weights than its name says"
    except DflocError as error:
        wrong = f"cannot be loaded ({error})"
    yield Finding("weights", kept, wrong, "import the checkpoint that brought it again", (kept,), lost=True)
