"""Shards that were written -> their places in the data folder, and its manifest."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from upath import UPath

from dfloc.data import alignment, dolos
from dfloc.data.dolos import Sample
from dfloc.data.leakage import overlap, sentence
from dfloc.data.manifest import (
    DomainInfo,
    DomainSplit,
    Manifest,
    ShardInfo,
    SplitInfo,
    list_digest,
    masks_of_one_kind,
    read_shard,
    shard_digest,
)
from dfloc.data.writer import ShardReceipt
from dfloc.errors import DataError


class SplitPart(NamedTuple):
    """One split of a domain: its samples in rank order, the sizes of their images, and the digest of all its files.

    `before` is the digest as imports made it that did not digest where masks lie.
    """

    samples: list[Sample]
    sizes: list[int]
    origin: str
    before: str

    @property
    def family(self) -> str | None:
        """What a person said that the domain's is; None: nothing."""
        return self.samples[0].family


class Written(NamedTuple):
    """A shard that was written: its path in the data folder, its place, and the receipt."""

    path: str
    place: DomainSplit
    receipt: ShardReceipt


def publish(
    out: UPath, scratch: UPath, old: Manifest, changed: Mapping[DomainSplit, SplitPart], written: Sequence[Written]
) -> Manifest:
    """Move new shards to their places, save the manifest, and delete the shards that it no longer names.

    Args:
        out: the data folder.
        scratch: where the new shards lie, under the paths that they will have.
        old: what the folder holds.
        changed: the splits that are replaced.
        written: their new shards; a split without one leaves the manifest.

    Raises:
        DataError: nothing would be left.
    """
    for shard in written:
        if shard.receipt.groups:
            target = out / shard.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.fs.mv((scratch / shard.path).path, target.path)
    manifest = _merged(out, old, changed, written)
    manifest = manifest.model_copy(update={"notes": _notes(out, manifest)})
    manifest.save(out)
    _remove_orphans(out, manifest, changed)
    return manifest


def _merged(
    out: UPath, old: Manifest, changed: Mapping[DomainSplit, SplitPart], written: Sequence[Written]
) -> Manifest:
    domains = {name: info.model_dump() for name, info in old.domains.items()}
    for place, part in changed.items():
        domain, split = place
        mask_kind, told = part.samples[0].mask_kind, part.samples[0].photograph
        entry = domains.setdefault(domain, {"splits": {}})
        entry |= {"kind": dolos.kind(mask_kind), "mask_kind": mask_kind}
        entry["family"] = part.family or entry.get("family") or dolos.family(domain, {})
        entry["photograph"] = told
        entry["splits"].pop(split, None)
        shards = [shard for shard in written if shard.place == place and shard.receipt.groups]
        if shards:
            entry["splits"][split] = _split_info(out, place, shards, part.origin)
    manifest = Manifest.model_validate({"domains": {name: entry for name, entry in domains.items() if entry["splits"]}})
    if not manifest.domains:
        raise DataError(f"no image could be imported; rejected.csv in {out} says why")
    return manifest


def _remove_orphans(out: UPath, manifest: Manifest, changed: Mapping[DomainSplit, SplitPart]) -> None:
    kept = {shard.path for info in manifest.domains.values() for part in info.splits.values() for shard in part.shards}
    for domain, split in changed:
        for path in (out / domain).glob(f"{split}-*.parquet"):
            if f"{domain}/{path.name}" not in kept:
                path.unlink()


def _split_info(out: UPath, place: DomainSplit, written: Sequence[Written], origin: str) -> SplitInfo:
    samples, shards = [], []
    for shard in written:
        info = ShardInfo(path=shard.path, digest="", groups=tuple(shard.receipt.groups))
        refs = read_shard(out, info, *place)
        shards.append(info.model_copy(update={"digest": shard_digest(refs, info.groups)}))
        samples += refs
    return SplitInfo(
        count=len(samples),
        photographs=len({ref.stem for ref in samples}),
        digest=list_digest(samples),
        shards=tuple(shards),
        fake_area=sum(shard.receipt.fake_area for shard in written) / len(samples),
        grey_pixels=sum(shard.receipt.grey_pixels for shard in written),
        origin=origin,
        originals=alignment.compared([judged for shard in written for judged in shard.receipt.judged]),
        exif=dict(Counter(ref.way for ref in samples if ref.way)),
    )


def _notes(out: UPath, manifest: Manifest) -> tuple[str, ...]:
    notes = [words for name in manifest.local for words in _of_masks(name, manifest.domains[name])]
    notes += masks_of_one_kind(out, manifest, manifest.local)
    notes += [
        f"{name}: where EXIF turns an image, its mask is turned too in some ({info.exif['stored']} as stored), and "
        f"lies as shown in others ({info.exif['shown']})"
        for name, info in sorted(manifest.domains.items())
        if len(info.exif) > 1
    ]
    notes += _of_photographs(manifest)
    found = overlap(out, manifest, sorted(manifest.domains))
    return (*notes, *([sentence(found)] if found else []))


def _of_photographs(manifest: Manifest) -> Iterator[str]:
    """Yield the sources whose domains name their photographs by several rules, which names then do not match."""
    rules: dict[str, dict[str, str]] = {}
    for name, info in sorted(manifest.domains.items()):
        if info.kind != "full":
            source, _, generator = name.partition("/")
            rules.setdefault(source, {}).setdefault(info.photograph or "{stem}", generator)
    for source, found in rules.items():
        if len(found) > 1:
            each = ", ".join(f"{generator} by {rule}" for rule, generator in found.items())
            yield (
                f"{source}: which source image a file shows is told in several ways ({each}): one that two of them "
                "show is not found by its name in two splits; --photograph"
            )


def _of_masks(name: str, info: DomainInfo) -> Iterator[str]:
    """Yield what originals say against a local domain's masks; without any, that their area cannot tell."""
    if info.originals and info.originals.images:
        yield from alignment.words(name, info.mask_kind, info.originals)
    elif info.fake_area > 0.5:
        yield (
            f"{name}: fake pixels are {info.fake_area:.0%} of the masks on average, over half; area cannot tell "
            "whether their polarity is right (MI-GAN's masks are 73% fake, and 27% read the wrong way), but originals "
            "can: --originals DIR, or the real images of a tree"
        )
