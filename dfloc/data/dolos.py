"""A Dolos tree or folder pair -> sample references; which generator is of which family and kind."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from dfloc.data.manifest import Kind, MaskKind, Split
from dfloc.data.mixture import stem_rank
from dfloc.errors import ConfigError, DataError, unknown

SPLITS: tuple[Split, ...] = get_args(Split)
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})

# Generators that are one for a study that holds one out. All others are families of their own.
FAMILIES = {"repaint-p2-9k": "repaint-p2"}

_KINDS: dict[MaskKind, Kind] = {
    "fake_is_black": "local",
    "fake_is_white": "local",
    "real": "real",
    "generated": "full",
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LAYOUT = (
    "expected <source>/fake/<generator>/images|masks/<split>, <source>/real/<split>; splits are train, valid, test"
)


class Sample(NamedTuple):
    """A file of a data set, its mask, and its names (DESIGN: id, pair, stem). A local sample's mask may be missing."""

    id: str
    pair: str
    stem: str
    domain: str
    split: Split
    image: Path
    mask: Path | None
    mask_kind: MaskKind

    @property
    def name(self) -> str:
        """The file name, with the folders inside its split."""
        return self.id.removeprefix(f"{self.domain}/{self.split}/")


def family(domain: str) -> str:
    """Return the family of a domain: holding it out excludes every domain of the same family."""
    generator = domain.partition("/")[2]
    return FAMILIES.get(generator, generator)


def kind(mask_kind: MaskKind) -> Kind:
    """Return the kind of a domain whose masks are of this kind."""
    return _KINDS[mask_kind]


def photograph(name: str) -> str:
    """Return the photograph that a file shows, by its name without extension: `STEM-K` shows `STEM`."""
    return re.sub(r"-\d+$", "", name)


def text(name: str) -> str:
    """Return a file name that can be written as UTF-8: bytes of it that cannot are spelled out."""
    return name.encode(errors="backslashreplace").decode()


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
    if not root.is_dir():
        raise DataError(f"no folder {root}; {_LAYOUT}")
    sources = [root] if _is_source(root) else [folder for folder in _folders(root) if _is_source(folder)]
    if not sources:
        nested = [folder for folder in _folders(root) if any(map(_is_source, _folders(folder)))]
        hint = f"; did you mean {nested[0]}?" if nested else ""
        raise DataError(f"no Dolos tree in {root}: {_LAYOUT}{hint}")
    return in_order(sample for source in sources for sample in _source(source))


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
    _check_domain(domain)
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"no folder {folder}; expected one with images and one with their masks")
    mask_kind: MaskKind = "fake_is_black" if fake_is == "black" else "fake_is_white"
    if any((images / name).is_dir() for name in SPLITS):
        if split is not None:
            raise ConfigError(f"{images} has split folders already; leave out --split")
        return in_order(_with_splits(images, masks, domain, mask_kind))
    samples = list(_files(images, masks, domain, "train", mask_kind))
    if not samples:
        raise DataError(f"no files in {images}; expected images ({', '.join(sorted(EXTENSIONS))})")
    if split is None:
        raise ConfigError(f"{images} has no folders train, valid, test; say how to split: --split 80/10/10")
    return in_order(_split(samples, split))


def _is_source(folder: Path) -> bool:
    return (folder / "fake").is_dir() or (folder / "real").is_dir()


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _source(source: Path) -> Iterator[Sample]:
    name = source.name if source.name not in ("", "..") else source.resolve().name
    if (source / "real").is_dir():
        yield from _with_splits(source / "real", None, f"{name}/real", "real")
    for folder in _folders(source / "fake") if (source / "fake").is_dir() else []:
        domain = f"{name}/{folder.name}"
        if (folder / "images").is_dir():
            if not (folder / "masks").is_dir():
                raise DataError(f"{folder} has images/ but no masks/; {_LAYOUT}")
            yield from _with_splits(folder / "images", folder / "masks", domain, "fake_is_black")
        else:
            yield from _with_splits(folder, None, domain, "generated")


def _with_splits(images: Path, masks: Path | None, domain: str, mask_kind: MaskKind) -> list[Sample]:
    _check_domain(domain, reserved=() if mask_kind == "real" else ("real",))
    for folder in _folders(images):
        if folder.name not in SPLITS:
            raise DataError(f"{folder}: {unknown('split folder', folder.name, SPLITS)}")
    samples = [
        sample
        for split in SPLITS
        if (images / split).is_dir()
        for sample in _files(images / split, masks and masks / split, domain, split, mask_kind)
    ]
    if not samples:
        raise DataError(f"no images of {domain} in {images}; {_LAYOUT}")
    return samples


def _files(images: Path, masks: Path | None, domain: str, split: Split, mask_kind: MaskKind) -> Iterator[Sample]:
    found = {} if masks is None else _masks(masks)
    source = domain.partition("/")[0]
    for path in _walk(images):
        name = text(path.relative_to(images).as_posix())
        bare = name.removesuffix(path.suffix)
        pair, stem = f"{source}/{bare}", f"{source}/{photograph(bare)}"
        mask = found.get(name, found.get(bare))
        yield Sample(f"{domain}/{split}/{name}", pair, stem, domain, split, path, mask, mask_kind)


def _masks(folder: Path) -> dict[str, Path]:
    """Return masks by their name, and by their name without extension (the first of several)."""
    paths = [(text(path.relative_to(folder).as_posix()), path) for path in _walk(folder)]
    bare = {name.removesuffix(path.suffix): path for name, path in reversed(paths)}
    return {**bare, **dict(paths)}


def _walk(folder: Path) -> list[Path]:
    """Return all files below a folder but hidden ones, sorted; each real folder once, so that a link loop ends."""
    seen: set[str] = set()
    files: list[Path] = []
    for top, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(top)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(top, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _check_domain(domain: str, reserved: tuple[str, ...] = ("real",)) -> None:
    source, _, generator = domain.partition("/")
    if not (_NAME.fullmatch(source) and _NAME.fullmatch(generator)) or generator in reserved:
        raise ConfigError(
            f'domain "{domain}" cannot be used: expected <source>/<generator> in letters, digits and . _ -, '
            'the generator not "real"'
        )


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
        raise ConfigError(f'--split "{text}" cannot be used: expected train/valid/test in per cent, as 80/10/10')
    return [int(part) for part in parts]
