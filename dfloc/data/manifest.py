"""What shards hold: domains, splits, counts, digests, mask kinds."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow.parquet as pq
from pydantic import ValidationError
from upath import UPath

from dfloc import storage
from dfloc.config import Fraction, Frozen, fingerprint
from dfloc.errors import DataError, WorkspaceError, unknown

Split = Literal["train", "valid", "test"]
Kind = Literal["local", "full", "real"]
Place = tuple[str, Split]
MaskKind = Literal["fake_is_black", "fake_is_white", "real", "generated"]

FILE_NAME = "manifest.json"
OVERLAP_NOTE = "photographs that lie in two splits"
"""How a note begins that the import was told to allow."""
KEY_COLUMNS = ("id", "pair", "stem", "image_sha256", "mask_sha256", "mask_kind")


class SampleRef(NamedTuple):
    """One sample of the shards: its names, its digests (mask: empty where it has none), and where its row lies."""

    id: str
    pair: str
    stem: str
    domain: str
    split: str
    image_sha256: str
    mask_sha256: str
    mask_kind: MaskKind
    shard: str
    shard_digest: str
    group: int
    row: int


class Overlap(NamedTuple):
    """A photograph that lies in more than one split."""

    stem: str
    splits: tuple[str, ...]


def list_digest(samples: Iterable[SampleRef]) -> str:
    """Return the digest of a list of samples; their order does not matter.

    It is the sha256 over the sorted lines `id, image sha256, mask sha256, mask kind`, the fields parted by U+001F and
    each line ended by a newline.
    """
    return lines_digest(list_lines(samples))


def list_lines(samples: Iterable[SampleRef]) -> list[tuple[str, ...]]:
    """Return what the digest of a list is over: a line for each sample, sorted; its id stands first."""
    return sorted((s.id, s.image_sha256, s.mask_sha256, s.mask_kind) for s in samples)


def lines_digest(lines: Iterable[tuple[str, ...]]) -> str:
    """Return the digest of the list that has these lines."""
    text = "".join("\x1f".join(line) + "\n" for line in sorted(lines))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def shard_digest(samples: Iterable[SampleRef], groups: Sequence[int]) -> str:
    """Return the digest of a shard: its samples and how they are parted into row groups."""
    text = f"{list_digest(samples)}\x1f{','.join(map(str, groups))}"
    return hashlib.sha256(text.encode()).hexdigest()


class ShardInfo(Frozen):
    """One Parquet file.

    Attributes:
        path: relative to the data folder.
        digest: of its samples and row groups.
        groups: rows of each row group.
    """

    path: str
    digest: str
    groups: tuple[int, ...]


class SplitInfo(Frozen):
    """One split of a domain.

    Attributes:
        count: images.
        photographs: distinct stems.
        digest: of the list of its samples.
        shards: its files, in rank order.
        fake_area: mean fraction of fake pixels.
        grey_pixels: mask pixels that are neither black nor white, in all masks.
        origin: digest of the names, sizes and times of the files that it was made from; empty where unknown.
    """

    count: int
    photographs: int
    digest: str
    shards: tuple[ShardInfo, ...]
    fake_area: Fraction
    grey_pixels: int
    origin: str = ""


class DomainInfo(Frozen):
    """One domain: `<source>/<generator>` or `<source>/real`."""

    kind: Kind
    family: str
    mask_kind: MaskKind
    splits: dict[Split, SplitInfo]

    @property
    def fake_area(self) -> float:
        """Mean fraction of fake pixels over all its images."""
        total = sum(split.count for split in self.splits.values())
        return sum(split.fake_area * split.count for split in self.splits.values()) / total if total else 0.0


class Manifest(Frozen):
    """What one data folder holds; `manifest.json`.

    Attributes:
        domains: by full name.
        notes: sentences that check and report must show (polarity, photographs in two splits).
    """

    version: Literal[1] = 1
    domains: dict[str, DomainInfo]
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: UPath) -> "Manifest":
        """Read the manifest of a data folder.

        Raises:
            DataError: the folder has none, or it is damaged.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise DataError(f"no imported data in {folder}; make them: dfloc data import SRC --out {folder}")
        try:
            return cls.model_validate(storage.get_json(path))
        except (ValidationError, WorkspaceError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "no JSON"
            raise DataError(f"{path} is damaged ({reason}); delete it and import again") from error

    def save(self, folder: UPath) -> None:
        """Write the manifest, whole."""
        storage.put_json(folder / FILE_NAME, self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """Digest of what is held: each domain's kind and the list digest of each split."""
        held: dict[str, Any] = {
            name: [info.kind, info.family, {split: part.digest for split, part in info.splits.items()}]
            for name, info in self.domains.items()
        }
        return fingerprint(held)

    @property
    def local(self) -> tuple[str, ...]:
        """Names of the local domains, sorted."""
        return tuple(sorted(name for name, info in self.domains.items() if info.kind == "local"))

    def split(self, domain: str, split: str) -> SplitInfo:
        """Return what is held of a domain's split.

        Raises:
            ConfigError: there is no such domain.
            DataError: the domain has no such split.
        """
        if domain not in self.domains:
            raise unknown("domain", domain, self.domains)
        splits = self.domains[domain].splits
        for name, info in splits.items():
            if name == split:
                return info
        raise DataError(f"{domain} has no split {split}; it has {', '.join(sorted(splits))}")


def read_samples(folder: UPath, manifest: Manifest, domain: str, split: str) -> list[SampleRef]:
    """Return the samples of a domain's split in rank order, from the key columns alone.

    Raises:
        DataError: a shard is missing or damaged, or holds other samples than the manifest says.
    """
    info = manifest.split(domain, split)
    samples = [sample for shard in info.shards for sample in read_shard(folder, shard, domain, split)]
    if list_digest(samples) != info.digest:
        raise DataError(f"the shards of {domain}/{split} in {folder} are not those of its manifest; import again")
    return samples


def read_shard(folder: UPath, shard: ShardInfo, domain: str, split: str) -> list[SampleRef]:
    """Return the samples of one shard in its order, from the key columns alone.

    Raises:
        DataError: it is missing or damaged, or has another number of rows than it should.
    """
    places = [(group, row) for group, rows in enumerate(shard.groups) for row in range(rows)]
    columns = _columns(folder, shard, KEY_COLUMNS)
    return [
        SampleRef(name, pair, stem, domain, split, image, mask or "", kind, shard.path, shard.digest, group, row)
        for name, pair, stem, image, mask, kind, (group, row) in zip(*columns, places, strict=True)
    ]


def read_areas(folder: UPath, split: SplitInfo) -> list[float]:
    """Return the fraction of fake pixels of each sample of a split, in rank order.

    Raises:
        DataError: a shard is missing or damaged.
    """
    return [area for shard in split.shards for area in _columns(folder, shard, ("fake_area",))[0]]


def _columns(folder: UPath, shard: ShardInfo, names: Sequence[str]) -> list[list[Any]]:
    path = folder / shard.path
    try:
        how = {"filesystem": path.fs, "partitioning": None, "page_checksum_verification": True}
        table = pq.read_table(path.path, columns=list(names), **how)
        columns = [table[name].to_pylist() for name in names]
    except Exception as error:
        raise DataError(f"cannot read shard {path} ({error}); import again") from error
    if table.num_rows != sum(shard.groups):
        raise DataError(f"{path} has {table.num_rows} rows, not the manifest's {sum(shard.groups)}; import again")
    return columns


def overlap(folder: UPath, manifest: Manifest, domains: Iterable[str]) -> list[Overlap]:
    """Return the photographs that lie in two splits of these domains, sorted.

    Wholly generated images show no photograph and are left out.
    """
    samples = (
        sample for name in domains for split in manifest.domains[name].splits
        for sample in read_samples(folder, manifest, name, split)
    )  # fmt: skip
    return in_two_splits((sample.stem, sample.split) for sample in samples if sample.mask_kind != "generated")


def in_two_splits(places: Iterable[tuple[str, str]]) -> list[Overlap]:
    """Return the stems that come with more than one split, sorted."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for stem, split in places:
        splits[stem].add(split)
    return [Overlap(stem, tuple(sorted(found))) for stem, found in sorted(splits.items()) if len(found) > 1]
