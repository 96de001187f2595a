"""A list of samples -> their references: the files that it names, one to one, or refused with the line."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dfloc.data import mask_matching, sample_table
from dfloc.data.dolos import SPLITS, Sample, has_splits, reference, refuse_other_case, same_folder
from dfloc.data.folders import is_folder, is_image, names_in, text
from dfloc.data.manifest import MaskKind, Split
from dfloc.data.sample_table import SampleRow
from dfloc.data.source_images import TABLE, Rule
from dfloc.errors import DataError
from dfloc.ids import bare


class SampleTable(NamedTuple):
    """Where a list is, where its files may lie beside it, and what its images and masks are.

    Attributes:
        path: of the list.
        images: a folder in which, or beside which, images may be; a column of its name has them.
        masks: the same of masks.
        domain: of the images with a mask; the others are of `<source>/real`.
        mask_kind: of the masks.
        named: masks' names where the list has no column of them, as `mask_matching.find` has it.
        tell: the photograph of an image where no column says it.
    """

    path: Path
    images: Path
    masks: Path
    domain: str
    mask_kind: MaskKind
    named: str
    tell: Rule

    def samples(self) -> tuple[list[Sample], bool]:
        """Return the samples in the order of the list, and whether it, or the images' folders, say their splits.

        Raises:
            DataError: the list cannot be understood, or names what is not there or more than once.
        """
        folders = {self.images.name: "image", self.masks.name: "mask"}
        rows = sample_table.read(
            self.path, folders, lambda name: bool(_at(name, self._places(self.images))), self._is_another
        )
        if rows[0].split is None:
            refuse_other_case(self.images)
        files = self._files(rows)
        self._refuse_doubles(rows, files)
        self._refuse_swapped(rows, files)
        kept = {file["image"]: (row, file) for row, file in zip(rows, files, strict=True)}
        found = [self._sample(row, file) for row, file in kept.values()]
        if rows[0].mask is not None and self.named != mask_matching.NAME:
            raise self._error("it has a column of masks; leave out the mask name, or the column")
        if rows[0].mask is None:
            found = self._by_name(found)
        self._refuse_shared(rows, files, {sample.image: sample.stem for sample in found})
        return found, rows[0].split is not None or has_splits(self.images)

    def _places(self, folder: Path) -> list[Path]:
        return [self.path.parent, folder, folder.parent]

    def _is_another(self, name: str, image: str) -> bool:
        """Return whether a cell names an image file that is not the one of its row."""
        if not is_image(name):
            return False
        own = set(map(os.path.realpath, _at(image, self._places(self.images))))
        found = set(map(os.path.realpath, _at(name, [*self._places(self.images), self.masks])))
        return bool(found) and not found & own

    def _files(self, rows: Sequence[SampleRow]) -> list[dict[str, Path]]:
        """Return the files of each row by their meaning."""
        found: list[dict[str, Path]] = []
        missing: list[str] = []
        for row in rows:
            found.append({})
            for meaning, name in (("image", row.image), ("mask", row.mask), ("original", row.original)):
                places = self._places(self.masks if meaning == "mask" else self.images)
                paths = _at(name, places) if name else []
                if len(paths) > 1:
                    raise self._error(f"line {row.line}: {name} is there twice: {' and '.join(map(str, paths))}")
                if paths:
                    found[-1][meaning] = paths[0]
                elif name:
                    none = "; write nothing or Negative where nothing is fake"
                    missing.append(
                        f'line {row.line} names "{text(name)[:80]}", which is neither in {places[0]} nor in {places[1]}'
                        f"{none if meaning == 'mask' and not is_image(name) else ''}"
                    )
        if missing:
            more = f" (and {len(missing) - 1} more files are not there)" if len(missing) > 1 else ""
            raise self._error(f"{missing[0]}{more}")
        return found

    def _refuse_doubles(self, rows: Sequence[SampleRow], files: Sequence[dict[str, Path]]) -> None:
        """Refuse two rows of one image that differ, and a file that is image and mask."""
        first: dict[Path, int] = {}
        masks = {file["mask"]: row.line for row, file in zip(rows, files, strict=True) if "mask" in file}
        for place, (row, file) in enumerate(zip(rows, files, strict=True)):
            if file["image"] in masks:
                raise self._error(f"{row.image} is an image in line {row.line}, a mask in line {masks[file['image']]}")
            other = first.setdefault(file["image"], place)
            if files[other] != file or rows[other][3:5] != row[3:5]:
                raise self._error(f"lines {rows[other].line} and {row.line} name {row.image} and differ; leave one")

    def _refuse_swapped(self, rows: Sequence[SampleRow], files: Sequence[dict[str, Path]]) -> None:
        """Refuse an image that lies in the folder of masks, as where a list without a head has the mask first."""
        images, masks = _plain(self.images), _plain(self.masks)
        if images.is_relative_to(masks):
            return
        for row, file in zip(rows, files, strict=True):
            if _plain(file["image"]).is_relative_to(masks):
                raise self._error(
                    f"line {row.line}: the image {row.image} lies in the folder of masks, {self.masks}; put a head "
                    "over the columns, image and mask, in their order"
                )

    def _refuse_shared(
        self, rows: Sequence[SampleRow], files: Sequence[dict[str, Path]], stems: dict[Path, str]
    ) -> None:
        """Refuse a mask of images of several photographs."""
        first: dict[Path, tuple[int, Path]] = {}
        for row, file in zip(rows, files, strict=True):
            if "mask" in file:
                line, image = first.setdefault(file["mask"], (row.line, file["image"]))
                if stems[image] != stems[file["image"]]:
                    raise self._error(
                        f"lines {line} and {row.line} give the mask {row.mask} to two images; if both show one "
                        "photograph, say so: by a column photograph, or --photograph (photograph= in --own)"
                    )

    def _sample(self, row: SampleRow, files: dict[str, Path]) -> Sample:
        name, split = self._name(files["image"])
        if split is None and row.split is None and has_splits(self.images):
            raise self._error(f"line {row.line}: {row.image} lies in no folder train, valid, test of {self.images}")
        source = self.domain.partition("/")[0]
        real = row.mask == ""
        domain, kind = f"{source}/real" if real else self.domain, "real" if real else self.mask_kind
        found = reference(name, files["image"], domain, row.split or split or "train", kind)
        shown = row.photograph and _without_ending(row.photograph)
        if not real or shown:
            found = found._replace(stem=f"{source}/{shown or self.tell(bare(name))}")
        return found._replace(
            mask=files.get("mask"), original=files.get("original"), photograph=TABLE if shown else None
        )

    def _name(self, image: Path) -> tuple[str, Split | None]:
        """Return the name that a file has in its split, and the split that its folder says."""
        path = _plain(image)
        for folder in (self.images, self.path.parent, self.images.parent, Path(path.anchor)):
            if path.is_relative_to(_plain(folder)):
                name = path.relative_to(_plain(folder)).as_posix()
                head, _, rest = name.partition("/")
                for split in SPLITS if folder == self.images and has_splits(folder) else ():
                    if head == split:
                        return text(rest), split
                return text(name), None
        raise AssertionError(f"{path} lies below its own anchor")

    def _by_name(self, samples: list[Sample]) -> list[Sample]:
        """Give samples the masks of their names."""
        if not is_folder(self.masks):
            raise self._error(f"it has no column of masks, and there is no folder {self.masks} of them")
        same_folder(self.images, self.masks, self.named)
        at = names_in(self.masks)
        images = [os.path.relpath(sample.image, self.images) for sample in samples]
        found = mask_matching.find(images, list(filter(is_image, at)), self.named)
        return [
            sample._replace(mask=at.get(found[name].mask or ""), fault=found[name].fault)
            for name, sample in zip(images, samples, strict=True)
        ]

    def _error(self, what: str) -> DataError:
        return DataError(f"table {self.path}: {what}")


def _at(name: str, folders: Sequence[Path]) -> list[Path]:
    """Return the files of that name in any of the folders, each once."""
    found: dict[str, Path] = {}
    for folder in folders:
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            try:
                if (folder / spelled).is_file():
                    found.setdefault(os.path.realpath(folder / spelled), Path(os.path.normpath(folder / spelled)))
            except (OSError, ValueError):  # too long, or no name at all
                continue
    return list(found.values())


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _without_ending(name: str) -> str:
    return bare(name) if is_image(name) else name
