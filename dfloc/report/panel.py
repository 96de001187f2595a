"""The panel of test images: photographs with their truth, and what the models that a study is about make of them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from upath import UPath

from dfloc.ledger import Ledger
from dfloc.metrics import degenerate
from dfloc.metrics.protocols import Protocol
from dfloc.report import images
from dfloc.report.gallery import Gallery, GalleryRow, Head, Picture
from dfloc.report.groups import COLLAPSED, Study
from dfloc.report.images import Kept, Mask, Sample
from dfloc.report.results import Result
from dfloc.report.shown import Shown, shown
from dfloc.storage import Workspace

FIXED = 3  # images that no score chooses


class Said(NamedTuple):
    """What the rows say of one map: the protocol's first metric, and of which kind it is where it says nothing."""

    value: float
    kind: str


def gallery(workspace: Workspace, study: Study, shards: UPath | None = None) -> Gallery | None:
    """Return the panel of a study; None where nothing is scored, or its models give no maps.

    Args:
        workspace: rows, weights, features, lists of samples, and what earlier reports kept.
        study: that is shown.
        shards: folder of the data; None = that of the data's name in the workspace, where there is one.
    """
    of = shown(study) if study.protocol.reads == "map" else None
    if of is None or ("best", of.domain) not in of.models[of.judge].scores:
        return None
    said = {name: _Rows(workspace, model) for name, model in of.models.items()}
    samples = _samples(study, of, said[of.judge])
    kept = Kept(workspace.report(study.record.sweep) / "panel")
    notes = images.make(workspace, kept, shards or workspace.shards / study.record.data, list(samples), of.models)
    label = study.first.label
    return Gallery(
        id="panel",
        title="Predictions on single images.",
        caption=f"{of.words} The truth is outlined on photograph and maps; maps: white = generated. Below each map: "
        f"{label} of that image by {study.record.protocol}, as recorded, and the mean of its test list. Rows: the "
        f"first images of each list, of {of.domain} first, which nothing chooses; then the best, median and worst "
        f"image of {of.domain} for {of.judge}, which has the highest validation {of.among}: oracle choices, made by "
        "test scores. Best epochs, one training each.",
        brief=f"{of.words} White = generated, truth outlined. Single images: {label} of each, (mean) of its test list.",
        columns=[Head("photograph"), *(Head(name, _below(of, name), _words(of.models[name])) for name in of.models)],
        rows=[
            GalleryRow(sample.id, "; ".join(why), list(_pictures(study, kept, sample, of, said)))
            for sample, why in samples.items()
        ],
        notes=notes,
    )


class _Rows:
    """What was recorded of a model's maps on single images, read as it is asked for."""

    def __init__(self, workspace: Workspace, model: Result):
        self._ledger, self._model = Ledger(workspace), model
        self._of: dict[str, dict[str, Said]] = {}

    def on(self, domain: str) -> Mapping[str, Said]:
        """Return what is said of the maps of a domain's test images, by their ids, sorted."""
        if domain not in self._of:
            score = self._model.scores.get(("best", domain))
            self._of[domain] = dict(self._read(domain)) if score else {}
        return self._of[domain]

    def _read(self, domain: str) -> Iterator[tuple[str, Said]]:
        score = self._model.scores["best", domain]
        rows = self._ledger.scored(score.spec)
        values = score.of()
        for name, place in sorted((name, place) for place, name in enumerate(rows["id"].to_pylist())):
            yield name, Said(float(values[place]), degenerate.kinds(rows.slice(place, 1)).word)


def _samples(study: Study, of: Shown, judge: _Rows) -> dict[Sample, list[str]]:
    """Return the images with why each is shown: fixed ones, then the judge's best, median and worst."""
    scores = of.models[of.judge].scores
    domains = [of.domain, *(name for name in study.tested if name != of.domain and ("best", name) in scores)]
    lists = {domain: list(judge.on(domain)) for domain in domains}
    turns = [(place, domain) for place in range(FIXED) for domain in domains if place < len(lists[domain])]
    found: dict[Sample, list[str]] = {}

    def add(domain: str, name: str, why: str) -> None:
        found.setdefault(Sample(name, domain, scores["best", domain].spec.test.digest), []).append(why)

    for place, domain in turns[:FIXED]:
        add(domain, lists[domain][place], "first of its list" if not place else f"image {place + 1} of its list")
    gains = {
        name: study.first.gain(one.value, 0) for name, one in judge.on(of.domain).items() if not np.isnan(one.value)
    }
    ranked = sorted(gains, key=lambda name: (-gains[name], name))
    for word, place in (("best", 0), ("median", len(ranked) // 2), ("worst", len(ranked) - 1)) if ranked else ():
        add(of.domain, ranked[place], f"{word} for {of.judge} (oracle choice)")
    return found


def _pictures(study: Study, kept: Kept, sample: Sample, of: Shown, said: Mapping[str, _Rows]) -> Iterator[Picture]:
    truth_HW = _truth(study.protocol, kept, sample)
    image = kept.photograph(sample)
    real = truth_HW is not None and not truth_HW.any()
    words = f"photograph {sample.id}, {'without a generated pixel' if real else 'the generated part outlined'}"
    yield Picture(None if image is None else images.drawn(image, truth_HW), words, "nothing generated" if real else "")
    for name, model in of.models.items():
        grey_HW = kept.map(sample, model)
        below = _number(study, said[name].on(sample.domain).get(sample.id), _mean(model, sample))
        data = None if grey_HW is None else images.drawn(grey_HW, truth_HW)
        yield Picture(data, f"map of {name} on {sample.id}: {below}", below)


def _truth(protocol: Protocol, kept: Kept, sample: Sample) -> Mask | None:
    """Return what the protocol calls fake; a fake part that is lost in the small image counts where there is any."""
    fakeness_HW = kept.truth(sample)
    if fakeness_HW is None:
        return None
    fake_HW: Mask = protocol.binarise(torch.from_numpy(fakeness_HW.copy())).numpy()
    return fake_HW if fake_HW.any() else fakeness_HW > 0


def _mean(model: Result, sample: Sample) -> float | None:
    """Return the mean over the list that an image stands in."""
    score = model.scores.get(("best", sample.domain))
    return score.mean() if score else None


def _number(study: Study, said: Said | None, mean: float | None) -> str:
    """Return the number of one image, and beside it the mean of its list."""
    if said is None:
        return "not scored"
    value = f"no {study.first.label}" if np.isnan(said.value) else f"{study.first.label} {said.value:.2f}"
    of = "" if mean is None else f" (mean {mean:.2f})"
    return f"{', '.join(filter(None, [value, said.kind]))}{of}"


def _below(of: Shown, name: str) -> str:
    """Return what stands below a model's name: its settings, and whether its maps say anything."""
    word = of.models[name].collapsed
    return "; ".join(filter(None, [of.notes.get(name, ""), f"{COLLAPSED} ({word})" if word else ""]))


def _words(model: Result) -> str:
    trial, spec = model.trial, model.trial.spec
    maps = " + ".join(recipe.map for recipe in spec.maps)
    trained = ", ".join(f"{count:,} {domain}" for domain, count in spec.train.counts.items() if count)
    return (
        f"{trial.name}; {maps}, decoder {spec.decoder.name}, trained on {trained}, seed {spec.seed}, validation IoU "
        f"{model.valid or 0:.3f}, trial {trial.fingerprint[:12]}."
    )
