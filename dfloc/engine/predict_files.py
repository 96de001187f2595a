"""Photographs by the names that a user gives -> files of what is said of each."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from upath import UPath

from dfloc import storage
from dfloc.data.folders import EXTENSIONS, text, walk
from dfloc.data.shards import Pixels, decode_image
from dfloc.engine.predict import Prediction
from dfloc.errors import ConfigError, DataError, DflocError, DiskFullError

HALF = 0.5  # over which a pixel is called fake beside an image that is called

TINT = (255, 0, 0)
OUTLINE = (255, 255, 0)
STRENGTH = 0.6  # of the tint where the probability is 1
OUTPUTS = (".prob.png", ".overlay.png")
MAX_JSON = 1 << 20  # bytes; what was said of a photograph is shorter
SAME = ("image_sha256", "trial", "checkpoint")


class PhotoFiles(NamedTuple):
    """A photograph, and where below the output folder its files go, without what they end in."""

    path: Path
    name: str

    @property
    def shown(self) -> str:
        """The path as a screen and JSON can show it."""
        return text(str(self.path))


class PhotoOutcome(NamedTuple):
    """A photograph, what is wrong with it (empty: nothing), and what its JSON says (empty where it is wrong)."""

    photo: PhotoFiles
    wrong: str
    facts: Mapping[str, Any]


def find(given: Sequence[Path]) -> tuple[list[PhotoFiles], list[Path]]:
    """Return the photographs that files and folders name, each once, and the other files of the folders.

    A file of a folder keeps its place below that folder. Photographs of one name are told apart by the first digits
    of the sha256 of their paths.

    Args:
        given: files, of any extension; folders, whose hidden files and earlier outputs are left out.

    Raises:
        ConfigError: one is not there, or there is no photograph at all.
        DataError: a folder cannot be listed.
    """
    found: dict[Path, Path] = {}
    others: list[Path] = []
    for path in given:
        if path.is_dir():
            for file in (file for file in walk(path) if not _is_output(file)):
                if file.suffix.lower() in EXTENSIONS:
                    found.setdefault(file.absolute(), file.relative_to(path).with_suffix(""))
                else:
                    others.append(file)
        elif path.is_file():
            found.setdefault(path.absolute(), Path(path.stem))
        else:
            raise ConfigError(f"no file or folder {path}; name images or folders of them")
    if not found:
        raise ConfigError(f"no images in {', '.join(map(str, given))}; expected {', '.join(sorted(EXTENSIONS))}")
    times = Counter(str(name).casefold() for name in found.values())
    photos = []
    for path, name in found.items():
        digits = "" if times[str(name).casefold()] == 1 else f"-{_sha256(os.fsencode(path))[:8]}"
        photos.append(PhotoFiles(path, f"{name.as_posix()}{digits}"))
    return photos, others


def predict(
    predictor: Callable[[Pixels], Prediction], photos: Sequence[PhotoFiles], out: Path, trial_facts: Mapping[str, Any]
) -> Iterator[PhotoOutcome]:
    """Write `NAME.prob.png`, `NAME.overlay.png` and, when both are there, `NAME.json` for each photograph.

    A model that gives no map has the JSON alone.

    Args:
        predictor: the trial.
        photos: as `find` gives them.
        out: the output folder.
        trial_facts: what the JSON says of the trial; `threshold` is that of area and outline, or of the score: a map
            beside is cut at 0.5.

    Yields:
        What came of each photograph.

    Raises:
        DiskFullError: there is no room for the files; no other photograph is tried.
    """
    for photo in photos:
        try:
            found = _predict(predictor, photo, out, trial_facts)
        except DiskFullError:
            raise
        except (DflocError, OSError) as error:
            yield PhotoOutcome(photo, str(error), {})
        else:
            yield PhotoOutcome(photo, "", found)


def _predict(
    predictor: Callable[[Pixels], Prediction], photo: PhotoFiles, out: Path, trial_facts: Mapping[str, Any]
) -> Mapping[str, Any]:
    data = photo.path.read_bytes()
    facts = {"image": photo.shown, "image_sha256": _sha256(data), **trial_facts}
    _refuse_other(UPath(out) / f"{photo.name}.json", facts)
    image_HWC = decode_image(data, new=True)
    said = predictor(image_HWC)
    facts |= {"width": image_HWC.shape[1], "height": image_HWC.shape[0]}
    if said.probabilities:
        called = said.called(trial_facts["threshold"])
        facts |= {"score": said.score, "called": called, "probabilities": dict(said.probabilities)}
    if said.routed:
        facts |= {"routed": said.routed, "part": said.part, "routing": dict(said.routing)}
    if said.prob_HW is not None:
        threshold = HALF if said.probabilities else trial_facts["threshold"]  # the latter is of the score
        prob_HW = said.prob_HW.numpy()
        facts |= {"mean_prob": said.mean, "area": said.area(threshold)}
        _put(out, f"{photo.name}.prob.png", Image.fromarray(np.round(prob_HW * 255).astype(np.uint8)))
        _put(out, f"{photo.name}.overlay.png", overlay(image_HWC, prob_HW, threshold))
    storage.put_json(UPath(out) / f"{photo.name}.json", facts)
    return facts


def overlay(image_HWC: Pixels, prob_HW: npt.NDArray[np.float32], threshold: float) -> Image.Image:
    """Return the photograph, the redder the more probably generated, with a yellow line around what is above."""
    picture = Image.fromarray(image_HWC)
    picture.paste(TINT, mask=Image.fromarray(np.round(prob_HW * (255 * STRENGTH)).astype(np.uint8)))
    called_HW = (prob_HW > threshold).astype(np.uint8) * 255
    width = 1 + min(called_HW.shape) // 512
    inner_HW = cv2.erode(called_HW, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    picture.paste(OUTLINE, mask=Image.fromarray(called_HW - inner_HW))
    return picture


def _refuse_other(path: UPath, facts: Mapping[str, Any]) -> None:
    """Refuse to write over what another photograph, trial or checkpoint left."""
    if not path.exists():
        return
    there = storage.get_json(path)
    other = [key for key in SAME if not isinstance(there, dict) or there.get(key) != facts[key]]
    if other:
        raise DataError(f"{path} is of another {other[0].removesuffix('_sha256')}; choose another --out, or delete it")


def _put(out: Path, name: str, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    storage.put(UPath(out) / name, buffer.getvalue())


def _is_output(path: Path) -> bool:
    """Return whether an earlier command wrote a file."""
    if path.suffix != ".json":
        return path.name.endswith(OUTPUTS)
    return path.with_suffix(OUTPUTS[0]).exists() or _says_of_photograph(path)


def _says_of_photograph(path: Path) -> bool:
    """Return whether a JSON is what was said of a photograph."""
    try:
        there = storage.get_json(UPath(path)) if path.stat().st_size <= MAX_JSON else None
    except (DflocError, OSError):
        return False
    return isinstance(there, dict) and {*SAME, "image"} <= there.keys()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
