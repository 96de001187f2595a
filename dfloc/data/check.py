"""What a data folder holds, in numbers beside those that Dolos has, and as a contact sheet."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw
from upath import UPath

from dfloc.data import dolos
from dfloc.data.alignment import MaskComparison, MaskVerdict, compared
from dfloc.data.dolos import COUNTS, SPLITS, PublishedCount, Sample
from dfloc.data.manifest import Manifest, SampleRef, Split, read_areas, read_samples
from dfloc.data.shards import Pixels, ShardReader, decode_image, read_truth
from dfloc.data.writer import judge

COMPARED = 32
"""Images of a split of a tree whose originals are looked at."""
TILE = 160
COLUMNS = 6
MARGIN = 18
OUTLINE = (255, 0, 90)


class Areas(NamedTuple):
    """Fractions of fake pixels over a split's images, and the mask pixels that are neither black nor white."""

    mean: float
    smallest: float
    largest: float
    grey_pixels: int


class SplitFacts(NamedTuple):
    """One split of a domain; a tree that is not imported has no areas, and only Dolos' splits an expected count."""

    domain: str
    split: Split
    images: int
    photographs: int
    areas: Areas | None = None

    @property
    def expected(self) -> PublishedCount | None:
        """How many images Dolos has."""
        return COUNTS.get(self.domain, {}).get(self.split)

    @property
    def differs(self) -> bool:
        """Whether Dolos has another number of images, as far as it is printed."""
        return self.expected is not None and not self.expected.matches(self.images)


def check_shards(folder: UPath, manifest: Manifest) -> list[SplitFacts]:
    """Return the facts of every split, by domain, after comparing the shards with the manifest.

    Raises:
        DataError: a shard is missing, damaged or not the manifest's.
    """
    facts = []
    for domain, info in sorted(manifest.domains.items()):
        for split, part in info.splits.items():
            read_samples(folder, manifest, domain, split)
            area = read_areas(folder, part)
            areas = Areas(float(np.mean(area)), min(area), max(area), part.grey_pixels)
            facts.append(SplitFacts(domain, split, part.count, part.photographs, areas))
    return facts


def check_tree(samples: Iterable[Sample]) -> list[SplitFacts]:
    """Return the counts of a tree that is not imported, in the order of the samples."""
    facts = []
    for (domain, split), group in groupby(samples, key=lambda sample: (sample.domain, sample.split)):
        members = list(group)
        facts.append(SplitFacts(domain, split, len(members), len({sample.stem for sample in members})))
    return facts


def compare_tree(
    samples: Sequence[Sample], on_progress: Callable[[int, int], None] | None = None
) -> dict[str, MaskComparison | None]:
    """Return what originals say of the masks of each local domain of a tree, by the first images of each split.

    Args:
        samples: of the tree, as `dolos.scan` has them.
        on_progress: called with the images compared and to compare.
    """
    by_split: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.original:
            by_split[sample.domain, sample.split].append(sample)
    asked = [sample for group in by_split.values() for sample in group[:COMPARED]]
    judged: dict[str, list[MaskVerdict]] = {s.domain: [] for s in samples if dolos.kind(s.mask_kind) == "local"}
    for number, sample in enumerate(asked, start=1):
        found = judge(sample)
        judged[sample.domain] += [found] if found else []
        if on_progress:
            on_progress(number, len(asked))
    return {domain: compared(found) for domain, found in judged.items()}


def with_missing(facts: Sequence[SplitFacts]) -> list[SplitFacts]:
    """Return the facts, and a line of no images for each split that Dolos has of their domains and they have not."""
    found = {(fact.domain, fact.split) for fact in facts}
    domains = list(dict.fromkeys(fact.domain for fact in facts))
    missing = [
        SplitFacts(domain, split, 0, 0)
        for domain in domains
        for split in COUNTS.get(domain, {})
        if (domain, split) not in found
    ]
    return sorted([*facts, *missing], key=lambda fact: (domains.index(fact.domain), SPLITS.index(fact.split)))


def against_dolos(facts: Sequence[SplitFacts]) -> list[str]:
    """Return the counts that differ from Dolos' and the domains of Dolos that are absent, a line each.

    Data without a domain of Dolos are not compared.
    """
    domains = {fact.domain for fact in facts}
    if not domains & set(COUNTS):
        return []
    differing = [
        f"{fact.domain} {fact.split} {fact.images:,} ({fact.expected.printed})"
        for fact in facts
        if fact.expected and fact.differs
    ]
    absent = [domain for domain in COUNTS if domain not in domains]
    lines = [
        f"Warning: other counts than those of Dolos (in brackets): {', '.join(differing)}"
        if differing
        else "all counts are those of Dolos, as far as they are printed"
    ]
    return [*lines, *([f"of Dolos, absent: {', '.join(absent)}"] if absent else [])]


def contact_sheet(folder: UPath, manifest: Manifest) -> bytes:
    """Return a PNG: a line of images for each domain, with the outline of what its masks call fake.

    Each line begins with the split's first images by the stems rank, so that paired domains show the same photographs.
    """
    reader = ShardReader(folder)
    sheet = Image.new("RGB", (COLUMNS * TILE, len(manifest.domains) * (TILE + MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (domain, info) in enumerate(sorted(manifest.domains.items())):
        split = next(name for name in ("test", "valid", "train") if name in info.splits)
        top = line * (TILE + MARGIN)
        pen.text((4, top + 3), f"{domain}  {split}", fill="black")
        for column, sample in enumerate(read_samples(folder, manifest, domain, split)[:COLUMNS]):
            sheet.paste(Image.fromarray(_tile(folder, reader, sample)), (column * TILE, top + MARGIN))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _tile(folder: UPath, reader: ShardReader, sample: SampleRef) -> Pixels:
    row = reader.group(sample.shard, sample.group, ("image",))[sample.row]
    image_HW3 = decode_image(row["image"]["bytes"])
    (truth_HW,) = read_truth(folder, [sample], reader)
    tile_HW3: Pixels = cv2.resize(image_HW3, (TILE, TILE), interpolation=cv2.INTER_AREA)
    fake_HW: Pixels = (cv2.resize(truth_HW, (TILE, TILE), interpolation=cv2.INTER_AREA) > 127.5).astype(np.uint8)
    edge_HW = cv2.morphologyEx(fake_HW, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    tile_HW3[edge_HW > 0] = OUTLINE
    return tile_HW3
