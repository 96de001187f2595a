"""The page of composites, on made-up rows: its numbers are those of the rows, and what lacks is named."""

import csv
import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfloc.engine import route
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import routing
from dfloc.report.answer import answer
from dfloc.report.build import read
from dfloc.report.groups import Study
from dfloc.report.page import Report
from dfloc.report.pipelines import numbers, pipelines
from dfloc.report.results import Results
from dfloc.report.table import Table
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from tests.golden.filled import Filled, smaller
from tests.report.planned import any_number_of_images

CLASSIFIED, DETECTED = "classifier+4-specialists", "detector+generalist"


class Fated(Filled):
    """One that fails the trials of a stage."""

    fails = ""

    def _fate(self, trial: PlannedTrial) -> str:
        return "failed" if trial.stage == self.fails else super()._fate(trial)


class Page:
    """The sweep at paper size, without data, its rows made up."""

    def __init__(self, folder: Path, fails: str = ""):
        self.workspace = Workspace(folder / "workspace")
        options = SweepRequest("two-step", str(self.workspace.root), preset="paper")
        plan = prepare(
            options, self.workspace, data_of(options, self.workspace), Inventory(self.workspace, load=False)
        ).plan
        self.record: SweepRecord = smaller(plan.resolved.record)
        filled = Fated(self.workspace, ())
        filled.fails = fails
        filled.fill(self.record)
        self.ledger = Ledger(self.workspace)

    @property
    def study(self) -> Study:
        record = self.record.by("declip-2025")
        return Study(record, Results(self.workspace, record))

    @cached_property
    def report(self) -> Report:
        return read(self.workspace, self.record)

    def trial(self, case: str) -> PlannedTrial:
        return next(one for one in self.record.trials if one.case == case)

    def rows(self, case: str, domain: str) -> pd.DataFrame:
        [each] = [one for one in self.trial(case).evaluations if (one.checkpoint, one.domain) == ("best", domain)]
        return self.ledger.scored(each).to_pandas()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with any_number_of_images():
        yield Page(tmp_path_factory.mktemp("page"))


def lines(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def table(page: Page, name: str) -> list[dict[str, str]]:
    return lines(next(one for one in page.report.tables if one.id == name))


def test_with_reals_is_the_plain_mean_over_both_lists(page: Page) -> None:
    rows = {(one["Pipeline"], one["Test domain"]): one for one in table(page, "two-step")}
    for domain in page.record.tested:
        fakes, reals = page.rows(CLASSIFIED, domain), page.rows(CLASSIFIED, "celebahq/real")
        line = rows[CLASSIFIED, domain]
        assert float(line["Fakes"]) == pytest.approx(fakes.iou.mean())
        assert float(line["With reals"]) == pytest.approx(pd.concat([fakes.iou, reals.iou]).mean())


def test_a_right_router_is_looked_up_by_hand(page: Page) -> None:
    rows = {(one["Pipeline"], one["Test domain"]): one for one in table(page, "two-step")}
    for domain, family in (("celebahq/ldm", "ldm"), ("celebahq/repaint-p2-9k", "repaint-p2")):
        part = page.trial(CLASSIFIED).spec.parts[family].parent
        trial = next(one for one in page.record.trials if one.fingerprint == part)
        assert trial.axes["domain"] == domain
        [each] = [one for one in trial.evaluations if (one.checkpoint, one.domain) == ("best", domain)]
        oracle, own = page.ledger.scored(each).to_pandas().iou, page.rows(CLASSIFIED, domain)
        line = rows[CLASSIFIED, domain]
        assert float(line["Right router"]) == pytest.approx(oracle.mean())
        assert float(line["Routing cost"]) == pytest.approx((oracle - own.iou).mean())
        assert float(line["Routing recall"]) == pytest.approx((own.routed == family).mean())
        right = own.routed == family
        assert (own.iou[right] == oracle[right]).all()


def test_reals_are_passed_or_misrouted_to_an_empty_map(page: Page) -> None:
    reals = page.rows(CLASSIFIED, "celebahq/real")
    line = next(one for one in table(page, "empty-reals") if one["Pipeline"] == CLASSIFIED)
    empty, passed = reals.tp + reals.fp == 0, reals.routed == "real"
    assert float(line["Empty map"]) == pytest.approx(empty.mean())
    assert float(line["Called real"]) == pytest.approx(passed.mean())
    assert float(line["Misrouted, map empty"]) == pytest.approx((empty & ~passed).mean())
    assert 0 < passed.mean() <= empty.mean()


def test_wrong_calls_sum_to_the_whole_cost(page: Page) -> None:
    study = page.study
    one = next(each for each in pipelines(study) if each.name == CLASSIFIED)
    cells = [line for line in table(page, "routing-cells") if line["Pipeline"] == CLASSIFIED]
    lost = sum(float(line["Images"]) * float(line["Cost of each"]) for line in cells)
    whole = sum(numbers(study, one, domain)["cost"] * len(page.rows(CLASSIFIED, domain)) for domain in study.tested)  # type: ignore[operator]
    assert lost == pytest.approx(whole)
    assert sum(float(line["Part of the whole cost"]) for line in cells) == pytest.approx(1)


def test_the_threshold_one_half_is_what_the_detector_calls(page: Page) -> None:
    rows = [line for line in table(page, "routing-thresholds") if line["Threshold"] == "0.50"]
    assert [line["Pipeline"] for line in rows] == [DETECTED]
    own = np.mean([page.rows(DETECTED, domain).iou.mean() for domain in page.record.tested])
    assert float(rows[0]["Fakes"]) == pytest.approx(own)


def test_published_numbers_stand_beside_as_context(page: Page) -> None:
    rows = {(one["Pipeline"], one["Test domain"]): one for one in table(page, "two-step")}
    assert rows["generalist", "celebahq/repaint-p2-9k"]["Published, fakes"] == "0.624"
    assert float(rows[CLASSIFIED, "celebahq/lama"]["Published, with reals"]) == 0.935
    assert float(rows["classifier+4-specialists-clip", "celebahq/lama"]["Published, with reals"]) == 0.8973
    assert rows[DETECTED, "celebahq/ldm"]["Published, fakes: note"] == "derived.two_step.detector_generalist, derived"
    assert not any("s000.two_step" in line for line in page.report.footer if "which are not shown" in line)


def test_the_answer_is_on_two_steps(page: Page) -> None:
    found = answer(page.study)
    assert [*found.sentences][:3] == ["two_steps", "with_reals", "routing"]
    own = np.mean([page.rows(CLASSIFIED, domain).iou.mean() for domain in page.record.tested])
    assert found.numbers["two_steps/composite"] == pytest.approx(own)
    assert found.sentences["two_steps"].startswith(
        f"Classifier+4-specialists has {own:.2f} on fakes, one model (general"
    )


@pytest.mark.parametrize(("stage", "called"), [("generalist", "generalist seed=0"), ("classifier", "its router")])
def test_a_part_that_failed_is_named(tmp_path: Path, stage: str, called: str) -> None:
    with any_number_of_images():
        page = Page(tmp_path, fails=stage)
        said = routing.holes(page.study)
    waits = [line for line in said if called in line]
    assert len(waits) == {"generalist": 1, "classifier": 3}[stage]
    assert all(line.startswith("composed ") and line.endswith(", which failed.") for line in waits)
    assert waits == said


def test_a_part_whose_rows_are_gone_leaves_a_hole_and_the_page(tmp_path: Path) -> None:
    with any_number_of_images():
        page = Page(tmp_path)
        before = next(one for one in pipelines(page.study) if one.name == DETECTED)
        known = numbers(page.study, before)
        part = page.ledger.folder(page.trial(DETECTED).spec.parts["fake"].parent)
        for path in (part / "rows").iterdir():
            path.unlink()
        study = page.study
        after = numbers(study, next(one for one in pipelines(study) if one.name == DETECTED))
        said, blocks = routing.holes(study), routing.section(study, []).blocks
    assert None not in known.values()
    assert {name for name, value in after.items() if value is None} == {"recall", "oracle", "cost"}
    assert after["with_reals"] == known["with_reals"]
    gone = "a right router is not told: generalist seed=0 has no rows any more."
    assert said == [f"Behind composed {DETECTED} seed=0 {gone}"]
    assert {"two-step", "empty-reals"} <= {block.id for block in blocks}


def test_a_study_without_composites_has_no_such_section(page: Page) -> None:
    trials = tuple(one for one in page.record.trials if not one.spec.parts)
    record = page.record.model_copy(update={"trials": trials}).by("declip-2025")
    study = Study(record, Results(page.workspace, record))
    assert routing.section(study, []).blocks == []
    assert "two_steps" not in answer(study).sentences


def test_what_a_router_calls_is_read_by_any_protocol_of_images(page: Page) -> None:
    trial = page.trial(CLASSIFIED)
    each = trial.evaluations[0]
    router = route.routers(page.ledger, trial.spec.parts["route"].parent, each)
    assert {*router["protocol"].to_pylist()} == {"image-1"}
