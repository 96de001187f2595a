"""A Dolos tree -> sample references; which generator is of which family and kind, and how many images Dolos has."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from dfloc.data import mask_matching
from dfloc.data.exif import Way
from dfloc.data.folders import is_folder, is_image, is_litter, masks_in, names_in
from dfloc.data.manifest import DomainKind, MaskKind, Split
from dfloc.data.mask_matching import MaskMatch
from dfloc.data.mixture import stem_rank
from dfloc.errors import ConfigError, DataError, unknown
from dfloc.ids import SampleId, bare

SPLITS: tuple[Split, ...] = get_args(Split)
FAMILIES = {"repaint-p2-9k": "repaint-p2"}  # one for a study that holds one out; all others are of their own
NETWORKS = {"repaint-p2": "p2"}  # a family that inpaints with the network of another, which makes images anew
REAL, WHOLE = "real", frozenset({"p2"})  # no generator is called so; those of Dolos that make an image anew
_KINDS: dict[MaskKind, DomainKind] = {"real": "real", "generated": "full"}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LAYOUT = (
    "expected <source>/fake/<generator>/images|masks/<split>, <source>/real/<split>; splits are train, valid, test"
)


class Sample(NamedTuple):
    """A file of a data set, its mask, and its names (DESIGN: id, pair, stem). A local sample's mask may be missing.

    `fault` says why it is; `photograph` is the rule that told the stem, None where that is Dolos' (or another of an
    import that recorded none). The original is the photograph that a fake was made from, where it is at hand.
    `masks_are` is what the user says of masks where an image has an EXIF orientation, `family` what of the domain's.
    """

    id: str
    pair: str
    stem: str
    domain: str
    split: Split
    image: Path
    mask: Path | None
    mask_kind: MaskKind
    original: Path | None = None
    masks_are: Way | None = None
    fault: str = ""
    photograph: str | None = None
    family: str | None = None

    @property
    def name(self) -> str:
        """The file name, with the folders inside its split."""
        return SampleId.of(self.id).file


class PublishedCount(NamedTuple):
    """How many images a split has, as a table prints it: `900`, or 8,472 as `8.5k`."""

    printed: str

    @property
    def images(self) -> int:
        """The number that is printed."""
        return round(1000 * float(self.printed[:-1])) if self.printed.endswith("k") else int(self.printed)

    def matches(self, found: int) -> bool:
        """Return whether so many images would be printed alike."""
        if not self.printed.endswith("k"):
            return found == self.images
        decimals = len(self.printed[:-1].partition(".")[2])
        return f"{found / 1000:.{decimals}f}k" == self.printed


def _printed(*texts: str) -> dict[Split, PublishedCount]:
    """Return counts by split, in the order train, valid, test; a split that does not exist is left out."""
    return dict(zip(SPLITS, map(PublishedCount, texts), strict=False))


COUNTS: Mapping[str, Mapping[Split, PublishedCount]] = {
    "celebahq/real": _printed("9k", "900", "900"),
    "celebahq/p2": _printed("9k", "1k"),
    "celebahq/repaint-p2": _printed("30k", "3k", "8.5k"),
    "celebahq/repaint-p2-9k": _printed("9000", "900", "900"),
    "celebahq/ldm": _printed("9k", "900", "900"),
    "celebahq/lama": _printed("9k", "900", "900"),
    "celebahq/pluralistic": _printed("9k", "900", "900"),
    "ffhq/real": _printed("9k", "900"),
    "ffhq/p2": _printed("9k", "1k"),
    "ffhq/repaint-p2": _printed("30k", "3k"),
}
"""Dolos' images by domain and split: Table 1 of Tantaru et al. (WACV 2024), as printed there.

repaint-p2-9k, which that table does not list, is counted in Ciuperceanu's thesis (University of Bucharest, 2025).
"""


def family(domain: str, said: Mapping[str, str]) -> str:
    """Return the family of a domain: holding it out excludes every domain of the same family.

    Args:
        domain: its full name.
        said: families that a person gave, by domain; that of another is its generator's, whatever the source.
    """
    generator = domain.partition("/")[2]
    return said.get(domain, FAMILIES.get(generator, generator))


def kind(mask_kind: MaskKind) -> DomainKind:
    """Return the kind of a domain whose masks are of this kind."""
    return _KINDS.get(mask_kind, "local")


def is_real(domain: str) -> bool:
    """Return whether a domain holds a source's real images: `<source>/real`."""
    return domain.partition("/")[2] == REAL


def named_kind(domain: str) -> DomainKind:
    """Return the kind of a domain of which its name alone is known."""
    return "real" if is_real(domain) else "full" if domain.partition("/")[2] in WHOLE else "local"


def photograph(name: str) -> str:
    """Return the photograph that a file shows, by its name without extension: `STEM-K` shows `STEM`.

    K has no leading zeros: a camera's `DSC-0001` and `DSC-0002` are two photographs.
    """
    return re.sub(r"-(0|[1-9]\d*)$", "", name)


def resolve(short: str, known: Iterable[str]) -> str:
    """Return the full name of a domain: `ldm` is `celebahq/ldm` where no other source has that generator.

    Raises:
        ConfigError: no domain has that name, or several.
    """
    names = sorted(known)
    if short in names:
        return short
    found = [name for name in names if name.partition("/")[2] == short]
    if len(found) > 1:
        raise ConfigError(f'domain "{short}" is ambiguous; write {" or ".join(found)}')
    if not found:
        raise unknown("domain", short, names)
    return found[0]


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples by domain, split (train, valid, test) and the stems rank of mixture seed 0."""
    return sorted(samples, key=lambda s: (s.domain, SPLITS.index(s.split), stem_rank(s.pair), s.id))


def scan(root: Path) -> list[Sample]:
    """Return the samples of a tree in Dolos' layout, by domain, split and stems rank.

    The root holds the sources, or is one itself. Files of any type are listed; the importer judges them.

    Raises:
        DataError: the folder is missing, holds no such tree, a domain without images, or a name that cannot be one.
    """
    if not is_folder(root):
        raise DataError(f"no folder {root}; {_LAYOUT}")
    sources = [root] if _is_source(root) else [folder for folder in _folders(root) if _is_source(folder)]
    if not sources:
        nested = [folder for folder in _folders(root) if any(map(_is_source, _folders(folder)))]
        hint = f"; did you mean {nested[0]}?" if nested else ""
        raise DataError(f"no Dolos tree in {root}: {_LAYOUT}{hint}")
    return in_order(_with_reals([sample for source in sources for sample in _source(source)]))


def _is_source(folder: Path) -> bool:
    return (folder / "fake").is_dir() or (folder / "real").is_dir()


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_litter(path.name))


def _source(source: Path) -> Iterator[Sample]:
    name = source.name if source.name not in ("", "..") else source.resolve().name
    if (source / "real").is_dir():
        yield from with_splits(source / "real", None, f"{name}/real", "real")
    for folder in _folders(source / "fake") if (source / "fake").is_dir() else []:
        domain = f"{name}/{folder.name}"
        if (folder / "images").is_dir():
            if not (folder / "masks").is_dir():
                raise DataError(f"{folder} has images/ but no masks/; {_LAYOUT}")
            yield from with_splits(folder / "images", folder / "masks", domain, "fake_is_black")
        else:
            yield from with_splits(folder, None, domain, "generated")


def with_splits(
    images: Path, masks: Path | None, domain: str, mask_kind: MaskKind, named: str = mask_matching.NAME
) -> list[Sample]:
    """Return the samples of folders that hold train, valid and test.

    Raises:
        ConfigError: the domain's name cannot be one.
        DataError: another folder or an image lies among the splits, or there are no images.
    """
    check_domain(domain, reserved=() if mask_kind == "real" else ("real",))
    for folder in _folders(images):
        if folder.name not in SPLITS:
            raise DataError(f"{folder}: {unknown('split folder', folder.name, SPLITS)}")
    beside = sorted(path.name for path in images.iterdir() if is_image(path.name) and not is_litter(path.name))
    if beside:
        more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
        raise DataError(f"{images / beside[0]}{more} lies beside the split folders; move it into one of them")
    samples = [
        sample
        for split in SPLITS
        if (images / split).is_dir()
        for sample in files(images / split, masks and masks / split, domain, split, mask_kind, named)
    ]
    if not samples:
        raise DataError(f"no images of {domain} in {images}; {_LAYOUT}")
    return samples


def files(
    images: Path, masks: Path | None, domain: str, split: Split, mask_kind: MaskKind, named: str = mask_matching.NAME
) -> list[Sample]:
    """Return the samples of one split's folders, whose masks are named as `mask_matching.find` has it.

    The folders may be one, or the masks lie inside of the images.

    Raises:
        DataError: one folder holds both, and their names do not tell them apart.
    """
    names = names_in(images)
    if masks is None:
        return [reference(name, path, domain, split, mask_kind) for name, path in names.items()]
    truths = names_in(masks)
    below = os.path.relpath(masks, images)
    if same_folder(images, masks, named):
        own, of_masks = mask_matching.apart(list(names), named)
        names, truths = {name: names[name] for name in own}, {name: truths[name] for name in of_masks}
    names = {name: path for name, path in names.items() if not name.startswith(f"{below}/")}
    samples = []
    found = mask_matching.find(list(filter(is_image, names)), list(filter(is_image, truths)), named)
    for name in names:
        partner = found.get(name) or MaskMatch(name if name in truths else None)
        mask = None if partner.mask is None else truths[partner.mask]
        bare = reference(name, names[name], domain, split, mask_kind)
        samples.append(bare._replace(mask=mask, fault=partner.fault))
    return samples


def same_folder(images: Path, masks: Path, named: str) -> bool:
    """Return whether images and masks lie in one folder.

    Raises:
        DataError: and their names do not tell them apart.
    """
    if os.path.realpath(images) != os.path.realpath(masks):
        return False
    if named == mask_matching.NAME:
        raise DataError(
            f"images and masks lie in one folder, {images}, and no mask name tells them apart; say how masks are "
            f"named, as --mask-name {mask_matching.NAME}_GT (mask= in --own), or pair the files by a table"
        )
    return True


def has_splits(images: Path) -> bool:
    """Return whether a folder has folders train, valid or test."""
    return any(is_folder(images / name) for name in SPLITS)


def refuse_other_case(images: Path) -> None:
    """Return if no folder is called like a split in other letters: its images would be those of one mixed split.

    Raises:
        DataError: one is.
    """
    _, folders, _ = next(os.walk(images), ("", [], []))
    for name in sorted(folders):
        if name not in SPLITS and name.lower() in SPLITS:
            raise DataError(f"{images / name} is called like a split in other letters; rename it {name.lower()}")


def reference(name: str, image: Path, domain: str, split: Split, mask_kind: MaskKind) -> Sample:
    """Return a sample without a mask, its names by Dolos' rule."""
    source, generator = domain.split("/")
    own = SampleId(source, generator, split, name)
    return Sample(str(own), own.pair, f"{source}/{photograph(own.bare)}", domain, split, image, None, mask_kind)


def _with_reals(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Yield samples, a fake with the real image of its name as original, else with the only one of its photograph."""
    reals = [sample for sample in samples if sample.mask_kind == "real"]
    by_pair = {sample.pair: sample.image for sample in reals}
    of_stem = Counter(sample.stem for sample in reals)
    by_stem = {sample.stem: sample.image for sample in reals if of_stem[sample.stem] == 1}
    for sample in samples:
        original = by_pair.get(sample.pair, by_stem.get(sample.stem)) if kind(sample.mask_kind) == "local" else None
        yield sample._replace(original=original)


def with_originals(samples: Sequence[Sample], folder: Path) -> list[Sample]:
    """Return samples with the originals that a folder has of their names, or of their photographs' names.

    An original may have any extension; it lies in the folder, or in one of its folders train, valid, test.

    Raises:
        DataError: there is no such folder, or nothing in it is of any of these names.
    """
    if not is_folder(folder):
        raise DataError(f"no folder {folder}; expected one with the originals of the images")
    found = masks_in(folder)
    split = {name: masks_in(folder / name) for name in SPLITS}
    matched = []
    for sample in samples:
        names = (sample.name, bare(sample.name), sample.stem.partition("/")[2])
        held = [
            where[name] for where in (split[sample.split], found, *split.values()) for name in names if name in where
        ]
        local = kind(sample.mask_kind) == "local"
        matched.append(sample._replace(original=held[0] if held and local else sample.original))
    if not any(sample.original for sample in matched):
        raise DataError(
            f"{folder} has no original of the name of any of the {len(matched)} images{_cure(samples, found)}"
        )
    return matched


def _cure(samples: Sequence[Sample], found: Mapping[str, Path]) -> str:
    """Return the rule of photographs by which originals would be found, as the end of a sentence."""
    for rule, tell in (("{stem}", photograph), (mask_matching.CUT, mask_matching.cut)):
        count = sum(tell(bare(sample.name)) in found for sample in samples)
        if count:
            return f", but those of the source images of {count}: --photograph {rule} (photograph= in --own)"
    return ""


def check_domain(domain: str, reserved: tuple[str, ...] = ("real",)) -> None:
    """Return if this can be the name of a domain.

    Raises:
        ConfigError: it cannot.
    """
    source, _, generator = domain.partition("/")
    if not (NAME.fullmatch(source) and NAME.fullmatch(generator)) or generator in reserved:
        raise ConfigError(
            f'domain "{domain}" cannot be used: expected <source>/<generator> in letters, digits and . _ -, '
            'the generator not "real"'
        )
