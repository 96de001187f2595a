"""What a study is planned against: shards, or, without any, the counts that they are expected to have."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Protocol

from upath import UPath

from dfloc.config import SampleList
from dfloc.data import dolos
from dfloc.data.generators import SOURCE
from dfloc.data.leakage import NOTE, overlaps, undigested
from dfloc.data.manifest import (
    DomainKind,
    Manifest,
    SampleRef,
    list_digest,
    masks_of_one_kind,
    read_samples,
    refs_of,
)
from dfloc.data.mixture import Split
from dfloc.errors import DataError
from dfloc.frozen import fingerprint
from dfloc.ids import SampleId
from dfloc.planned import PlannedTrial
from dfloc.record import DomainFacts


class Data(Protocol):
    """What a study is planned against: shards, or the counts that they are expected to have.

    Attributes:
        name: enters the sweep's name.
        local: the local domains, in name order.
        kinds: of every domain that may be named, of which there are images or may be.
        present: whether the samples are there; else placeholders stand for them, and they are imported first.
        folders: of the shards.
        families: of imported domains; that of another is its generator's name (`dolos.family`).
    """

    name: str
    local: tuple[str, ...]
    kinds: Mapping[str, DomainKind]
    families: Mapping[str, str]
    present: bool
    folders: Sequence[UPath]

    def samples(self, domain: str, split: Split) -> Sequence[SampleRef]:
        """Return the samples of a domain's split in rank order."""

    def digest(self, samples: Iterable[SampleRef], asked: Mapping[str, object]) -> str:
        """Return the digest of a list of samples that were chosen as it was asked."""

    def has(self, domain: str) -> bool:
        """Return whether there are images of a domain, or may be."""

    def facts(self, domain: str) -> dict[str, DomainFacts]:
        """Return the images and photographs of each split of a domain."""

    def notes(self, domains: Sequence[str], beside: Collection[str] = ()) -> tuple[str, ...]:
        """Return what a report must say of a study's domains; raises DataError where they must not be used.

        Args:
            domains: the study's.
            beside: others that are trained or tested on.
        """


class Shards:
    """Imported data.

    Args:
        folder: with a manifest.
        name: of the data, as the sweep's name and the report have it.
    """

    present = True

    def __init__(self, folder: UPath, name: str):
        self.name = name
        self.folder = folder
        self.folders: Sequence[UPath] = [folder]
        self.manifest = Manifest.load(folder)
        self.local = self.manifest.local
        self.kinds: Mapping[str, DomainKind] = self.manifest.kinds
        self.families: Mapping[str, str] = self.manifest.families
        self._read = cache(lambda domain, split: read_samples(folder, self.manifest, domain, split))

    def samples(self, domain: str, split: Split) -> Sequence[SampleRef]:
        """Return the samples of a domain's split in rank order."""
        return self._read(domain, split)

    def digest(self, samples: Iterable[SampleRef], asked: Mapping[str, object]) -> str:
        """Return the digest over the samples themselves."""
        return list_digest(samples)

    def has(self, domain: str) -> bool:
        """Return whether the domain was imported."""
        return domain in self.kinds

    def facts(self, domain: str) -> dict[str, DomainFacts]:
        """Return the images and photographs of each split of a domain."""
        splits = self.manifest.domains[domain].splits
        return {name: DomainFacts(images=part.count, photographs=part.photographs) for name, part in splits.items()}

    def notes(self, domains: Sequence[str], beside: Collection[str] = ()) -> tuple[str, ...]:
        """Return the manifest's notes, and on old shards what these do not say.

        Raises:
            DataError: one photograph lies in two splits, and the import was not told to allow it.
        """
        reals = [name for name, kind in self.kinds.items() if kind == "real"]
        refs = refs_of(self.folder, self.manifest, [*domains, *reals, *sorted(beside)])
        doubles = overlaps(refs)
        if doubles and not any(note.startswith(NOTE) for note in self.manifest.notes):
            raise DataError(
                f"{len(doubles)} source images lie in two splits, the first is {doubles[0].stem} "
                f"({', '.join(doubles[0].splits)}); mend the data, or import them again with --allow-overlap"
            )
        found = masks_of_one_kind(self.folder, self.manifest, [name for name in domains if name in self.local])
        return tuple(dict.fromkeys([*self.manifest.notes, *found, *undigested(refs)]))


class Expected:
    """Data that are not imported: placeholders stand for their samples, and nothing is done that rests on those.

    Args:
        name: of the data.
        counts: domain -> split -> images; empty: any domain may be there.
        otherwise: split -> images of a domain that is neither counted nor one of Dolos'.
        families: of domains of which a person, or an earlier import, says it.
        kinds: of domains that are counted; that of another is told by its name.
    """

    present = False
    folders: Sequence[UPath] = ()

    def __init__(
        self,
        name: str,
        counts: Mapping[str, Mapping[str, int]],
        otherwise: Mapping[str, int],
        families: Mapping[str, str] = MappingProxyType({}),
        kinds: Mapping[str, DomainKind] = MappingProxyType({}),
    ):
        self.name = name
        self.families = families
        self.kinds: Mapping[str, DomainKind] = {
            name: kinds.get(name, dolos.named_kind(name)) for name in counts or dolos.COUNTS
        }
        self.local = tuple(sorted(name for name in counts if self.kinds[name] == "local"))
        self._counts = counts
        self._otherwise = otherwise
        self._placed = cache(lambda domain, split: placeholders(domain, split, self._count(domain, split)))

    def samples(self, domain: str, split: Split) -> Sequence[SampleRef]:
        """Return placeholders: as many as are expected."""
        return self._placed(domain, split)

    def digest(self, samples: Iterable[SampleRef], asked: Mapping[str, object]) -> str:
        """Return the digest of what is asked, by which `is_expected` knows it."""
        return fingerprint({"asked": asked})

    def has(self, domain: str) -> bool:
        """Return whether the domain is among those that are counted; where none is, everything may be."""
        return not self._counts or domain in self._counts

    def facts(self, domain: str) -> dict[str, DomainFacts]:
        """Return the expected counts; every image a photograph of its own."""
        published = {split: count.images for split, count in dolos.COUNTS.get(domain, {}).items()}
        counts = self._counts.get(domain) or published or self._otherwise
        return {split: DomainFacts(images=count, photographs=count) for split, count in counts.items()}

    def notes(self, domains: Sequence[str], beside: Collection[str] = ()) -> tuple[str, ...]:
        """Return nothing: nothing is known."""
        return ()

    def _count(self, domain: str, split: Split) -> int:
        facts = self.facts(domain).get(split)
        return facts.images if facts else 0


def is_expected(samples: SampleList) -> bool:
    """Return whether placeholders stand for the samples of a list: its digest is of what was asked alone."""
    return samples.digest == fingerprint({"asked": samples.asked})


def placeholders(domain: str, split: Split, count: int) -> list[SampleRef]:
    """Return what stands for samples that are expected: `<domain>/<split>/00017`, of a photograph that others show too.

    Those of one source and split are paired by their numbers, as the generators of one source change its photographs.
    """
    source = SampleId.of(f"{domain}/{split}/").source
    ids = (f"{domain}/{split}/{number:05}" for number in range(count))
    photographs = (f"{source}/{split}/{number:05}" for number in range(count))
    return [
        SampleRef(name, shown, shown, domain, split, "", "", "", "", "", 0, number)
        for number, (name, shown) in enumerate(zip(ids, photographs, strict=True))
    ]


def named(domains: Iterable[str], trials: Iterable[PlannedTrial]) -> set[str]:
    """Return the domains of a study, and those that its trials are trained or scored on."""
    each = [(trial.spec.train.counts, (one.domain for one in trial.evaluations)) for trial in trials]
    return {*domains, *(name for trained, scored in each for name in (*trained, *scored))}


def said(data: Data, domains: Iterable[str]) -> dict[str, str]:
    """Return the families of some domains of which the data say another than the generator's name."""
    known = {domain: data.families[domain] for domain in sorted(domains) if domain in data.families}
    return {domain: family for domain, family in known.items() if family != dolos.family(domain, {})}


def alike(data: Data, domains: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for own domains of several sources that are one family since their generators have one name."""
    unsaid = sorted(name for name in {*domains} - said(data, domains).keys() if not dolos.is_real(name))
    found: dict[str, list[str]] = {}
    for domain in unsaid:
        found.setdefault(dolos.family(domain, {}), []).append(domain)
    for family, names in found.items():
        if len({name.partition("/")[0] for name in names}) > 1 and not {*names} <= dolos.COUNTS.keys():
            yield (
                f"{' and '.join(names)} are one family, {family}, by the generator's name: none is trained on where "
                "one is held out, and each is in-domain once one is trained on; to tell them apart, import with "
                "--family NAME (family= in --own)"
            )


def akin(data: Data, domains: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for two families of which one inpaints with the other's network, where a study has both."""
    by_family: dict[str, list[str]] = {}
    for domain in sorted(domains):
        by_family.setdefault(dolos.family(domain, data.families), []).append(domain)
    for family, network in dolos.NETWORKS.items():
        if family in by_family and network in by_family:
            yield (
                f"{' and '.join(by_family[family])} are inpainted with the network of {network}, a family of its own: "
                f"where they are out-of-domain of a model that is trained on {' or '.join(by_family[network])}, masks "
                "and inpainting are new to it, the network is not"
            )


def is_synthetic(domains: Sequence[str], trials: Sequence[PlannedTrial]) -> bool:
    """Return whether data are built in or a frozen backbone is random; a segmenter's encoder is trained from there."""
    random = any(recipe.weights.startswith("random") for trial in trials for recipe in trial.spec.maps)
    return random or any(domain.startswith(f"{SOURCE}/") for domain in domains)
