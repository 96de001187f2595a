"""What the slides conclude on two steps, on studies whose numbers are the published ones or their contrary."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dfloc.config import DecoderSpec, InitFrom, TrialSpec
from dfloc.report import claims, sides, two_step
from dfloc.report.claims import Verdict, judge
from dfloc.report.formulas.numbers import ALL, DIFF, LAMA, LDM, PLURALISTIC, REAL, REPAINT
from dfloc.report.groups import Study
from dfloc.report.pipelines import numbers, pipelines
from dfloc.report.published import PublishedTable
from dfloc.report.resample import averages
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.planned import any_number_of_images
from tests.report.test_claims import CLAIMS, FUSED, TABLES, Documents, close
from tests.report.test_routing import Page

GENERALIST, DETECTED, CLASSIFIED = "generalist", "detector+generalist", "classifier+4-specialists"
FAKES, BOTH = TABLES["s000.two_step.domain_only"], TABLES["s000.two_step.with_real"]
HRF0, HRF1 = ("sam2.1-small/high_res_feats.0",), ("sam2.1-small/high_res_feats.1",)
CLASSES = dict(zip(ALL, ("ldm", "repaint-p2", "lama", "pluralistic"), strict=True))
RECALL = {test: TABLES["nb.classification.recall"].cells["classifier", test].value for test in (REAL, *ALL)}
NUM = 900


def row(table: PublishedTable, name: str) -> dict[str, float]:
    return {test: table.cells[name, test].value for test in ALL}


class TwoSteps(Documents):
    """Plans composites and their parts under names that say nothing, and knows what each is to score."""

    def __init__(self) -> None:
        super().__init__(num_test=NUM)
        self.tests = (*self.domains, REAL)
        self.recall: dict[str, Mapping[str, float]] = {}

    def model(self, counts: dict[str, int], scores: Mapping[str, float], **more: Any) -> str:
        name = f"case {len(self.trials)}"
        self.add(counts, {REAL: 0.1, **scores}, case=name, stage=f"stage {len(self.trials)}", **more)
        return self.trials[-1].fingerprint

    def specialist(self, domain: str, maps: tuple[str, ...]) -> str:
        sam2 = {"depth": 20, "via": 224} if maps != FUSED else {"depth": 12}
        table = TABLES["s000.single_domain.vit_rn50" if maps == FUSED else "s000.single_domain.sam2_hrf1"]
        scores = {test: table.cells[test, domain].value for test in ALL}
        return self.model({domain: 9000}, scores, maps=maps, **sam2)

    def mixture(self, scores: Mapping[str, float], first: int = 3000, rest: int = 3000) -> str:
        counts = {domain: first if domain == LDM else rest for domain in ALL}
        return self.model(counts, scores, maps=FUSED, depth=12)

    def composite(
        self, parts: Mapping[str, str], scores: Mapping[str, float], reals: float, recall: Mapping[str, float] = RECALL
    ) -> None:
        init = {name: InitFrom(parent=parent) for name, parent in {"route": "9" * 64, **parts}.items()}
        spec = {"init": init}
        decoder = DecoderSpec(name="composite", rule="argmax")
        every, own = dict.fromkeys(ALL, 3000), {**scores, REAL: reals}
        name = self.model(every, own, maps=("pixels",), spec=spec, decoder=decoder)
        self.recall[name] = recall

    def classified(self, gans: tuple[str, ...], scores: Mapping[str, float], reals: float, **more: Any) -> None:
        maps = {domain: FUSED if domain in DIFF else gans for domain in ALL}
        self.composite({CLASSES[one]: self.specialist(one, maps[one]) for one in ALL}, scores, reals, **more)


def as_published(maker: TwoSteps, *, plus: float = 0.0, reals: float = 0.955, **more: Any) -> None:
    """Plan all that the slide's table is of; the classifier's pipeline is better by so much on fakes."""
    one = maker.mixture(row(FAKES, GENERALIST))
    detected = {test: 2 * value - 0.823 for test, value in row(BOTH, DETECTED).items()}
    maker.composite({"fake": one}, detected, 0.823)
    maker.classified(HRF1, {test: value + plus for test, value in row(FAKES, CLASSIFIED).items()}, reals, **more)


def made(maker: TwoSteps, workspace: Workspace, name: str = "two-step") -> Study:
    """Return the study; what a router calls an image is in the rows of a composite."""
    real = studies.rows

    def rows(evaluation: Any, mean: float) -> pa.Table:
        table, recall = real(evaluation, mean), maker.recall.get(evaluation.trial)
        if recall is None:
            return table
        share, called = recall[evaluation.domain], CLASSES.get(evaluation.domain, "real")
        right = np.arange(NUM) < round(share * NUM)
        return table.append_column("routed", pa.array(np.where(right, called, "another").tolist()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "rows", rows)
        return maker.study(workspace, name)


def ours(study: Study) -> dict[str, Verdict]:
    return {each.claim.id: each.ours for each in judge(study)}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_ours_equal_to_the_slide_give_its_verdicts_and_numbers(workspace):
    maker = TwoSteps()
    as_published(maker)
    study = made(maker, workspace)
    found = ours(study)
    assert set(found) == {f"s000.c{number}" for number in (11, 13, 14, 15, 16)}
    for name in ("s000.c13", "s000.c14", "s000.c15", "s000.c16"):
        assert found[name].state == CLAIMS[name].verdict, found[name].why
    close(found["s000.c13"], CLAIMS["s000.c13"].numbers)
    close(found["s000.c16"], CLAIMS["s000.c16"].numbers)
    assert found["s000.c14"].numbers["detector"] == pytest.approx([69.525])
    assert found["s000.c14"].numbers["classifier"] == pytest.approx([(62.5 + 95.5) / 2])
    assert found["s000.c15"].numbers["reals"] == pytest.approx([95.5] * 4), "one list of reals"
    low, high = found["s000.c14"].spans["difference"][0]
    assert low < 9.47 < high
    assert found["s000.c11"].state == "cannot_be_computed"
    other = "specialists on GANs of nb.sam2.hrf0_conv20, ours of s000.single_domain.sam2_hrf1"
    assert other in sides.side(study, FAKES).lacks


def test_the_contrary_gives_the_contrary(workspace):
    maker = TwoSteps()
    recall = {LDM: 0.99, LAMA: 0.98, PLURALISTIC: 0.7, REPAINT: 0.3, REAL: 0.5}
    as_published(maker, plus=0.02, reals=0.6, recall=recall)
    found = ours(made(maker, workspace))
    states = [found[f"s000.c{number}"].state for number in (13, 14, 15, 16)]
    assert states == ["holds", "fails", "fails", "holds"]
    assert found["s000.c13"].numbers["difference"] == pytest.approx([0.75])
    assert found["s000.c14"].numbers["classifier"] == pytest.approx([(64.5 + 60) / 2])
    assert found["s000.c15"].numbers["increase"][2] < 0, "LaMa's fakes score more than reals"
    assert found["s000.c16"].numbers["routing_recall"] == pytest.approx([0.99, 0.3, 0.98, 0.7])


def test_the_means_of_the_conclusion_need_the_smallest_mixture_too(workspace, tmp_path):
    maker = TwoSteps()
    as_published(maker)
    why = ours(made(maker, workspace))["s000.c11"].why
    assert why == "not planned"
    smallest = {test: TABLES["s000.budgets"].cells["1000-ldm-500-rest", test].value for test in ALL}
    maker.mixture(smallest, 1000, 500)
    found = ours(made(maker, Workspace(tmp_path / "more")))["s000.c11"]
    assert found.state == "holds", found.why
    close(found, CLAIMS["s000.c11"].numbers)


def test_a_pipeline_is_told_by_the_specs_of_its_parts(workspace):
    maker = TwoSteps()
    as_published(maker)
    even = dict.fromkeys(ALL, 0.5)
    for gans in (HRF0, FUSED):
        maker.classified(gans, even, 0.5)
    swapped = [maker.specialist(domain, FUSED) for domain in (REPAINT, LDM, LAMA, PLURALISTIC)]
    maker.composite(dict(zip(CLASSES.values(), swapped, strict=True)), even, 0.5)
    study = made(maker, workspace)
    found = {name: two_step.pipeline(study, name) for name in (*two_step.GANS, DETECTED, GENERALIST)}
    of = {name: one.group.case for name, one in found.items() if one}
    composed = [trial.case for trial in study.record.trials if trial.spec.parts]
    assert [of[name] for name in (DETECTED, *two_step.GANS)] == composed[:4]
    assert of[GENERALIST] == "case 0"
    table = sides.side(study, TABLES["nb.two_step.with_real"])
    assert {key[0] for key in table.parts} == {DETECTED, f"{CLASSIFIED}-hrf0", f"{CLASSIFIED}-clip"}
    assert {key[1] for key in table.parts} == {*ALL}, "not all: 3,600 fakes and 900 reals"


def test_what_is_not_planned_or_not_scored_is_said(workspace, tmp_path):
    maker = TwoSteps()
    one = maker.mixture(row(FAKES, GENERALIST))
    found = ours(made(maker, workspace))
    assert found["s000.c14"].why.startswith("not planned: no model here is the pipeline detector+generalist or")
    assert found["s000.c13"].why.startswith("not planned: no model here is the pipeline")
    maker.composite({"fake": one}, row(FAKES, GENERALIST), 0.8)
    assert ours(made(maker, Workspace(tmp_path / "one")))["s000.c14"].why == (
        f"not planned: no model here is the pipeline {CLASSIFIED}"
    )
    maker = TwoSteps()
    maker.tests = maker.domains
    as_published(maker)
    found = ours(made(maker, Workspace(tmp_path / "fakes")))
    assert found["s000.c13"].state == "fails"
    assert found["s000.c14"].why == f"no number for {CLASSIFIED} and {LDM} of s000.two_step.with_real"
    other = claims.on_ours(
        CLAIMS["s000.c13"],
        TABLES,
        made(TwoStepsBy("dolos-2024"), Workspace(tmp_path / "other")),
        lambda table: sides.side(made(TwoStepsBy("dolos-2024"), Workspace(tmp_path / "other")), table),
    )
    assert other.why == "protocol declip-2025, ours dolos-2024"


class TwoStepsBy(TwoSteps):
    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.protocol = protocol
        as_published(self)


def test_the_numbers_are_those_of_the_page(tmp_path):
    """Another path: the sweep's plan with made-up rows, where lists of fakes and reals are of different lengths."""
    with any_number_of_images():
        page = Page(tmp_path)
    study = page.study
    whole = {one.group.case: one for one in pipelines(study)}
    for name in (DETECTED, CLASSIFIED):
        side = sides.side(study, BOTH)
        [mean] = averages([side.parts[name, LAMA]])
        assert mean.value == pytest.approx(numbers(study, whole[name], LAMA)["with_reals"])
        assert len(page.rows(name, LAMA)) != len(page.rows(name, REAL))
    for test in (*ALL, REAL):
        [mean] = averages([sides.side(study, TABLES["nb.classification.recall"]).parts["classifier", test]])
        rows = page.rows(CLASSIFIED, test)
        assert mean.value == pytest.approx((rows.routed == CLASSES.get(test, "real")).mean())
    spec: TrialSpec = page.trial(CLASSIFIED).spec
    assert {*spec.parts} == {"route", *CLASSES.values()}
