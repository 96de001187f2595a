"""What shards hold: domains, splits, counts, digests, mask kinds."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow.parquet as pq
from pydantic import Field
from upath import UPath

from dfloc import storage
from dfloc.data import alignment
from dfloc.data.alignment import MaskComparison
from dfloc.data.exif import Way
from dfloc.data.masks import KIND
from dfloc.errors import DataError, WorkspaceError, unknown
from dfloc.frozen import Fraction, Frozen, fingerprint

Split = Literal["train", "valid", "test"]
DomainKind = Literal["local", "full", "real"]
DomainSplit = tuple[str, Split]
MaskKind = Annotated[str, Field(pattern=f"^({KIND.pattern})$")]

logger = logging.getLogger(__name__)

FILE_NAME = "manifest.json"
KEY_COLUMNS = ("id", "pair", "stem", "image_sha256", "mask_sha256", "mask_kind", "exif", "pixels_sha256")
OPTIONAL_COLUMNS = (
    "exif",
    "pixels_sha256",
)  # fmt: skip
"""What shards of earlier versions lack: read as null."""


class SampleRef(NamedTuple):
    """One sample of the shards: its names, its digests (mask: empty where it has none), and where its row lies.

    `way` is how its mask lies where an EXIF orientation was applied, else empty.
    `pixels_sha256` is of the decoded image; empty where the shard was written before it was recorded.
    """

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
    way: Way | Literal[""] = ""
    pixels_sha256: str = ""


def list_digest(samples: Iterable[SampleRef]) -> str:
    """Return the digest of a list of samples; their order does not matter.

    It is the sha256 over the sorted lines `id, image sha256, mask sha256, mask kind` and, where one was applied, the
    EXIF way; the fields parted by U+001F and each line ended by a newline.
    """
    return lines_digest(list_lines(samples))


def list_lines(samples: Iterable[SampleRef]) -> list[tuple[str, ...]]:
    """Return what the digest of a list is over: a line for each sample, sorted; its id stands first."""
    return sorted((s.id, s.image_sha256, s.mask_sha256, s.mask_kind, *([s.way] if s.way else [])) for s in samples)


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
        originals: what the originals of its first images say of their masks; None where there were none, or before.
        exif: masks by how they lie (`stored` or `shown`), where an EXIF orientation was applied.
    """

    count: int
    photographs: int
    digest: str
    shards: tuple[ShardInfo, ...]
    fake_area: Fraction
    grey_pixels: int
    origin: str = ""
    originals: MaskComparison | None = None
    exif: dict[Way, int] = Field(default_factory=dict)


class DomainInfo(Frozen):
    """One domain: `<source>/<generator>` or `<source>/real`.

    Attributes:
        family: what a study holds out as one: as the import was told, else the generator's name (`dolos.family`).
        photograph: the rule that tells which photograph a file shows, `table` where a column did; None: Dolos' STEM-K,
            or what an import made before there were rules did.
    """

    kind: DomainKind
    family: str
    mask_kind: MaskKind
    splits: dict[Split, SplitInfo]
    photograph: str | None = None

    @property
    def fake_area(self) -> float:
        """Mean fraction of fake pixels over all its images."""
        total = sum(split.count for split in self.splits.values())
        return sum(split.fake_area * split.count for split in self.splits.values()) / total if total else 0.0

    @property
    def originals(self) -> MaskComparison | None:
        """What the originals say of the masks of all its splits."""
        return alignment.together(split.originals for split in self.splits.values())

    @property
    def exif(self) -> dict[Way, int]:
        """Masks by how they lie, where an EXIF orientation was applied."""
        return dict(sum((Counter(split.exif) for split in self.splits.values()), Counter()))


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
            return storage.get_model(cls, path, "delete it and import again")
        except WorkspaceError as error:
            raise DataError(str(error)) from error

    def save(self, folder: UPath) -> None:
        """Write the manifest, whole."""
        storage.put(folder / FILE_NAME, storage.sealed(self))

    @property
    def digest(self) -> str:
        """Digest of what is held: each domain's kind and the list digest of each split."""
        held: dict[str, Any] = {
            name: [info.kind, info.family, {split: part.digest for split, part in info.splits.items()}]
            for name, info in self.domains.items()
        }
        return fingerprint(held)

    @property
    def families(self) -> dict[str, str]:
        """The family of each domain."""
        return {name: info.family for name, info in self.domains.items()}

    @property
    def kinds(self) -> dict[str, DomainKind]:
        """The kind of each domain."""
        return {name: info.kind for name, info in self.domains.items()}

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


def domains_of(folder: UPath) -> dict[str, DomainInfo]:
    """Return the domains that a data folder holds; none where nothing was imported.

    Where `dfloc doctor` has set its manifest aside, those that it held, so that an import tells photographs as before.

    Raises:
        DataError: its manifest is damaged.
    """
    if (folder / FILE_NAME).exists():
        return Manifest.load(folder).domains
    for aside in sorted(folder.glob(f"{FILE_NAME}{storage.ASIDE}*"), key=str):
        try:
            return storage.get_model(Manifest, aside).domains
        except WorkspaceError as error:
            logger.info("source images are told by the usual rules: %s", error)
    return {}


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
        SampleRef(
            name,
            pair,
            stem,
            domain,
            split,
            image,
            mask or "",
            kind,
            shard.path,
            shard.digest,
            group,
            row,
            way or "",
            pixels or "",
        )
        for name, pair, stem, image, mask, kind, way, pixels, (group, row) in zip(*columns, places, strict=True)
    ]


def read_areas(folder: UPath, split: SplitInfo) -> list[float]:
    """Return the fraction of fake pixels of each sample of a split, in rank order.

    Raises:
        DataError: a shard is missing or damaged.
    """
    return [area for shard in split.shards for area in _columns(folder, shard, ("fake_area",))[0]]


def masks_of_one_kind(folder: UPath, manifest: Manifest, domains: Iterable[str]) -> list[str]:
    """Return sentences on the masks of local domains that have no fake pixel, or no other; of shards of any version.

    Raises:
        DataError: a shard is missing or damaged.
    """
    said = []
    for name in domains:
        areas = [area for split in manifest.domains[name].splits.values() for area in read_areas(folder, split)]
        for count, what in ((areas.count(0), "no fake pixel"), (areas.count(1), "only fake pixels")):
            if count:
                said.append(f"{name}: {count:,} of {len(areas):,} masks have {what}; is that right?")
    return said


def _columns(folder: UPath, shard: ShardInfo, names: Sequence[str]) -> list[list[Any]]:
    path = folder / shard.path
    try:
        with pq.ParquetFile(path.path, filesystem=path.fs, page_checksum_verification=True) as held:
            kept = [name for name in names if name not in OPTIONAL_COLUMNS or name in held.schema_arrow.names]
            table = held.read(kept)
        columns = {name: table[name].to_pylist() for name in kept}
    except Exception as error:
        raise DataError(f"cannot read shard {path} ({error}); import again") from error
    if table.num_rows != sum(shard.groups):
        raise DataError(f"{path} has {table.num_rows} rows, not the manifest's {sum(shard.groups)}; import again")
    return [columns.get(name, [None] * table.num_rows) for name in names]


def refs_of(folder: UPath, manifest: Manifest, domains: Iterable[str]) -> list[SampleRef]:
    """Return every sample of these domains, each domain once."""
    return [
        sample for name in dict.fromkeys(domains) for split in manifest.domains[name].splits
        for sample in read_samples(folder, manifest, name, split)
    ]  # fmt: skip
