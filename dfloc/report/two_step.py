"""Our numbers for published tables of pipelines: by the trials' specs, whatever a stage or a case is called."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dfloc.config import TrialSpec
from dfloc.data import dolos
from dfloc.engine.route import ROUTE
from dfloc.metrics.image_rows import FAKE
from dfloc.metrics.metric import IOU, IOU_WITH_REALS
from dfloc.report import place, published, setups
from dfloc.report.comparable import fits, gaps
from dfloc.report.formulas.numbers import ALL, DIFF, TRAIN_ALL
from dfloc.report.formulas.two_step import CLASSIFIED, DETECTED, GENERALIST
from dfloc.report.groups import Group, Study
from dfloc.report.published import PublishedNumber, PublishedTable
from dfloc.report.roles import COMPOSED, MIXTURE

MIXED = "s000.cross_domain.vit_rn50"
FUSED, HRF0, HRF1 = "s000.single_domain.vit_rn50", "nb.sam2.hrf0_conv20", "s000.single_domain.sam2_hrf1"
GANS: Mapping[str, Sequence[str]] = {
    CLASSIFIED: (HRF1, HRF0),
    f"{CLASSIFIED}-hrf0": (HRF0,),
    f"{CLASSIFIED}-clip": (FUSED,),
}
"""By row, the tables of the specialists on GANs, the first one that is there; those on diffusion are of ViT+RN50.

The slide names high_res_feats.1 and its numbers were made with high_res_feats.0 (`mixed_config`).
"""


class Found(NamedTuple):
    """A pipeline of ours that stands for a row, and what it lacks of the published one."""

    group: Group
    lacks: Sequence[str]


def metric(table: PublishedTable) -> str:
    """Return what a table of pipelines is the mean of: fakes alone, or fakes and reals together."""
    return (IOU_WITH_REALS if "real" in table.aggregate else IOU).key


def find(study: Study, table: PublishedTable) -> dict[str, Found]:
    """Return the pipelines of a study by the rows of a table that they are."""
    return {row: found for row in dict.fromkeys(str(row) for row, _ in table.cells) if (found := pipeline(study, row))}


def pipeline(study: Study, row: str) -> Found | None:
    """Return what a published table calls a pipeline, among ours; None: it is not planned."""
    if row == GENERALIST:
        return next((_lacking(study, one, [(one, _mixed())]) for one in study.groups if _is_mixed(one)), None)
    if row == DETECTED:
        return next(_detected(study), None)
    *_, made = GANS.get(row, ("",))
    for table in GANS.get(row, ()):
        for found in _classified(study, table):
            other = [f"specialists on GANs of {made}, ours of {table}"] if table != made else []
            return Found(found.group, [*other, *found.lacks])
    return None


def _detected(study: Study) -> Iterator[Found]:
    for one in _composed(study):
        parts = _parts(study, one)
        if {*one.first.trial.spec.parts} == {ROUTE, FAKE} and FAKE in parts and _is_mixed(parts[FAKE]):
            yield _lacking(study, one, [(parts[FAKE], _mixed())])


def _classified(study: Study, gans: str) -> Iterator[Found]:
    """Yield the composites of a classifier in which each of the four classes has the specialist of its domain."""
    wanted = {domain: _cell(FUSED if domain in DIFF else gans, domain, domain) for domain in ALL}
    for one in _composed(study):
        parts = _parts(study, one)
        own = {domain: parts.get(dolos.family(domain, study.record.families)) for domain in ALL}
        pairs = [(part, wanted[domain]) for domain, part in own.items() if part and _is_alone(part, domain)]
        is_whole = len(pairs) == len(ALL) and len(one.first.trial.spec.parts) == len(ALL) + 1
        if is_whole and all(fits(cell.requires, _spec(part)) for part, cell in pairs):
            yield _lacking(study, one, pairs)


def _lacking(study: Study, one: Group, parts: Sequence[tuple[Group, PublishedNumber]]) -> Found:
    """Return a pipeline with what its localizers lack of the published ones."""
    protocol = study.record.protocol
    lacks = (gap for part, cell in parts for gap in gaps(cell, protocol, str(cell.row), place.setting(study, part)))
    return Found(one, list(dict.fromkeys(lacks)))


def _composed(study: Study) -> list[Group]:
    return [one for one in study.groups if COMPOSED in one.role and one.first.trial.spec.decoder.rule == "argmax"]


def _parts(study: Study, one: Group) -> dict[str, Group]:
    """Return by class whose maps a composite has, of the parts that the page's protocol scores."""
    of = {result.trial.fingerprint: group for group in study.groups for result in group.results}
    parts = one.first.trial.spec.parts
    return {name: of[part.parent] for name, part in parts.items() if name != ROUTE and part.parent in of}


def _is_mixed(one: Group) -> bool:
    """Return whether it is the generalist: of as many images of each of the four domains."""
    counts, spec = _spec(one).train.counts, _spec(one)
    alike = setups.trained(spec) == {*ALL} and len({*counts.values()}) == 1
    return MIXTURE in one.role and alike and fits(_mixed().requires, spec)


def _is_alone(one: Group, domain: str) -> bool:
    return setups.trained(_spec(one)) == {domain}


def _spec(one: Group) -> TrialSpec:
    return one.first.trial.spec


def _mixed() -> PublishedNumber:
    return _cell(MIXED, ALL[0], TRAIN_ALL)


def _cell(table: str, row: str, col: str) -> PublishedNumber:
    return published.kept()[table].cells[row, col]
