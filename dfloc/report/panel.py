"""The qualitative panel: a few test images, chosen by the digest of their names, as the best models see them.

An image that was made is kept in `reports/<sweep>/panel/`, so that a second report does no work and needs no data. What
is missing is made from the shards, the stored maps and the trials' weights, on the CPU; what cannot be reached is told.
"""

import hashlib
import io
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from upath import UPath

from dfloc import storage
from dfloc.data import sample_lists
from dfloc.errors import DflocError
from dfloc.report.captions import BASELINES
from dfloc.report.gallery import Gallery, Picture
from dfloc.report.groups import Group, Study
from dfloc.report.marks import is_not_above
from dfloc.report.results import Result
from dfloc.storage import Workspace

if TYPE_CHECKING:
    from dfloc.data.manifest import SampleRef
    from dfloc.data.shards import Pixels, ShardReader

PER_DOMAIN, MAX_SAMPLES, MODELS, BATCH = 2, 16, 4, 4
DRAWN = 160  # side of a kept image, in pixels
LIMIT_S = 60.0  # no model is begun after so many seconds
LOST = (DflocError, OSError, RuntimeError, ValueError)  # what a file that is gone or broken ends in
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One test image of the panel; `digest`: of the test list that it stands in."""

    id: str
    domain: str
    digest: str

    @property
    def key(self) -> str:
        """What its files are called: another import of the data has other digests."""
        return hashlib.sha256(f"{self.digest}\x1f{self.id}".encode()).hexdigest()[:24]


def gallery(workspace: Workspace, study: Study, shards: UPath | None = None) -> Gallery | None:
    """Return the panel of a study; None where nothing is scored.

    Args:
        workspace: weights, stored maps, lists of samples, and what earlier reports kept.
        study: whose best models are shown.
        shards: folder of the data; None = that of the data's name in the workspace, where there is one.
    """
    models = chosen(study)
    samples = list(_samples(workspace, models))[:MAX_SAMPLES]
    if not samples:
        return None
    folder = workspace.report(study.record.sweep) / "panel"
    shards = shards or workspace.shards / study.record.data
    notes = _made(workspace, folder, shards, samples, models)
    rows = [(sample.id, _pictures(folder, sample, models)) for sample in samples]
    return Gallery(
        id="panel",
        title="What the models see.",
        caption=f"{PER_DOMAIN} test images of each domain: those whose names have the smallest sha256, the same for "
        "every model and every report. Truth and maps: white = generated, grey = probability. Models: the best of each "
        "kind by validation, at most four; best epochs, one seed each.",
        columns=["Image", "Truth", *(f"Model {place + 1}" for place in range(len(models)))],
        rows=rows,
        notes=[*(f"Model {place + 1}: {_words(model)}" for place, model in enumerate(models)), *notes],
    )


def chosen(study: Study) -> list[Result]:
    """Return the models that are shown: of each stage, case and facet the best by validation, and of those the best.

    What is not above all fake is shown only where nothing else is.
    """
    best: dict[object, tuple[tuple[bool, float], Group]] = {}
    for group in study.groups:
        if group.scored and group.valid is not None and group.first.trial.spec.decoder.name not in BASELINES:
            key = (group.stage, group.case, group.facet)
            rank = not is_not_above([(group, study.tested)]), group.valid
            if key not in best or rank > best[key][0]:
                best[key] = (rank, group)
    ranked = sorted(best.values(), key=lambda pair: pair[0], reverse=True)
    distinct = {group.first.trial.fingerprint: group.first for _, group in ranked}
    return list(distinct.values())[:MODELS]


def _samples(workspace: Workspace, models: Sequence[Result]) -> Iterator[Sample]:
    """Yield those whose names have the smallest digests, of each domain that the first model is tested on."""
    for (checkpoint, domain), score in models[0].scores.items() if models else ():
        if checkpoint == "best":
            ids = sample_lists.ids(workspace, score.spec.test.digest) or ()
            for name in sorted(ids, key=lambda id_: hashlib.sha256(id_.encode()).hexdigest())[:PER_DOMAIN]:
                yield Sample(name, domain, score.spec.test.digest)


def _pictures(folder: UPath, sample: Sample, models: Sequence[Result]) -> list[Picture]:
    paths = {"image": _image(folder, sample), "truth": _truth(folder, sample)}
    paths |= {f"map of model {place + 1}": _map(folder, sample, model) for place, model in enumerate(models)}
    return [
        Picture(path.read_bytes(), f"{words} of {sample.id}") if path.exists() else Picture(None, "not there")
        for words, path in paths.items()
    ]


def _image(folder: UPath, sample: Sample) -> UPath:
    return folder / f"{sample.key}.jpg"


def _truth(folder: UPath, sample: Sample) -> UPath:
    return folder / f"{sample.key}.truth.png"


def _map(folder: UPath, sample: Sample, model: Result) -> UPath:
    return folder / f"{sample.key}.{model.trial.fingerprint[:24]}.png"


def _words(model: Result) -> str:
    trial, spec = model.trial, model.trial.spec
    maps = " + ".join(recipe.map for recipe in spec.maps)
    trained = ", ".join(f"{count:,} {domain}" for domain, count in spec.train.counts.items() if count)
    return (
        f"{trial.name}; {maps}, decoder {spec.decoder.name}, trained on {trained}, seed {spec.seed}, validation IoU "
        f"{model.valid or 0:.3f}, trial {trial.fingerprint[:12]}."
    )


def _made(
    workspace: Workspace, folder: UPath, shards: UPath, samples: Sequence[Sample], models: Sequence[Result]
) -> list[str]:
    """Make what is not kept yet; return a sentence for each thing that cannot be made."""
    bare = [one for one in samples if not (_image(folder, one).exists() and _truth(folder, one).exists())]
    blank = {
        model.trial.fingerprint: [one for one in samples if not _map(folder, one, model).exists()] for model in models
    }
    if not bare and not any(blank.values()):
        return []
    notes: list[str] = []
    try:
        found = _references(workspace, shards, samples)
        _keep_photographs(folder, shards, bare, found)
    except LOST as error:
        return [f"Images that were not kept by an earlier report are not shown: {_first_line(error)}."]
    start = time.monotonic()
    for place, model in enumerate(models):
        lacking = blank[model.trial.fingerprint]
        if lacking and time.monotonic() - start > LIMIT_S:
            notes.append(f"Model {place + 1} was left out after {LIMIT_S:.0f} s; build the report again for its maps.")
        elif lacking:
            try:
                _keep_maps(workspace, folder, model, lacking, found)
            except LOST as error:
                notes.append(f"The maps of model {place + 1} are not shown: {_first_line(error)}.")
    return notes


def _references(workspace: Workspace, shards: UPath, samples: Sequence[Sample]) -> Mapping[str, "SampleRef"]:
    """Return where the samples lie in the shards.

    Raises:
        DataError: there are no such shards, or they hold other images than those that were scored.
    """
    from dfloc.data.manifest import Manifest, list_digest, read_samples
    from dfloc.errors import DataError

    manifest = Manifest.load(shards)
    found: dict[str, SampleRef] = {}
    for domain, digest in dict.fromkeys((sample.domain, sample.digest) for sample in samples):
        ids = set(sample_lists.ids(workspace, digest) or ())
        mine = {ref.id: ref for ref in read_samples(shards, manifest, domain, "test") if ref.id in ids}
        if list_digest(mine.values()) != digest:
            raise DataError(f"{shards} holds other test images of {domain} than those that were scored")
        found |= mine
    return found


def _keep_photographs(
    folder: UPath, shards: UPath, samples: Sequence[Sample], found: Mapping[str, "SampleRef"]
) -> None:
    from dfloc.data.shards import ShardReader, decode_image, read_truth

    reader = ShardReader(shards)
    for sample in samples:
        ref = found[sample.id]
        image = Image.fromarray(decode_image(_bytes(reader, ref)))
        storage.put(_image(folder, sample), _encoded(image, "JPEG", quality=85))
        (fakeness_HW,) = read_truth(shards, [ref], reader)
        storage.put(_truth(folder, sample), _encoded(Image.fromarray(fakeness_HW), "PNG"))


def _bytes(reader: "ShardReader", ref: "SampleRef") -> bytes:
    data: bytes = reader.group(ref.shard, ref.group, ["image"])[ref.row]["image"]["bytes"]
    return data


def _keep_maps(
    workspace: Workspace, folder: UPath, model: Result, samples: Sequence[Sample], found: Mapping[str, "SampleRef"]
) -> None:
    """Compute the maps of one model from its weights and what is stored of the images, as evaluation does."""
    import torch

    from dfloc import arithmetic, registry, repro
    from dfloc.engine import checkpoint
    from dfloc.engine.batches import StoredMaps
    from dfloc.features.store import FeatureStore
    from dfloc.ledger import Ledger
    from dfloc.models import decoders

    spec = model.trial.spec
    weights = Ledger(workspace).weights(spec.fingerprint, "best")
    shapes = [registry.map_spec(recipe.map) for recipe in spec.maps]
    decoder = decoders.build(spec.decoder, shapes, repro.generator(0, "init"))
    checkpoint.load(weights, decoder)
    decoder.eval()
    maps = StoredMaps(FeatureStore(workspace.features), spec.maps, tokens=spec.decoder.name in registry.TOKENS)
    with arithmetic.exact(1), torch.inference_mode():
        for start in range(0, len(samples), BATCH):
            part = samples[start : start + BATCH]
            prob_BHW = decoder(maps.read([found[one.id] for one in part])).squeeze(1).sigmoid()
            for one, prob_HW in zip(part, prob_BHW.numpy(), strict=True):
                grey_HW: Pixels = (255 * np.nan_to_num(prob_HW)).round().astype(np.uint8)
                storage.put(_map(folder, one, model), _encoded(Image.fromarray(grey_HW), "PNG"))


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    sink = io.BytesIO()
    image.resize((DRAWN, DRAWN), Image.Resampling.BILINEAR).save(sink, kind, **options)
    return sink.getvalue()


def _first_line(error: Exception) -> str:
    log.debug("the panel lacks something", exc_info=error)
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
