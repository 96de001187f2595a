"""What lies in two splits: photographs by their names, and images by their pixels."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from upath import UPath

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

    Wholly generated images show no photograph and are left out of the first; equal pixels count whatever they show.
    """
    named = in_two_splits((sample.stem, sample.split) for sample in samples if sample.mask_kind != "generated")
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
