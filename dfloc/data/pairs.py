"""A folder of images and a folder of their masks -> the sample references of a domain of one's own."""

import hashlib
import re
from pathlib import Path
from typing import Literal

from dfloc.data.dolos import EXTENSIONS, SPLITS, Sample, check_domain, files, in_order, with_splits
from dfloc.data.manifest import MaskKind, Split
from dfloc.errors import ConfigError, DataError

_WRITTEN = re.compile(r"(?P<domain>[^=]+)=(?P<folder>.+?),fake=(?P<fake>black|white)(,split=(?P<split>[^,=]*))?")


def read_pair(written: str) -> list[Sample]:
    """Return the samples of a pair as a command line names it: `mine/sd=FOLDER,fake=white,split=80/10/10`.

    FOLDER has images/ and masks/; `split` is left out where these have split folders.

    Raises:
        ConfigError: it cannot be understood; else as `scan_pair`.
        DataError: as `scan_pair`.
    """
    found = _WRITTEN.fullmatch(written)
    if found is None:
        raise ConfigError(
            f'"{written}" names no folder pair: expected <source>/<generator>=FOLDER,fake=black|white, '
            "and ,split=80/10/10 where FOLDER/images has no folders train, valid, test"
        )
    folder = Path(found["folder"])
    fake_is: Literal["black", "white"] = "black" if found["fake"] == "black" else "white"
    return scan_pair(folder / "images", folder / "masks", found["domain"], fake_is, found["split"])


def scan_pair(
    images: Path,
    masks: Path,
    domain: str,
    fake_is: Literal["black", "white"],
    split: str | None = None,
) -> list[Sample]:
    """Return the samples of a folder of images and a folder of masks, by split and stems rank.

    Args:
        images: with folders train, valid, test, or without.
        masks: the same inside; a mask has the name of its image, with any extension.
        domain: `<source>/<generator>`.
        fake_is: the fake side of the masks.
        split: shares of the photographs in per cent, `80/10/10`, where `images` has no split folders.

    Raises:
        ConfigError: domain or split cannot be understood, or split is needed, or given where there are split folders.
        DataError: a folder is missing or empty.
    """
    check_domain(domain)
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"no folder {folder}; expected one with images and one with their masks")
    mask_kind: MaskKind = "fake_is_black" if fake_is == "black" else "fake_is_white"
    if any((images / name).is_dir() for name in SPLITS):
        if split is not None:
            raise ConfigError(f"{images} has split folders already; leave out the split")
        return in_order(with_splits(images, masks, domain, mask_kind))
    samples = list(files(images, masks, domain, "train", mask_kind))
    if not samples:
        raise DataError(f"no files in {images}; expected images ({', '.join(sorted(EXTENSIONS))})")
    if split is None:
        raise ConfigError(f"{images} has no folders train, valid, test; say how to split them: split 80/10/10")
    return in_order(_split(samples, split))


def _split(samples: list[Sample], shares: str) -> list[Sample]:
    """Give each photograph to a split, by a hash of its name, so that the split has the share that was asked."""
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
        raise ConfigError(f'split "{text}" cannot be used: expected train/valid/test in per cent, as 80/10/10')
    return [int(part) for part in parts]
