"""A folder of images and a folder of their masks -> the sample references of a domain of one's own."""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dfloc.data import masks
from dfloc.data.dolos import (
    EXTENSIONS,
    SPLITS,
    Sample,
    check_domain,
    files,
    in_order,
    masks_in,
    text,
    with_originals,
    with_splits,
)
from dfloc.data.exif import WAYS, Way
from dfloc.data.manifest import Split
from dfloc.errors import ConfigError, DataError, unknown

NAME, CUT = "{name}", "{cut}"
_KEYS = ("fake", "split", "images", "masks", "mask", "table", "originals", "masks-are")
_WRITTEN = re.compile(rf"(?P<domain>[^=]+)=(?P<folder>.+?)(?P<rest>,({'|'.join(_KEYS)})=.*)", re.S)


class Pair(NamedTuple):
    """A folder of images, a folder of masks, and which mask is whose.

    Attributes:
        images: with folders train, valid, test, or without.
        masks: the same inside.
        domain: `<source>/<generator>`.
        fake_is: which values of the masks are fake, as `masks.kind_of` has it.
        split: shares of the photographs in per cent, `80/10/10`, or the split that all are of, where `images` has no
            split folders.
        mask: a mask's name without its extension: `{name}` is the image's, `{cut}` the same up to its last `_` (which
            then names the photograph).
        table: a CSV file with two columns, named like the two folders, that pairs their files instead.
        masks_are: how masks lie where EXIF turns the image, where neither sizes nor originals tell.
        originals: folder of the photographs that the images were made from, named like them or like their photographs.
    """

    images: Path
    masks: Path
    domain: str
    fake_is: str
    split: str | None = None
    mask: str = NAME
    table: Path | None = None
    masks_are: Way | None = None
    originals: Path | None = None


def read_pair(written: str, otherwise: Split | None = None) -> list[Sample]:
    """Return the samples of a pair as a command line names it: `mine/sd=FOLDER,fake=white,split=80/10/10`.

    FOLDER has images/ and masks/, or what `images` and `masks` name; `split` is left out where these have split
    folders; `mask` and `table` say which mask is whose; `masks-are` how masks lie where EXIF turns the image;
    `originals` is a folder of the photographs before. Several values of a mask are written `fake=1,2` or `fake=1+2`.

    Args:
        written: as above.
        otherwise: the split that all images are of where `written` says none and there are no split folders.

    Raises:
        ConfigError: it cannot be understood; else as `scan_pair`.
        DataError: as `scan_pair`.
    """
    found = _WRITTEN.fullmatch(written)
    parts = re.split(rf",(?=(?:{'|'.join(_KEYS)})=)", found["rest"][1:]) if found else []
    given = dict(part.split("=", 1) for part in parts)
    ways: dict[str | None, Way | None] = {None: None, **{way: way for way in WAYS}}
    if found is None or not masks.is_said(given.get("fake", "")) or given.get("masks-are") not in ways:
        raise ConfigError(
            f'"{written}" names no folder pair: expected <source>/<generator>=FOLDER,fake={masks.FORMS}, '
            "and ,split=80/10/10 where FOLDER/images has no folders train, valid, test; also images=, masks=, "
            "mask={cut}_mask, table=, originals=, masks-are=stored|shown"
        )
    folder = Path(found["folder"])
    images = folder / given.get("images", "images")
    split = given.get("split")
    if split is None and not _has_splits(images):
        split = otherwise
    table = folder / given["table"] if "table" in given else None
    truths = folder / given.get("masks", "masks")
    mask, way = given.get("mask", NAME), ways[given.get("masks-are")]
    originals = folder / given["originals"] if "originals" in given else None
    return scan(Pair(images, truths, found["domain"], given["fake"], split, mask, table, way, originals))


def scan_pair(images: Path, masks: Path, domain: str, fake_is: str, split: str | None = None) -> list[Sample]:
    """Return the samples of a pair whose masks have the names of their images, by split and stems rank; see `scan`."""
    return scan(Pair(images, masks, domain, fake_is, split))


def scan(pair: Pair) -> list[Sample]:
    """Return the samples of a pair, by split and stems rank.

    Raises:
        ConfigError: domain, split or the masks' names cannot be understood, or split is needed, or given where there
            are split folders.
        DataError: a folder or the table is missing or empty, or the table cannot be used.
    """
    samples = _scan(pair)
    return with_originals(samples, pair.originals) if pair.originals else samples


def _scan(pair: Pair) -> list[Sample]:
    check_domain(pair.domain)
    for folder in (pair.images, pair.masks):
        if not folder.is_dir():
            raise DataError(f"no folder {folder}; expected one with images and one with their masks")
    mask_kind = masks.kind_of(pair.fake_is)
    if _has_splits(pair.images):
        if pair.split is not None:
            raise ConfigError(f"{pair.images} has split folders already; leave out the split")
        samples = with_splits(pair.images, pair.masks, pair.domain, mask_kind)
        return in_order(_asked(_paired(samples, pair, by_split=True), pair))
    samples = list(files(pair.images, pair.masks, pair.domain, "train", mask_kind))
    if not samples:
        raise DataError(f"no files in {pair.images}; expected images ({', '.join(sorted(EXTENSIONS))})")
    if pair.split is None:
        raise ConfigError(f"{pair.images} has no folders train, valid, test; say how to split them: split 80/10/10")
    return in_order(_split(list(_asked(_paired(samples, pair), pair)), pair.split))


def _asked(samples: Iterable[Sample], pair: Pair) -> Iterator[Sample]:
    return (sample._replace(masks_are=pair.masks_are) for sample in samples)


def _has_splits(images: Path) -> bool:
    return any((images / name).is_dir() for name in SPLITS)


def _paired(samples: list[Sample], pair: Pair, by_split: bool = False) -> Iterator[Sample]:
    """Yield samples with the masks that `mask` or `table` gives them."""
    if pair.table is not None:
        if pair.mask != NAME or by_split:
            raise ConfigError("a table pairs the files of two plain folders by itself; leave out mask, or the table")
        mask_of = _read_table(pair, pair.table)
        yield from (sample._replace(mask=mask_of.get(sample.image.resolve())) for sample in samples)
        return
    if pair.mask == NAME:
        yield from samples
        return
    if pair.mask.count(NAME) + pair.mask.count(CUT) != 1 or set("{}") & set(re.sub(r"{(name|cut)}", "", pair.mask)):
        raise ConfigError(f'mask "{pair.mask}" cannot be used: expected one {NAME} or {CUT} in it, as {CUT}_mask')
    found = {split: masks_in(pair.masks / split if by_split else pair.masks) for split in SPLITS}
    for sample in samples:
        bare = sample.name.rpartition(".")[0] or sample.name
        cut = bare.rpartition("_")[0] or bare
        name = pair.mask.replace(NAME, bare).replace(CUT, cut)
        stem = f"{pair.domain.partition('/')[0]}/{cut}" if CUT in pair.mask else sample.stem
        yield sample._replace(mask=found[sample.split].get(name), stem=stem)


def _read_table(pair: Pair, table: Path) -> dict[Path, Path]:
    """Return the mask of each image that a table names; paths are relative to the table's folder, or to their own."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = (pair.images.name, pair.masks.name)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise DataError(
                        f"{table}: {unknown('column', column, reader.fieldnames or ())}; one for each folder"
                    )
            rows = [tuple(row[column] or "" for column in columns) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the table {table} ({error}); expected a CSV file in UTF-8") from error
    found = {}
    for image, mask in rows:
        inside = [_below(name, folder, table) for name, folder in ((image, pair.images), (mask, pair.masks))]
        found[inside[0].resolve()] = inside[1]
    return found


def _below(name: str, folder: Path, table: Path) -> Path:
    for path in (table.parent / name, folder / name):
        if name and path.is_file():
            return path
    raise DataError(f'{table} names "{text(name)}", which is neither in {table.parent} nor in {folder}')


def _split(samples: list[Sample], shares: str) -> list[Sample]:
    """Give each photograph to a split, by a hash of its name, so that the split has the share that was asked."""
    if shares in SPLITS:
        return [_moved(sample, split) for sample in samples for split in SPLITS if split == shares]
    per_cent = _shares(shares)
    stems = sorted({sample.stem for sample in samples}, key=lambda stem: hashlib.sha256(stem.encode()).hexdigest())
    bounds = [round(len(stems) * sum(per_cent[: place + 1]) / 100) for place in range(3)]
    split_of: dict[str, Split] = {}
    for index, stem in enumerate(stems):
        split_of[stem] = next(split for split, bound in zip(SPLITS, bounds, strict=True) if index < bound)
    missing = [split for split, share in zip(SPLITS, per_cent, strict=True) if share and split not in split_of.values()]
    if missing:
        raise DataError(
            f"{len(samples)} images show {len(stems)} photographs (STEM-1.png and STEM-2.png show STEM): "
            f"too few for a {missing[0]} split of {shares}"
        )
    return [_moved(sample, split_of[sample.stem]) for sample in samples]


def _moved(sample: Sample, split: Split) -> Sample:
    return sample._replace(split=split, id=f"{sample.domain}/{split}/{sample.name}")


def _shares(text: str) -> list[int]:
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or sum(map(int, parts)) != 100:
        raise ConfigError(
            f'split "{text}" cannot be used: expected train/valid/test in per cent, as 80/10/10, or one of these words'
        )
    return [int(part) for part in parts]
