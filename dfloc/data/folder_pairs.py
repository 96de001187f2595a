"""Images and masks of one's own, in folders or by a list -> the sample references of a domain and its real images."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dfloc.data import dolos, mask_matching, masks, source_images
from dfloc.data.dolos import (
    Sample,
    check_domain,
    files,
    has_splits,
    in_order,
    refuse_other_case,
    with_originals,
    with_splits,
)
from dfloc.data.exif import WAYS, Way
from dfloc.data.folders import EXTENSIONS, is_folder
from dfloc.data.manifest import DomainInfo, Split
from dfloc.data.mask_matching import CUT, NAME
from dfloc.data.source_images import STEM, TABLE
from dfloc.data.split_shares import divided
from dfloc.data.table_files import SampleTable
from dfloc.errors import ConfigError, DataError, did_you_mean
from dfloc.ids import bare

KnownDomains = Mapping[str, DomainInfo]

_KEYS = ("fake", "split", "images", "masks", "mask", "table", "photograph", "real", "originals", "masks-are", "family")
_WRITTEN = re.compile(rf"(?P<domain>[^=]+)=(?P<folder>.+?)(?P<rest>,({'|'.join(_KEYS)})=.*)", re.S)
_WHOLE = re.compile(
    r"(?P<domain>[^=]+)=(?P<folder>.+),(?P<kind>generated|real)(?P<rest>(,(images|split|photograph|family)=[^,]*)*)",
    re.S,
)


class FolderPair(NamedTuple):
    """Images, masks, and which mask is whose.

    Attributes:
        images: a folder, with folders train, valid, test, or without.
        masks: the same inside; the same folder where `mask` tells them apart. None where there are no masks.
        domain: `<source>/<generator>`; of real images `<source>/real`.
        fake_is: which values of the masks are fake, as `masks.kind_of` has it; where there are none `generated` (every
            pixel is) or `real` (none is).
        split: shares of the photographs in per cent, `80/10/10`, or the split that all are of, where neither folders
            nor the table say it.
        mask: a mask's name without its extension: `{name}` is the image's, `{cut}` the same up to its last `_` (which
            then names the photograph).
        table: the list of samples; `images` and `masks` are then where its files are looked for as well.
        photograph: which one a file shows, as `source_images.rule` has it. None: as in the folder's last import, else
            its whole name.
        authentic: folder of photographs of which nothing is fake: domain `<source>/real`.
        masks_are: how masks lie where EXIF turns the image, where neither sizes nor originals tell.
        originals: folder of the photographs that the images were made from, named like them or like their photographs.
        family: of the domain: what a study holds out as one. None: as in the folder's last import, else the generator's
            name.
    """

    images: Path
    masks: Path | None
    domain: str
    fake_is: str
    split: str | None = None
    mask: str = NAME
    table: Path | None = None
    photograph: str | None = None
    authentic: Path | None = None
    masks_are: Way | None = None
    originals: Path | None = None
    family: str | None = None


def read_pair(written: str, otherwise: Split | None = None, held: KnownDomains | None = None) -> list[Sample]:
    """Return the samples of a pair as a command line names it: `mine/sd=FOLDER,fake=white,split=80/10/10`.

    FOLDER has images/ and masks/, or what `images` and `masks` name, and the other files that are named. Several values
    of a mask are written `fake=1,2` or `fake=1+2`. Without masks it is `mine/sd=FOLDER,generated` or
    `mine/real=FOLDER,real`, whose images lie in FOLDER itself, or in what `images` names.

    Args:
        written: as above; its keys are the attributes of `Pair`, but `fake` (fake_is) and `real` (authentic).
        otherwise: the split that all images are of where nothing says one.
        held: what the data folder holds already.

    Raises:
        ConfigError: it cannot be understood; else as `scan`.
        DataError: as `scan`.
    """
    if whole := _whole_images(written):
        return scan(whole, otherwise, held)
    found = _WRITTEN.fullmatch(written)
    parts = re.split(rf",(?=(?:{'|'.join(_KEYS)})=)", found["rest"][1:]) if found else []
    given = dict(part.split("=", 1) for part in parts)
    for key in re.findall(r",([a-z-]+)=", found["rest"] if found else ""):
        if key not in _KEYS:
            raise ConfigError(f'"{written}": unknown key "{key}"; {did_you_mean(key, _KEYS)}')
    ways: dict[str | None, Way | None] = {None: None, **{way: way for way in WAYS}}
    known = masks.is_said(given.get("fake", "")) and given.get("masks-are") in ways
    if found is None or not known or len(given) < len(parts):
        raise ConfigError(
            f'"{written}" names no folder pair: expected <source>/<generator>=FOLDER,fake={masks.FORMS}, '
            "and ,split=80/10/10 where neither FOLDER/images has folders train, valid, test nor a table says it; also, "
            "each once, images=, masks=, mask={cut}_mask, table=, photograph=, real=, originals=, "
            "masks-are=stored|shown, family=NAME; or without masks <source>/<generator>=FOLDER,generated or "
            "<source>/real=FOLDER,real, with images=, split=, photograph=, family="
        )
    folder = Path(found["folder"])
    pair = FolderPair(
        images=folder / given.get("images", "images"),
        masks=folder / given.get("masks", "masks"),
        domain=found["domain"],
        fake_is=given["fake"],
        split=given.get("split"),
        mask=given.get("mask", NAME),
        table=folder / given["table"] if "table" in given else None,
        photograph=given.get("photograph"),
        authentic=folder / given["real"] if "real" in given else None,
        masks_are=ways[given.get("masks-are")],
        originals=folder / given["originals"] if "originals" in given else None,
        family=given.get("family"),
    )
    return scan(pair, otherwise, held)


def without_masks(written: str) -> str:
    """Return the domain of a folder that a command line names without masks; empty where it is another."""
    whole = _whole_images(written)
    return whole.domain if whole else ""


def _whole_images(written: str) -> FolderPair | None:
    """Return a folder without masks, as it is written; None where it is a pair."""
    found = _WHOLE.fullmatch(written)
    if found is None or ",fake=" in written:
        return None
    parts = [(part.partition("=")[0], part.partition("=")[2]) for part in found["rest"].split(",") if part]
    given: dict[str, str] = dict(parts)
    if len(given) < len(parts):
        raise ConfigError(f"--own {written}: name each of {', '.join(given)} once")
    folder = Path(found["folder"])
    return FolderPair(
        images=folder / given["images"] if "images" in given else folder,
        masks=None,
        domain=found["domain"],
        fake_is=found["kind"],
        split=given.get("split"),
        photograph=given.get("photograph"),
        family=given.get("family"),
    )


def read_pairs(
    written: Iterable[str], otherwise: Split | None = None, held: KnownDomains | None = None
) -> list[Sample]:
    """Return the samples of several pairs, each as `read_pair` has it; real images of one source may be in several.

    Raises:
        ConfigError: as `read_pair`.
        DataError: as `read_pair`, or two pairs have other files of one name.
    """
    return _once([sample for each in written for sample in read_pair(each, otherwise, held)])


def scan(pair: FolderPair, otherwise: Split | None = None, held: KnownDomains | None = None) -> list[Sample]:
    """Return the samples of a pair, those of `<source>/real` among them, by split and stems rank.

    Args:
        pair: as above.
        otherwise: the split that all images are of where nothing says one.
        held: what the data folder holds already: a domain keeps the rule by which its photographs were told.

    Raises:
        ConfigError: domain, split, photographs or the masks' names cannot be understood, or the split is needed, or
            given where it is known.
        DataError: a folder or the table is missing or empty, the table cannot be used, or no image has a mask.
    """
    _check_domain(pair)
    mask_matching.check(pair.mask)
    label, written = _rule(pair, held or {})
    tell = source_images.rule(written)
    samples, known = _of_table(pair, pair.table, tell) if pair.table else _of_folders(pair)
    _refuse_unpaired(pair, samples)
    samples = [*samples, *_authentic(pair, samples, known)]
    if any(sample.photograph for sample in samples):
        label = TABLE
    told = _with_photographs(samples, tell, pair.fake_is == "real")
    samples = _once(sample._replace(photograph=label, masks_are=pair.masks_are) for sample in told)
    family = _family(pair, held or {})
    samples = [each._replace(family=family) if each.domain == pair.domain else each for each in samples]
    where = pair.table or pair.images
    if known and pair.split is not None:
        raise ConfigError(f"{where} says the splits already; leave out the split")
    if known:
        return _with_originals(samples, pair)
    shares = otherwise if pair.split is None else pair.split
    if shares is None:
        raise ConfigError(f"{where} has no folders train, valid, test; say how to split them: split 80/10/10")
    return _with_originals(divided(samples, shares, pair.domain), pair)


def _check_domain(pair: FolderPair) -> None:
    """Return if images of this kind can be a domain of this name.

    Raises:
        ConfigError: they cannot.
    """
    check_domain(pair.domain, reserved=() if pair.fake_is == "real" else ("real",))
    if pair.fake_is == "real" and not dolos.is_real(pair.domain):
        source = pair.domain.partition("/")[0]
        raise ConfigError(
            f'domain "{pair.domain}" cannot be used of real images, whose domain is <source>/real; write '
            f"{source}/real=FOLDER,real"
        )


def _with_photographs(samples: Sequence[Sample], tell: source_images.Rule, alone: bool = False) -> list[Sample]:
    """Return samples with the photographs that they show, where no column said it; `alone`: all of them are real."""
    source = samples[0].domain.partition("/")[0]
    fakes = [
        sample if sample.photograph else sample._replace(stem=f"{source}/{tell(bare(sample.name))}")
        for sample in samples
        if alone or sample.photograph or sample.mask_kind != "real"
    ]
    reals = [sample for sample in samples if not (alone or sample.photograph) and sample.mask_kind == "real"]
    shown = {sample.stem.partition("/")[2] for sample in fakes}
    stems = source_images.of_authentic([bare(sample.name) for sample in reals], shown, tell)
    return [*fakes, *(real._replace(stem=f"{source}/{stems[bare(real.name)]}") for real in reals)]


def _with_originals(samples: Sequence[Sample], pair: FolderPair) -> list[Sample]:
    return in_order(with_originals(samples, pair.originals) if pair.originals else samples)


def _rule(pair: FolderPair, held: KnownDomains) -> tuple[str | None, str]:
    """Return what the manifest is to say of how photographs are told, and the rule."""
    if pair.photograph is None and pair.domain in held:
        kept = held[pair.domain].photograph
        if kept is None:
            return None, CUT if CUT in pair.mask else STEM
        if kept != TABLE:
            return kept, kept
    written = (CUT if CUT in pair.mask else NAME) if pair.photograph is None else pair.photograph
    return None if written == STEM and CUT not in pair.mask else written, written


def _family(pair: FolderPair, held: KnownDomains) -> str | None:
    """Return the family of a pair's domain, as it is said or was before; None: the generator's name."""
    if pair.family is None:
        return held[pair.domain].family if pair.domain in held else None
    if not dolos.NAME.fullmatch(pair.family):
        raise ConfigError(f'family "{pair.family}" cannot be used: expected a name in letters, digits and . _ -')
    if pair.family == dolos.REAL and not dolos.is_real(pair.domain):
        raise ConfigError(f'family "real" is that of real images, which {pair.domain} has none of; use another name')
    return pair.family


def _of_table(pair: FolderPair, table: Path, tell: source_images.Rule) -> tuple[list[Sample], bool]:
    assert pair.masks is not None
    return SampleTable(
        table, pair.images, pair.masks, pair.domain, masks.kind_of(pair.fake_is), pair.mask, tell
    ).samples()


def _of_folders(pair: FolderPair) -> tuple[list[Sample], bool]:
    """Return the samples of two folders, or of one without masks, and whether these have split folders."""
    for folder in (pair.images, *([pair.masks] if pair.masks else [])):
        if not is_folder(folder):
            with_masks = " and one with their masks" if pair.masks else ""
            raise DataError(f"no folder {folder}; expected one with images{with_masks}")
    kind = masks.kind_of(pair.fake_is) if pair.masks else pair.fake_is
    known = has_splits(pair.images)
    refuse_other_case(pair.images)
    if known:
        samples = with_splits(pair.images, pair.masks, pair.domain, kind, pair.mask)
    else:
        samples = files(pair.images, pair.masks, pair.domain, "train", kind, pair.mask)
    if not samples:
        raise DataError(f"no files in {pair.images}; expected images ({', '.join(sorted(EXTENSIONS))})")
    return samples, known


def _refuse_unpaired(pair: FolderPair, samples: Sequence[Sample]) -> None:
    """Refuse images of which none has a mask, and say what is nearly one."""
    lost = next((sample for sample in samples if sample.fault), None)
    if pair.masks and lost and not any(sample.mask for sample in samples):
        raise DataError(
            f"none of the {len(samples)} images in {pair.images} has one mask in {pair.masks}; the first is "
            f"{lost.name}: {lost.fault}"
        )


def _authentic(pair: FolderPair, samples: Sequence[Sample], known: bool) -> list[Sample]:
    """Return the photographs of the folder of real ones, beside the samples that a pair has."""
    folder, domain = pair.authentic, f"{pair.domain.partition('/')[0]}/real"
    if folder is None:
        return []
    if not is_folder(folder):
        raise DataError(f"no folder {folder} of authentic images")
    refuse_other_case(folder)
    if known != has_splits(folder):
        raise ConfigError(
            f"{folder} should have folders train, valid, test where {pair.table or pair.images} says splits, and none "
            "where it does not"
        )
    reals = with_splits(folder, None, domain, "real") if known else files(folder, None, domain, "train", "real")
    there = {sample.image.resolve() for sample in samples}
    if both := next((sample.image for sample in reals if sample.image.resolve() in there), None):
        raise DataError(f"{both} would be an authentic image and one of {pair.domain} too; take it from one of them")
    return reals


def _once(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples without those that are there already.

    Raises:
        DataError: two have one id, and are not the same.
    """
    found: dict[str, Sample] = {}
    for sample in samples:
        other = found.setdefault(sample.id, sample)
        same = other.image.resolve() == sample.image.resolve()
        if other is not sample and not (same and other == sample._replace(image=other.image)):
            raise DataError(f"{other.image} and {sample.image} would both be {sample.id}; rename one of them")
    return list(found.values())
