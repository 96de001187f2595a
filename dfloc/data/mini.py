"""The built-in mini-Dolos: a small data set in Dolos' folder layout, made from photographs that the libraries ship."""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt
from upath import UPath

from dfloc import disk, registry
from dfloc.data.generators import GENERATORS, WHOLE, Generator, Pixels, draw_mask
from dfloc.errors import ConfigError, DataError
from dfloc.repro import seed_of
from dfloc.storage import get_json, put_json

Split = Literal["train", "valid", "test"]
Lacking = Literal["all", "whole", ""]

SIZE = 256
SCALE = (0.6, 1.0)
SEMANTICS = 2  # 1 had no domains of WHOLE, all else is the same

SKIMAGE, SKLEARN, MATPLOTLIB = "skimage/data", "sklearn/datasets/images", "matplotlib/mpl-data/sample_data"

# Photograph -> its files. A stereo pair is one photograph: both halves show the same scene.
PHOTOGRAPHS: Mapping[str, tuple[str, ...]] = {
    "astronaut": (f"{SKIMAGE}/astronaut.png",),
    "brick": (f"{SKIMAGE}/brick.png",),
    "camera": (f"{SKIMAGE}/camera.png",),
    "chelsea": (f"{SKIMAGE}/chelsea.png",),
    "china": (f"{SKLEARN}/china.jpg",),
    "coffee": (f"{SKIMAGE}/coffee.png",),
    "coins": (f"{SKIMAGE}/coins.png",),
    "flower": (f"{SKLEARN}/flower.jpg",),
    "grace_hopper": (f"{MATPLOTLIB}/grace_hopper.jpg",),
    "grass": (f"{SKIMAGE}/grass.png",),
    "gravel": (f"{SKIMAGE}/gravel.png",),
    "hubble": (f"{SKIMAGE}/hubble_deep_field.jpg",),
    "ihc": (f"{SKIMAGE}/ihc.png",),
    "moon": (f"{SKIMAGE}/moon.png",),
    "motorcycle": (f"{SKIMAGE}/motorcycle_left.png", f"{SKIMAGE}/motorcycle_right.png"),
    "rocket": (f"{SKIMAGE}/rocket.jpg",),
}

# Four groups of equal make-up: two colour scenes, and two that are grey or technical. Fold f tests on group f,
# validates on the next and trains on the other two, so that every photograph is tested on in one fold. Left out:
# retina (a third of it is black) and clock_motion (nothing but blur), where most generators leave no trace.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("coffee", "grace_hopper", "camera", "grass"),
    ("chelsea", "china", "coins", "ihc"),
    ("astronaut", "flower", "gravel", "moon"),
    ("rocket", "motorcycle", "brick", "hubble"),
)


class Crop(NamedTuple):
    """One image to be: crop `k` of a photograph, in a split."""

    stem: str
    k: int
    split: Split

    @property
    def name(self) -> str:
        """File name, as in Dolos: photograph and number."""
        return f"{self.stem}-{self.k}.png"


def photographs(split: Split, fold: int = 0) -> tuple[str, ...]:
    """Return the photographs of a split; no two splits share one.

    Raises:
        DataError: there is no such fold.
    """
    if fold not in range(len(GROUPS)):
        raise DataError(f"fold {fold} of the mini data does not exist; use 0 to {len(GROUPS) - 1}")
    turned = GROUPS[fold:] + GROUPS[:fold]
    members = {"test": turned[:1], "valid": turned[1:2], "train": turned[2:]}[split]
    return tuple(stem for group in members for stem in group)


def make(
    out: Path,
    *,
    seed: int = 0,
    train: int = 160,
    valid: int = 40,
    test: int = 40,
    fold: int = 0,
    more: Mapping[str, Generator] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the mini-Dolos: four generators, the real images and wholly generated ones, of the same crops.

    `<out>/mini/fake/<generator>/{images,masks}/<split>/<photograph>-<k>.png`, `<out>/mini/real/<split>/...`,
    `<out>/mini/fake/renoise-full/<split>/...`: images 256x256 RGB, masks 0 = fake, 255 = real, the same in each
    generator. A crop depends on the seed, its photograph and its number alone: larger counts add files and change
    none. `<out>/mini.json` holds the request; the same one again does nothing, finishes what was interrupted, or puts
    beside data of an earlier version what these lack.

    Args:
        out: folder: new, empty, or with the same mini data.
        seed: of crops, masks and noise.
        train: images of each domain in the training split.
        valid: the same for validation.
        test: the same for the test.
        fold: which photographs are in which split, 0 to 3.
        more: generators beside the built-in ones, by name.
        on_progress: called with the number of finished crops and of all.

    Raises:
        ConfigError: one of `more` has the name of another domain.
        DataError: a count is below 1, there is no such fold, a generator of `more` gave no image, `out` holds
            something else or cannot be written, or a photograph is missing from its package.
    """
    counts: dict[Split, int] = {"train": train, "valid": valid, "test": test}
    crops = [crop for split, count in counts.items() for crop in _crops(split, count, fold)]
    request: dict[str, object] = {"dataset": "mini", "semantics": SEMANTICS, "seed": seed, "fold": fold} | dict(counts)
    generators = _with(more or {})
    if more:
        request["generators"] = {name: registry.plugin_of("generator", name) for name in sorted(more)}
    lacks = _lacks(out, request)
    if not lacks:
        return
    sources = {stem: [_read(file) for file in PHOTOGRAPHS[stem]] for stem in {crop.stem for crop in crops}}
    try:
        put_json(UPath(out / "mini.json"), request | {"finished": False})
        with disk.room(out):
            for done, _ in enumerate(_written(out, crops, sources, seed, generators, lacks), start=1):
                if on_progress:
                    on_progress(done, len(crops))
        put_json(UPath(out / "mini.json"), request | {"finished": True})
    except OSError as error:
        raise DataError(f"cannot write the mini data to {out}: {error}; name another folder") from error


def _crops(split: Split, count: int, fold: int) -> list[Crop]:
    if count < 1:
        raise DataError(f"{split} of the mini data must be at least 1 image, not {count}")
    stems = photographs(split, fold)
    return [Crop(stems[index % len(stems)], index // len(stems), split) for index in range(count)]


def _lacks(out: Path, request: Mapping[str, object]) -> Lacking:
    """Return what is to be written: all, whole (the wholly generated images alone) or nothing.

    Raises:
        DataError: something else is there.
    """
    if not out.exists():
        return "all"
    marker = out / "mini.json"
    if not out.is_dir() or (not marker.exists() and any(out.iterdir())):
        raise DataError(f"{out} holds something that is not the mini data; name a new or an empty folder")
    if not marker.exists():
        return "all"
    found = get_json(UPath(marker))
    asked = {key: value for key, value in found.items() if key != "finished"} if isinstance(found, dict) else {}
    if not isinstance(found, dict) or asked not in (request, {**request, "semantics": 1}):
        raise DataError(
            f"{out} holds other mini data ({found}), wanted {dict(request)}; name another folder, or delete it"
        )
    if not found.get("finished"):
        return "all"
    return "" if asked == request else "whole"


def _read(file: str) -> Pixels:
    """Return a photograph from inside an installed package, RGB."""
    package, _, inside = file.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"the mini data need the package {package}, which is not installed; install dfloc's dependencies"
        )
    path = Path(spec.submodule_search_locations[0]) / inside
    image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.exists() else None
    if image is None:
        raise DataError(
            f"the mini data need the photograph {path}, which is missing or unreadable; reinstall {package}"
        )
    return cast(Pixels, image[..., ::-1])


def _with(more: Mapping[str, Generator]) -> dict[str, Generator]:
    taken = sorted({*GENERATORS, *WHOLE, "real"} & more.keys())
    if taken:
        raise ConfigError(f"the generator {taken[0]} is built in already; give yours another name")
    return {**GENERATORS, **more}


def _written(
    out: Path,
    crops: list[Crop],
    sources: Mapping[str, list[Pixels]],
    seed: int,
    generators: Mapping[str, Generator],
    lacks: Lacking,
) -> Iterator[None]:
    """Write the crops, several at a time; yield once for each."""
    parts = [f"fake/{name}" for name in WHOLE]
    if lacks == "all":
        parts += ["real", *(f"fake/{name}/{part}" for name in generators for part in ("images", "masks"))]
    for split in {crop.split for crop in crops}:
        for part in parts:
            (out / "mini" / part / split).mkdir(parents=True, exist_ok=True)

    def write(crop: Crop) -> None:
        rng = np.random.default_rng(seed_of("mini", seed, crop.stem, crop.k))
        image_HWC = _cut(sources[crop.stem][rng.integers(len(sources[crop.stem]))], rng)
        if lacks == "all":
            _write(out, crop, image_HWC, draw_mask(SIZE, rng), seed, generators)
        _write_whole(out, crop, image_HWC, seed)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(write, crops)


def _write(
    out: Path,
    crop: Crop,
    image_HWC: Pixels,
    mask_HW: npt.NDArray[np.bool_],
    seed: int,
    generators: Mapping[str, Generator],
) -> None:
    """Write the real image of a crop, and each generator's image and mask."""
    _save(out / "mini" / "real" / crop.split / crop.name, image_HWC)
    for name, generate in generators.items():
        made_HWC = _made(name, generate, image_HWC, mask_HW, _noise(crop, seed, name))
        folder = out / "mini" / "fake" / name
        _save(folder / "images" / crop.split / crop.name, np.where(mask_HW[..., None], made_HWC, image_HWC))
        _save(folder / "masks" / crop.split / crop.name, np.where(mask_HW, 0, 255).astype(np.uint8))


def _write_whole(out: Path, crop: Crop, image_HWC: Pixels, seed: int) -> None:
    """Write what is generated of a crop all over, which has no mask."""
    everywhere_HW = np.ones((SIZE, SIZE), bool)
    for name, generate in WHOLE.items():
        made_HWC = generate(image_HWC, everywhere_HW, _noise(crop, seed, name))
        _save(out / "mini" / "fake" / name / crop.split / crop.name, made_HWC)


def _noise(crop: Crop, seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(seed_of("mini", seed, crop.stem, crop.k, name))


def _made(
    name: str, generate: Generator, image_HWC: Pixels, mask_HW: npt.NDArray[np.bool_], noise: np.random.Generator
) -> Pixels:
    """Return what a generator makes, and judge it: it may be a user's own."""
    try:
        made_HWC = generate(image_HWC.copy(), mask_HW.copy(), noise)
    except Exception as error:
        raise DataError(f"generator {name} failed: {type(error).__name__}: {error}") from error
    right = isinstance(made_HWC, np.ndarray) and made_HWC.dtype == np.uint8 and made_HWC.shape == image_HWC.shape
    if not right:
        told = f"{made_HWC.dtype} {list(made_HWC.shape)}" if hasattr(made_HWC, "shape") else type(made_HWC).__name__
        raise DataError(f"generator {name} should give uint8 {list(image_HWC.shape)}, but gave {told}")
    return made_HWC


def _cut(image_HWC: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a random square, 0.6 to 1 of the short side, mirrored or not, shrunk (never enlarged) to 256."""
    height, width = image_HWC.shape[:2]
    side = max(SIZE, round(rng.uniform(*SCALE) * min(height, width)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop_HWC = image_HWC[top : top + side, left : left + side]
    if rng.integers(2):
        crop_HWC = crop_HWC[:, ::-1]
    return cast(Pixels, cv2.resize(np.ascontiguousarray(crop_HWC), (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def _save(path: Path, image: Pixels) -> None:
    _, code = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    path.write_bytes(code.tobytes())
