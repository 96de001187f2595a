"""Probability maps that any other tool made -> the rows that a trial's would have."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image
from upath import UPath

from dfloc.data.folders import text, walk
from dfloc.data.manifest import SampleRef
from dfloc.data.shards import MAX_PIXELS, ShardReader, open_image, read_truth
from dfloc.engine.evaluate import Row, measure
from dfloc.errors import DataError

ENDINGS = (".png", ".npy")
PREDICTED = ".prob"  # what dfloc predict puts between an image's name and the ending
SHOWN = 3  # names of each kind of mistake

Prob = npt.NDArray[np.float32]
Lists = Mapping[str, Sequence[SampleRef]]


def score(folder: Path, lists: Lists, data: UPath, protocol: str) -> dict[str, pa.Table]:
    """Score a folder of maps against the truth of images, by a protocol, which also resizes them.

    A map is `NAME.png` (8 or 16 bits of grey, white = fake) or `NAME.npy` (floats in [0, 1]); NAME is the image's name,
    with or without its extension, in the folders that it has in its split; below `<domain>/` or `<domain>/<split>/`
    where there are several domains. What `dfloc predict` writes is understood.

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
    found: dict[str, list[Row]] = {}
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
            digest.update(ref.id.encode() + prob_hw.tobytes())
            (values,) = measure(torch.from_numpy(prob_hw)[None], read_truth(data, [ref], reader), protocol)
            rows.append(_names(ref, protocol) | values)
    _refuse(folder, wrong)
    trial = f"maps:{digest.hexdigest()[:12]}"
    return {domain: pa.Table.from_pylist([row | {"trial": trial} for row in rows]) for domain, rows in found.items()}


def read(path: Path) -> Prob:
    """Read one map, float32 [h, w] in [0, 1].

    Raises:
        DataError: it cannot be used; says why without its name.
    """
    prob_hw = _from_array(path) if path.suffix.lower() == ".npy" else _from_image(path)
    if not np.isfinite(prob_hw).all():
        raise DataError("NaN or infinite")
    if prob_hw.size and (prob_hw.min() < 0 or prob_hw.max() > 1):
        raise DataError("outside [0, 1]")
    return prob_hw


def _from_array(path: Path) -> Prob:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError("no .npy array that can be read") from error
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating) or not 0 < values.size <= MAX_PIXELS:
        raise DataError(f"{values.dtype} {list(values.shape)} instead of floats [height, width]")
    return np.array(values, np.float32)


def _from_image(path: Path) -> Prob:
    image = open_image(path.read_bytes())
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("32-bit grey values")
        return (values / 65535).astype(np.float32)
    return (_grey(image) / 255).astype(np.float32)


def _grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    values_HWC = np.asarray(image.convert("RGBA"))
    if values_HWC[..., 3].min() < 255:
        raise DataError("transparent")
    if np.ptp(values_HWC[..., :3], axis=2).any():
        raise DataError("in colours")
    return values_HWC[..., 0]


def _find(folder: Path, lists: Lists, wrong: defaultdict[str, list[str]]) -> dict[str, Path]:
    """Return the map of each image that has one, by the image's id; the others' faults go into `wrong`."""
    id_of = dict(_names_of_maps(lists))
    files = [path for path in walk(folder) if path.suffix.lower() in ENDINGS]
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
        names = {ref.id: ref.id.split("/", 3)[3] for ref in refs}
        bare = {id_: name.rpartition(".")[0] or name for id_, name in names.items()}
        times = Counter(bare.values())
        for ref in refs:
            alone = [bare[ref.id]] if times[bare[ref.id]] == 1 else []
            for name in (names[ref.id], *alone):
                yield f"{domain}/{ref.split}/{name}", ref.id
                yield f"{domain}/{name}", ref.id
                if len(lists) == 1:
                    yield name, ref.id


def _names(ref: SampleRef, protocol: str) -> Row:
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
        "fake) or NAME.npy (floats in [0, 1])"
    )
