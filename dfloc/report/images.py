"""The images of a panel: made from shards, stored features and weights, kept as small files, and drawn for a page.

What was made lies in `reports/<sweep>/panel/`, so that a second report does no work and needs no data. It is made on
the CPU, as evaluation makes it; what cannot be reached is told. A kept file that is damaged is made again.
"""

import hashlib
import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from upath import UPath

from dfloc import storage
from dfloc.data import sample_lists
from dfloc.errors import DataError, DflocError, WorkspaceError
from dfloc.report.results import Result
from dfloc.storage import Workspace

if TYPE_CHECKING:
    import torch

    from dfloc.config import ExplainSpec
    from dfloc.data.manifest import SampleRef

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

DRAWN = 160  # side of an image, in pixels
GREYS = 14  # levels of a map on a page: with two colours of the outline no more than a small palette
LINE, EDGE = (
    (255, 214, 10),
    (0, 0, 0),
)  # around the truth: a bright line with a dark one outside; one is seen on any ground
LIMIT_S = 60.0  # no model is begun after so many seconds
LOST = (DflocError, OSError, RuntimeError, ValueError)  # what a file that is gone or broken ends in
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One test image; `digest`: of the test list that it stands in."""

    id: str
    domain: str
    digest: str

    @property
    def key(self) -> str:
        """What its files are called: another import of the data has other digests."""
        return hashlib.sha256(f"{self.digest}\x1f{self.id}".encode()).hexdigest()[:24]


class Kept:
    """The files of a panel.

    Args:
        folder: that they lie in.
    """

    def __init__(self, folder: UPath):
        self._folder = folder
        self._read = cache(_read)

    def photograph(self, sample: Sample) -> Pixels | None:
        """Return the photograph, RGB, uint8 [160, 160, 3]; None: it is not kept, or damaged."""
        return self._read(self._folder / f"{sample.key}.jpg", "RGB")

    def truth(self, sample: Sample) -> Pixels | None:
        """Return the fakeness, uint8 [160, 160]; None as above."""
        return self._read(self._folder / f"{sample.key}.truth.png", "L")

    def map(self, sample: Sample, model: Result) -> Pixels | None:
        """Return the probabilities of a model, uint8 [160, 160], 255 = 1; None as above."""
        return self._read(self._folder / f"{sample.key}.{model.trial.fingerprint[:24]}.png", "L")

    def bare(self, sample: Sample) -> bool:
        """Return whether the photograph or its truth is not kept."""
        return self.photograph(sample) is None or self.truth(sample) is None

    def put(self, sample: Sample, image: Pixels, fakeness_HW: Pixels) -> None:
        """Keep a photograph and its truth, of any size."""
        storage.put(self._folder / f"{sample.key}.jpg", _small(image, "JPEG", quality=92))
        storage.put(self._folder / f"{sample.key}.truth.png", _small(fakeness_HW, "PNG"))
        self._read.cache_clear()

    def put_map(self, sample: Sample, model: Result, grey_HW: Pixels) -> None:
        """Keep a map of any size."""
        path = self._folder / f"{sample.key}.{model.trial.fingerprint[:24]}.png"
        storage.put(path, _small(grey_HW, "PNG"))
        self._read.cache_clear()


def make(
    workspace: Workspace, kept: Kept, shards: UPath, samples: Sequence[Sample], models: Mapping[str, Result]
) -> list[str]:
    """Make what is not kept yet; return a sentence for each thing that cannot be made.

    Args:
        workspace: of features, weights and lists.
        kept: where it is put.
        shards: folder of the data.
        samples: whose photograph, truth and maps are wanted.
        models: by what each is called.
    """
    bare = [one for one in samples if kept.bare(one)]
    blank = {label: [one for one in samples if kept.map(one, model) is None] for label, model in models.items()}
    if not bare and not any(blank.values()):
        return []
    try:
        found = references(workspace, shards, [(sample.domain, sample.digest) for sample in samples])
    except LOST as error:
        return [f"Images that were not kept by an earlier report are not shown: {first_line(error)}."]
    notes = _keep_photographs(kept, shards, bare, found)
    start = time.monotonic()
    for label, model in models.items():
        if blank[label] and time.monotonic() - start > LIMIT_S:
            notes.append(f"{label} was left out after {LIMIT_S:.0f} s; build the report again for its maps.")
        elif blank[label]:
            try:
                _keep_maps(workspace, kept, shards, model, {one: found[one.id] for one in blank[label]})
            except LOST as error:
                notes.append(f"The maps of {label} are not shown: {first_line(error)}.")
    return notes


def explained(model: Result) -> "ExplainSpec | None":
    """Return by what the answers of a model are explained in its rows; None: they are not."""
    return next((score.spec.explain for score in model.scores.values()), None)


def drawn(image: Pixels, truth_HW: Mask | None) -> bytes:
    """Return an image file for a page, its truth outlined: a JPEG of a photograph, a lossless WebP of a map.

    Args:
        image: RGB [160, 160, 3] or grey [160, 160], uint8.
        truth_HW: what is fake; None: it is not known, and not outlined.
    """
    line_HW, edge_HW = _edges(truth_HW) if truth_HW is not None else (np.zeros(image.shape[:2], bool),) * 2
    sink = io.BytesIO()
    if image.ndim == 3:
        painted = image.copy()
        painted[edge_HW], painted[line_HW] = EDGE, LINE
        Image.fromarray(painted).save(sink, "JPEG", quality=80, subsampling=0, optimize=True)
    else:
        level_HW = np.round(image / 255 * (GREYS - 1)).astype(np.uint8)
        level_HW[edge_HW], level_HW[line_HW] = GREYS, GREYS + 1
        paletted = Image.fromarray(level_HW)
        greys = [value for level in range(GREYS) for value in [round(255 * level / (GREYS - 1))] * 3]
        paletted.putpalette([*greys, *EDGE, *LINE])
        if features.check("webp"):
            paletted.convert("RGB").save(
                sink, "WEBP", lossless=True, quality=100, method=5
            )  # 6 takes 16 times as long for 8 % less
        else:
            paletted.save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _edges(truth_HW: Mask) -> tuple[Mask, Mask]:
    """Return the pixels on either side of a mask's border, and those outside that touch these."""
    outside_HW = _grown(~np.pad(truth_HW, 1))[1:-1, 1:-1]
    line_HW = (truth_HW & outside_HW) | (~truth_HW & _grown(truth_HW))
    return line_HW, ~truth_HW & ~line_HW & _grown(line_HW)


def _grown(mask_HW: Mask) -> Mask:
    padded = np.pad(mask_HW, 1)
    return mask_HW | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _read(path: UPath, mode: str) -> Pixels | None:
    try:
        image = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert(mode))
    except LOST:
        return None
    return image if image.shape[:2] == (DRAWN, DRAWN) else None


def references(workspace: Workspace, shards: UPath, lists: Sequence[tuple[str, str]]) -> Mapping[str, "SampleRef"]:
    """Return where the images of test lists lie in the shards, by id; those of each domain in rank order.

    Args:
        workspace: of the lists.
        shards: folder of the data.
        lists: domain and digest of each.

    Raises:
        DataError: there are no such shards, or they hold other images than those that were scored.
    """
    from dfloc.data.manifest import Manifest, list_digest, read_samples

    manifest = Manifest.load(shards)
    found: dict[str, SampleRef] = {}
    for domain, digest in dict.fromkeys(lists):
        ids = set(sample_lists.ids(workspace, digest) or ())
        mine = {ref.id: ref for ref in read_samples(shards, manifest, domain, "test") if ref.id in ids}
        if list_digest(mine.values()) != digest:
            raise DataError(f"{shards} holds other test images of {domain} than those that were scored")
        found |= mine
    return found


def _keep_photographs(
    kept: Kept, shards: UPath, samples: Sequence[Sample], found: Mapping[str, "SampleRef"]
) -> list[str]:
    """Keep photographs and truths; return a sentence for each that cannot be read."""
    from dfloc.data.shards import ShardReader, decode_image, read_truth

    reader, notes = ShardReader(shards), []
    for sample in samples:
        ref = found[sample.id]
        try:
            encoded = reader.group(ref.shard, ref.group, ["image"])[ref.row]["image"]["bytes"]
            (fakeness_HW,) = read_truth(shards, [ref], reader)
            kept.put(sample, decode_image(encoded), fakeness_HW)
        except LOST as error:
            notes.append(f"{sample.id} is not shown: {first_line(error)}.")
    return notes


def _keep_maps(
    workspace: Workspace, kept: Kept, shards: UPath, model: Result, wanted: Mapping[Sample, "SampleRef"]
) -> None:
    """Compute the maps of one model from its weights, as evaluation does; its explanations where it is explained."""
    import torch

    from dfloc import arithmetic
    from dfloc.engine.explanation import explainer
    from dfloc.engine.predict import trained
    from dfloc.features.weights import WeightsIndex
    from dfloc.ledger import Ledger
    from dfloc.models.base import outputs

    spec = model.trial.spec
    decoder = trained(spec, Ledger(workspace).weights(spec.fingerprint, "best"))
    refs, by = list(wanted.values()), explained(model)
    with arithmetic.exact(1):
        x_BCHW = _features(workspace, shards, model, refs)
        with torch.inference_mode():
            said = outputs(decoder(x_BCHW))
        if by:
            assert said.image_BK is not None
            made = explainer(spec, by, decoder, shards, WeightsIndex(workspace), "cpu")(refs, x_BCHW, said.image_BK)
        else:
            assert said.map_B1HW is not None
            made = said.map_B1HW.sigmoid()
        prob_BHW = made.squeeze(1).numpy()
    for sample, prob_HW in zip(wanted, prob_BHW, strict=True):
        kept.put_map(sample, model, (255 * np.nan_to_num(prob_HW)).round().astype(np.uint8))


def _features(workspace: Workspace, shards: UPath, model: Result, refs: Sequence["SampleRef"]) -> "torch.Tensor":
    """Return what a model's decoder reads of samples: stored, else made by its backbones from the images."""
    from dfloc.data.shards import ShardReader, decode_image
    from dfloc.engine.batches import StoredMaps, look
    from dfloc.features.store import FeatureStore
    from dfloc.features.weights import WeightsIndex

    spec = model.trial.spec
    tokens = spec.decoder.reads_tokens
    try:
        return StoredMaps(FeatureStore(workspace.features), spec.maps, tokens=tokens).read(refs)
    except WorkspaceError as error:
        log.info("the panel makes features anew: %s", error)
    index, of = WeightsIndex(workspace), {recipe.name.backbone: recipe for recipe in spec.maps}
    made = {name: index.make(name, one.weights, "cpu", one.plugin) for name, one in of.items()}
    reader = ShardReader(shards)
    found = [decode_image(reader.group(ref.shard, ref.group, ["image"])[ref.row]["image"]["bytes"]) for ref in refs]
    return look(found, made, spec.maps, tokens=tokens)


def _small(image: Pixels, kind: str, **options: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(image).resize((DRAWN, DRAWN), Image.Resampling.BILINEAR).save(sink, kind, **options)
    return sink.getvalue()


def first_line(error: Exception) -> str:
    """Return what is told of something that a page lacks."""
    log.debug("the page lacks something", exc_info=error)
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
