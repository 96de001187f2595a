"""Does the detector look at the fake region? Explanations of image-level answers, in numbers and images."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from upath import UPath

from dfloc.data import dolos
from dfloc.ledger import Ledger
from dfloc.metrics.metric import IOU
from dfloc.metrics.pointing import Looks
from dfloc.report import captions, images, table
from dfloc.report.gallery import Gallery, GalleryRow, Head, Picture
from dfloc.report.groups import Group, Study
from dfloc.report.images import Kept, Sample
from dfloc.report.models import case_of
from dfloc.report.page import Section
from dfloc.report.results import Result
from dfloc.report.table import Cell, Column, Table
from dfloc.storage import Workspace

ID = "explained-study"
MARK = "relative to its own maximum, not a probability"
IMAGES, MODELS = 2, 6  # of each domain, and of the panel's columns


class Look(NamedTuple):
    """What a model's explanations on one test domain come to, each training by itself."""

    group: Group
    domain: str
    layer: str
    found: Sequence[Looks]

    def mean(self, field: str) -> float | None:
        """Return the mean over trainings; None where no explanation says anything."""
        values = [float(getattr(each, field)) for each in self.found]
        known = [value for value in values if not np.isnan(value)]
        return float(np.mean(known)) if known else None


def title(study: Study) -> str:
    """Return what is asked of a study's models."""
    return f"Does the {'classifier' if study.task == 'attribute' else 'detector'} look at the fake region?"


def sections(study: Study) -> list[Section]:
    """Return the section of a study's explanations; none where nothing is explained."""
    found = list(_looks(study))
    return [Section(ID, title(study), "", [_table(study, found)])] if found else []


def scored(study: Study) -> bool:
    """Return whether a study's fakes are explained."""
    return any(score.looks for result in study.results.all for score in result.scores.values())


def gallery(workspace: Workspace, study: Study, shards: UPath | None = None) -> Gallery | None:
    """Return the first test images of each domain with the explanations of some models; None where there are none.

    Args:
        workspace: of weights, features, lists, and what earlier reports kept.
        study: that is shown.
        shards: folder of the data; None = that of the data's name in the workspace.
    """
    models = _models(study)
    samples = list(_samples(workspace, study, models)) if models else []
    if not samples:
        return None
    layers = "\x1f".join(f"{name}\x1f{images.explained(model)}" for name, model in models.items())
    folder = f"explained-{hashlib.sha256(layers.encode()).hexdigest()[:8]}"
    kept = Kept(workspace.report(study.record.sweep) / folder)
    notes = images.make(workspace, kept, shards or workspace.shards / study.record.data, samples, models)
    more = len({look.group for look in _looks(study)}) - len(models)
    notes += [f"{more} other models are in the table alone."] if more > 0 else []
    return Gallery(
        id="explained",
        title=f"What the {'classifiers' if study.task == 'attribute' else 'detectors'} look at.",
        caption=f"Explanations of {_answer(study)}, white = speaks for it, {MARK}: also of a real image the highest "
        f"pixel is nearly white. The truth is outlined. The first {IMAGES} images of each test list; best epochs, one "
        "training each.",
        brief=f"White = speaks for {_answer(study)}, {MARK}.",
        columns=[Head("photograph"), *(Head(name, _called(model), model.trial.name) for name, model in models.items())],
        rows=[GalleryRow(one.id, f"of {one.domain}", list(_pictures(study, kept, one, models))) for one in samples],
        notes=notes,
    )


def _looks(study: Study) -> Iterator[Look]:
    for group in study.groups:
        for domain in study.tested:
            scores = [result.scores.get(("best", domain)) for result in group.scored]
            found = [score.looks for score in scores if score and score.looks]
            if found:
                yield Look(group, domain, _called(group.first), found)


def _answer(study: Study) -> str:
    """Return which answer is explained (`models.explain.targets`)."""
    return "the likeliest generator" if study.task == "attribute" else "the answer fake"


def _called(model: Result) -> str:
    by = images.explained(model)
    return by.called if by else ""


def _table(study: Study, found: Sequence[Look]) -> Table:
    def number(head: str, field: str) -> Column[Look]:
        return Column(head, lambda look: table.number(look.mean(field)))

    columns: list[Column[Look]] = [
        Column("Model", lambda look: Cell(_name(look.group)), words=True),
        Column("Trained on", lambda look: Cell(_trained(look.group.first)), words=True),
        Column("Explained by", lambda look: Cell(look.layer), words=True, small=True),
        Column("Test domain", lambda look: Cell(look.domain), words=True),
        number("Mass inside", "mass"),
        number("Fake area", "area"),
        number("Pointing game", "pointed"),
        number(IOU.label, IOU.key),
        Column("Zero maps", lambda look: Cell(str(sum(each.blank for each in look.found))), small=True),
        Column("Images", lambda look: Cell(f"{look.found[0].images:,}"), small=True),
    ]
    groups = list({look.group: None for look in found})
    threshold = study.protocol.threshold
    return Table(
        id="explained",
        title=title(study),
        caption=f"Explanations of {_answer(study)} on partly fake test images; a map is {MARK}. Mass inside: share of "
        "a map's sum on fake pixels; one that looks anywhere has the fake area. Pointing game: how often the highest "
        f"pixel is fake. IoU: of the pixels over {threshold:g} of the maximum with the mask. A map of zeros has no "
        "mass and misses. Means over images, then over trainings, best epochs; without intervals.",
        source=captions.provenance(study, groups)[:3],
        columns=columns,
        rows=table.rows(columns, ([look for look in found if look.group is group] for group in groups)),
        best="",
        trials=captions.trials(groups),
    )


def _name(group: Group) -> str:
    return " ".join(filter(None, [group.stage, case_of(group)]))


def _trained(model: Result) -> str:
    return ", ".join(domain for domain in model.trial.spec.train.counts if not dolos.is_real(domain))


def _models(study: Study) -> dict[str, Result]:
    """Return the explained models of a panel: of each stage and case the first, up to `MODELS`."""
    found: dict[str, Result] = {}
    for group in dict.fromkeys(look.group for look in _looks(study)):
        found.setdefault(f"{_name(group)}, trained on {_trained(group.first)}", group.first)
    first: dict[str, str] = {}
    for name in found:
        first.setdefault(name.partition(",")[0], name)
    names = [*first.values(), *(name for name in found if name not in first.values())][:MODELS]
    return {name: found[name] for name in names}


def _samples(workspace: Workspace, study: Study, models: dict[str, Result]) -> Iterator[Sample]:
    """Yield the first images by id of each list that every shown model is explained on, reals last."""
    ledger, judge = Ledger(workspace), next(iter(models.values()))
    for (which, domain), score in judge.scores.items():
        if which == "best" and all((which, domain) in model.scores for model in models.values()):
            for name in sorted(ledger.scored(score.spec)["id"].to_pylist())[:IMAGES]:
                yield Sample(name, domain, score.spec.test.digest)


def _pictures(study: Study, kept: Kept, sample: Sample, models: dict[str, Result]) -> Iterator[Picture]:
    fakeness_HW, image = kept.truth(sample), kept.photograph(sample)
    truth_HW = None if fakeness_HW is None else fakeness_HW > 127
    words = f"photograph {sample.id}, the generated part outlined"
    yield Picture(None if image is None else images.drawn(image, truth_HW), words)
    for name, model in models.items():
        grey_HW = kept.map(sample, model)
        data = None if grey_HW is None else images.drawn(grey_HW, truth_HW)
        yield Picture(data, f"what {name} looks at in {sample.id}, {MARK}")
