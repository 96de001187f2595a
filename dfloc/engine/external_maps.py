"""Probability maps that any other tool made -> the rows that a trial's would have."""

import hashlib
import math
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from upath import UPath

from dfloc.data import masks
from dfloc.data.folders import text, walk
from dfloc.data.manifest import SampleRef
from dfloc.data.shards import MAX_PIXELS, ShardReader, decoding, open_mask, read_truth
from dfloc.engine.evaluate import ImageRow, measure
from dfloc.errors import DataError
from dfloc.ids import SampleId

MAP = "map"  # what TruFor calls its map among others in an archive
PREDICTED = ".prob"  # what dfloc predict puts between an image's name and the ending
SHOWN = 3  # names of each kind of mistake

Prob = npt.NDArray[np.float32]
Lists = Mapping[str, Sequence[SampleRef]]


def score(folder: Path, lists: Lists, data: UPath, protocol: str) -> dict[str, pa.Table]:
    """Score a folder of maps against the truth of images, by a protocol, which also resizes them.

    A map is `NAME.png` (8 or 16 bits of grey, white = fake), `NAME.npy` (floats in [0, 1]) or `NAME.npz` with such an
    array, the only one or called `map`; NAME is the image's name, with or without its extension, in the folders that it
    has in its split; below `<domain>/` or `<domain>/<split>/` where there are several domains. What `dfloc predict`
    writes is understood. A map shows the image as a viewer does, its EXIF orientation applied.

    Args:
        folder: of the maps, walked; files of other endings are passed over.
        lists: the samples of each domain.
        data: of the shards.
        protocol: its name.

    Returns:
        The rows of each domain, as `engine.evaluate.evaluate` gives them; `trial` is `maps:` and a digest of the
        files, `checkpoint` is `none`.

    Raises:
        DataError: the folder is missing, or maps are, or are too many, or cannot be used; names them by their fault.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder} of maps")
    wrong: defaultdict[str, list[str]] = defaultdict(list)
    maps = _find(folder, lists, wrong)
    digest = hashlib.sha256()
    found: dict[str, list[ImageRow]] = {}
    reader = ShardReader(data)
    for domain, refs in lists.items():
        rows = found.setdefault(domain, [])
        for ref in refs:
            if ref.id not in maps:
                wrong["missing"].append(ref.id)
                continue
            try:
                prob_hw = read(maps[ref.id])
            except DataError as error:
                wrong[str(error)].append(text(maps[ref.id].relative_to(folder).as_posix()))
                continue
            truth = read_truth(data, [ref], reader)
            if prob_hw.shape == truth[0].shape[::-1] != truth[0].shape:
                wrong["of the image lying on its side (EXIF orientation)"].append(ref.id)
                continue
            digest.update(ref.id.encode() + prob_hw.tobytes())
            (values,) = measure(torch.from_numpy(prob_hw)[None], truth, protocol)
            rows.append(_names(ref, protocol) | values)
    _refuse(folder, wrong)
    trial = f"maps:{digest.hexdigest()[:12]}"
    return {domain: pa.Table.from_pylist([row | {"trial": trial} for row in rows]) for domain, rows in found.items()}


def read(path: Path) -> Prob:
    """Read one map, float32 [h, w] in [0, 1].

    Raises:
        DataError: it cannot be used; says why without its name.
    """
    prob_hw = READERS[path.suffix.lower()](path)
    if not np.isfinite(prob_hw).all():
        raise DataError("NaN or infinite")
    if prob_hw.size and (prob_hw.min() < 0 or prob_hw.max() > 1):
        raise DataError("outside [0, 1]")
    return prob_hw


def _from_array(path: Path) -> Prob:
    with np.errstate(over="ignore"):
        try:
            values = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:
            raise DataError("no .npy array that can be read") from error
        _check(values.shape, values.dtype)
        return np.array(values, np.float32)


def _from_archive(path: Path) -> Prob:
    """Read the array called `map` of an archive, or the only one that can be a map; what others hold is not looked at.

    Their headers come first: what an archive unpacks to may be any size.
    """
    with np.errstate(over="ignore"):
        try:
            with zipfile.ZipFile(path) as archive:
                found = {name.removesuffix(".npy"): _header(archive, name) for name in archive.namelist()}
                fitting = [name for name, form in found.items() if _is_map(*form)]
                chosen = MAP if MAP in found else fitting[0] if len(fitting) == 1 else None
                if chosen is None:
                    raise DataError(f"an archive of {', '.join(map(text, found)) or 'nothing'}; expected one map in it")
                _check(*found[chosen])
                with archive.open(f"{chosen}.npy") as file:
                    return np.array(np.lib.format.read_array(file, allow_pickle=False), np.float32)
        except DataError:
            raise
        except Exception as error:
            raise DataError("no .npz archive that can be read") from error


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype


def _is_map(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) == 2 and np.issubdtype(dtype, np.floating) and 0 < math.prod(shape) <= MAX_PIXELS


def _check(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not _is_map(shape, dtype):
        raise DataError(f"{dtype} {list(shape)} instead of floats [height, width]")


def _from_image(path: Path) -> Prob:
    picture = open_mask(path.read_bytes(), new=True)
    if picture.orientation != 1:
        raise DataError("turned by an EXIF orientation")
    with decoding():
        try:
            grey = masks.in_grey(picture, colour=0)
        except DataError as error:
            raise DataError(re.split("[:;]", str(error))[0]) from error  # what follows is for masks
        if masks.is_two_valued(grey):
            raise DataError(f"{masks.value_words(grey.values)}, of {grey.white}")
        return (grey.values / grey.white).astype(np.float32)


READERS: dict[str, Callable[[Path], Prob]] = {".png": _from_image, ".npy": _from_array, ".npz": _from_archive}


def _find(folder: Path, lists: Lists, wrong: defaultdict[str, list[str]]) -> dict[str, Path]:
    """Return the map of each image that has one, by the image's id; the others' faults go into `wrong`."""
    id_of = dict(_names_of_maps(lists))
    files = [path for path in walk(folder) if path.suffix.lower() in READERS]
    predicted = {path.with_suffix("").with_suffix("") for path in files if path.with_suffix("").suffix == PREDICTED}
    found: dict[str, Path] = {}
    for path in files:
        bare = path.with_suffix("")
        if bare.suffix == ".overlay" and bare.with_suffix("") in predicted:
            continue
        shown = text(path.relative_to(folder).as_posix())
        name = text(bare.relative_to(folder).as_posix())
        sample = id_of.get(name) or id_of.get(name.removesuffix(PREDICTED))
        if sample is None:
            wrong["of no image"].append(shown)
        elif sample in found:
            wrong["a second one of its image"].append(shown)
        else:
            found[sample] = path
    return found


def _names_of_maps(lists: Lists) -> Iterator[tuple[str, str]]:
    """Yield every name that a map may have, without its ending, and the id of the image that it is then of."""
    for domain, refs in lists.items():
        names = {ref.id: SampleId.of(ref.id) for ref in refs}
        times = Counter(name.bare for name in names.values())
        for ref in refs:
            own = names[ref.id]
            for name in (own.file, *([own.bare] if times[own.bare] == 1 else [])):
                yield f"{domain}/{ref.split}/{name}", ref.id
                yield f"{domain}/{name}", ref.id
                if len(lists) == 1:
                    yield name, ref.id


def _names(ref: SampleRef, protocol: str) -> ImageRow:
    return {
        "id": ref.id,
        "stem": ref.stem,
        "domain": ref.domain,
        "split": ref.split,
        "condition": "clean",
        "protocol": protocol,
        "checkpoint": "none",
    }


def _refuse(folder: Path, wrong: Mapping[str, Sequence[str]]) -> None:
    if not wrong:
        return
    faults = []
    for fault, names in wrong.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        faults.append(f"{len(names)} {fault}: {', '.join(names[:SHOWN])}{more}")
    raise DataError(
        f"maps in {folder}: {'; '.join(faults)}. Expected for each image one NAME.png (8 or 16 bits of grey, white = "
        "fake), NAME.npy (floats in [0, 1]) or NAME.npz (the same, called map); of pictures in two values, 0 and white"
    )
