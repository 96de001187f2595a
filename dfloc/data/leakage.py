"""What lies in two splits: photographs by their names, and images by their pixels."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from upath import UPath

from dfloc.data.dolos import Sample
from dfloc.data.manifest import Manifest, SampleRef, refs_of

NOTE = "photographs that lie in two splits"
"""How a note begins that the import was told to allow."""
SHOWN = 3


class Overlap(NamedTuple):
    """A photograph that lies in more than one split: its stem, or an id of each split where only the pixels show it."""

    stem: str
    splits: tuple[str, ...]
    by_pixels: bool = False


def overlap(folder: UPath, manifest: Manifest, domains: Iterable[str]) -> list[Overlap]:
    """Return what lies in two splits of these domains (`overlaps`)."""
    return overlaps(refs_of(folder, manifest, domains))


def overlaps(samples: Sequence[SampleRef]) -> list[Overlap]:
    """Return the photographs that lie in two splits: by their names, sorted, then those that only their pixels show.

    Wholly generated images whose names are of no photographs (`showing`) are left out of the first; equal pixels count
    whatever they show.
    """
    named = in_two_splits((sample.stem, sample.split) for sample in showing(samples))
    known = {case.stem for case in named}
    by_pixels: defaultdict[str, list[SampleRef]] = defaultdict(list)
    for sample in samples:
        by_pixels[sample.pixels_sha256].append(sample)
    by_pixels.pop("", None)
    equal = []
    for refs in by_pixels.values():
        first = {ref.split: ref.id for ref in reversed(refs)}
        if len(first) > 1 and not known.issuperset(ref.stem for ref in refs):
            splits = tuple(sorted(first))
            equal.append(Overlap(" = ".join(first[split] for split in splits), splits, by_pixels=True))
    return [*named, *sorted(equal)]


def showing(samples: Iterable[Sample | SampleRef]) -> Iterator[Sample | SampleRef]:
    """Yield the samples that show the photograph that they are named by.

    A wholly generated image may be made of one, or of nothing and only numbered. A split of such images shows
    photographs where each is named by one that real or partly generated images of its source show, most of them in
    that split too.
    """
    held = list(samples)
    splits: defaultdict[str, set[str]] = defaultdict(set)
    whole: defaultdict[tuple[str, str], list[Sample | SampleRef]] = defaultdict(list)
    for sample in held:
        if sample.mask_kind == "generated":
            whole[sample.domain, sample.split].append(sample)
        else:
            splits[sample.stem].add(sample.split)
    numbered = {
        (domain, split)
        for (domain, split), members in whole.items()
        if not all(sample.stem in splits for sample in members)
        or 2 * sum(split in splits[sample.stem] for sample in members) <= len(members)
    }
    yield from (one for one in held if one.mask_kind != "generated" or (one.domain, one.split) not in numbered)


def undigested(samples: Iterable[SampleRef]) -> list[str]:
    """Return a sentence on domains whose equal images cannot be found; none where every image can be compared."""
    domains = sorted({sample.domain for sample in samples if not sample.pixels_sha256})
    said = "imported before pixels were digested, so that leakage by content is not known; import again, elsewhere"
    return [f"{', '.join(domains)}: {said}"] if domains else []


def in_two_splits(places: Iterable[tuple[str, str]]) -> list[Overlap]:
    """Return the stems that come with more than one split, sorted."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for stem, split in places:
        splits[stem].add(split)
    return [Overlap(stem, tuple(sorted(found))) for stem, found in sorted(splits.items()) if len(found) > 1]


def sentence(found: Sequence[Overlap]) -> str:
    """Return how many photographs lie in two splits, how many by their pixels alone, and the first ones."""
    shown = ", ".join(f"{case.stem} in {' and '.join(case.splits)}" for case in found[:SHOWN])
    equal = sum(case.by_pixels for case in found)
    under = f", {equal} of them equal pixels under other names" if equal else ""
    return f"{NOTE}: {len(found)}{under} ({shown}{', ...' if len(found) > SHOWN else ''})"
