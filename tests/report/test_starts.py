"""What a page says of a sweep that several starts planned: one trial a cell, each protocol by itself, no hole."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfloc import registry, summary
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial, SearchAxis, SearchRecord
from dfloc.record import SweepRecord, union
from dfloc.report import evaluations, index, overview, render, search
from dfloc.report.build import build, read
from dfloc.report.controls import main
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.report.variants import replaced
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.conftest import curve_of
from tests.report.studies import MINI, Maker

NS = (4, 16)


def planned(only: tuple[str, ...] = (), **how: Any) -> SweepRecord:
    """Return the plan of a start: base, finetune, scratch, replay and baselines, or some of them."""
    maker = Maker(num_test=8, domains=MINI[:2], **how)
    maker.curves(NS, epochs=4)
    maker.baselines()
    maker.trials = [trial for trial in maker.trials if not only or trial.stage in only]
    return studies.record(maker, "mini").model_copy(update={"weights": {"ab" * 32: "openai", "cd" * 32: "mine.pth"}})


def old_or_new(trial: PlannedTrial, domain: str) -> float:
    return 0.6 if trial.spec.maps[0].weights.startswith("cd") or trial.spec.optimizer.lr == 2e-3 else 0.3


def study_of(tmp_path: Path, *starts: SweepRecord, of: Any = old_or_new, skip: Any = None) -> Study:
    workspace = Workspace(tmp_path / "workspace")
    ledger = Ledger(workspace)
    for one in starts:
        studies.fill(workspace, one, of, skip)
        for each in (each for trial in one.trials if ledger.done(trial.fingerprint) for each in trial.evaluations):
            if not ledger.has_rows(each.trial, each.key):
                ledger.put_rows(each.trial, each.key, studies.rows(each, 0.5))
    found = union(starts)
    return Study(found, Results(workspace, found))


def cells(study: Study, path: Path) -> list[dict[str, str]]:
    folder = build(Workspace(path / "workspace"), study.record, with_panel=False)
    with Path((folder / "evaluations.csv").path).open() as file:
        return list(csv.DictReader(file))


def test_after_other_weights_each_cell_has_the_new_trial_alone(tmp_path: Path) -> None:
    study = study_of(tmp_path, planned(weights="ab" * 32), planned(weights="cd" * 32))
    assert list(replaced(study.record)) == [
        "17 trials of an earlier start are replaced: other weights (openai:abababab, now mine.pth:cdcdcdcd)"
    ]
    curves = [curve_of(study, domain) for domain in MINI[:2]]
    assert [list(curve) for curve in curves] == [[0, *NS]] * 2
    mean = study.mean_of([(curve[16], [domain]) for curve, domain in zip(curves, MINI[:2], strict=True)])
    assert mean is not None
    assert (mean.value, mean.runs) == (pytest.approx(0.6), 1)
    assert {group.facet for group in study.groups} == {()}
    assert all(len(group.results) == 1 for group in study.groups)
    rows = cells(study, tmp_path)
    assert len(rows) == len({(row["trial"], row["checkpoint"], row["test_domain"]) for row in rows}) == 17 * 4
    assert overview.state_line(study) == "17 distinct trials: 17 finished."
    page = (tmp_path / "workspace/reports/exposure-mini-mini/report.md").read_text()
    assert page.count("17 trials of an earlier start are replaced: other weights") == 1


def test_a_new_trial_that_is_not_run_yet_is_a_hole_and_no_mixture(tmp_path: Path) -> None:
    def skip(trial: PlannedTrial) -> str:
        return "new" if trial.spec.maps[0].weights.startswith("cd") else ""

    study = study_of(tmp_path, planned(weights="ab" * 32), planned(weights="cd" * 32), skip=skip)
    group = curve_of(study, MINI[0])[4]
    assert (group.score([MINI[0]]), group.hole) == (None, "not run")


def test_what_was_not_planned_again_stands_apart(tmp_path: Path) -> None:
    """The second start changes the learning rate of one n alone; no mean is over old and new, and none lacks a cell."""
    again = planned(("finetune",))
    faster = tuple(changed(trial) for trial in again.trials if trial.axes["n"] == 4)
    study = study_of(tmp_path, planned(), again.model_copy(update={"trials": faster}))
    assert list(replaced(study.record)) == [
        "2 trials of an earlier start are replaced: another optimizer.lr (0.001, now 0.002)"
    ]
    facets = main(study).facets
    assert facets == [(("optimizer.lr", 0.002),), (("optimizer.lr", 0.001),)]
    for facet, ns, value in zip(facets, ([0, 4], [0, 16]), (0.6, 0.3), strict=True):
        curves = [curve_of(study, domain, facet=facet) for domain in MINI[:2]]
        assert [list(curve) for curve in curves] == [ns] * 2
        mean = study.mean_of([(curve[ns[1]], [domain]) for curve, domain in zip(curves, MINI[:2], strict=True)])
        assert mean is not None
        assert mean.value == pytest.approx(value)
    build(Workspace(tmp_path / "workspace"), study.record, with_panel=False)


def changed(trial: PlannedTrial) -> PlannedTrial:
    optimizer = trial.spec.optimizer.model_copy(update={"lr": 2e-3})
    spec = trial.spec.model_copy(update={"optimizer": optimizer})
    scored = tuple(each.model_copy(update={"trial": spec.fingerprint}) for each in trial.evaluations)
    return trial.model_copy(update={"spec": spec, "fingerprint": spec.fingerprint, "evaluations": scored})


def test_other_semantics_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    old = planned()
    numbers = dict(registry.SEMANTICS) | {"engine": registry.SEMANTICS["engine"] + 1}
    monkeypatch.setattr(registry, "SEMANTICS", numbers)
    monkeypatch.setattr("dfloc.config.SEMANTICS", numbers)
    found = union([old, planned()])
    assert (len(found.trials), len(found.replaced)) == (17, 17)
    assert list(replaced(found)) == ["17 trials of an earlier start are replaced: code whose numbers were others"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec: {"valid": spec.valid.model_copy(update={"digest": "v" * 64})}, "other validation images"),
        (lambda spec: {"train": spec.train.model_copy(update={"digest": "t" * 64})}, "other training images"),
        (lambda spec: {"decoder": spec.decoder.model_copy(update={"plugin": "p" * 64})}, "another plug-in"),
        (lambda spec: {"batch": 7}, "another batch (64, now 7)"),
    ],
)
def test_the_cause_is_told_in_words(change: Callable[[Any], dict[str, Any]], words: str) -> None:
    maker = Maker()
    old = maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])
    spec = old.spec.model_copy(update=change(old.spec))
    new = old.model_copy(update={"spec": spec, "fingerprint": "f" * 64 if "plugin" in words else spec.fingerprint})
    found = union([studies.record(Maker(trials=[one]), "mini") for one in (old, new)])
    [line] = replaced(found)
    assert line.startswith("1 trial of an earlier start is replaced: ")
    assert words in line


def test_another_protocol_for_one_stage_leaves_nothing_unfinished(tmp_path: Path) -> None:
    study = study_of(tmp_path, planned(), planned(("baselines",), protocol="dfloc-1"))
    assert study.record.protocols == ("declip-2025", "dfloc-1")
    rows = cells(study, tmp_path)
    protocols = study.record.protocols
    scored = {name: {row["stage"] for row in rows if row["protocol"] == name} for name in protocols}
    assert scored == {
        "declip-2025": {"base", "finetune", "scratch", "replay", "baselines"},
        "dfloc-1": {"baselines"},
    }  # fmt: skip
    assert len(rows) == (17 + 3) * 4
    assert all(row["iou"] for row in rows)
    workspace = Workspace(tmp_path / "workspace")
    frame = evaluations.frame(evaluations.by_protocol(workspace, study))
    assert frame.groupby("protocol").size().to_dict() == {"declip-2025": 17 * 4, "dfloc-1": 3 * 4}
    report = read(workspace, study.record)
    ids = [table.id for table in report.tables]
    assert len(ids) == len(set(ids))
    assert {"trials", "trials-dfloc-1", "baselines", "baselines-dfloc-1"} <= {*ids}
    said = {cell.text for table in report.tables for row in table.rows for cell in row.cells}
    assert not said & {"unfinished", "not run", "not scored"}
    words = render.markdown("report", page=report)
    assert "Protocol declip-2025; 68 evaluations" in words
    assert "Protocol dfloc-1; 12 evaluations" in words
    [titled] = [table.title for table in report.tables if table.id == "baselines-dfloc-1"]
    assert titled.endswith("(dfloc-1)")
    entry = index.entry(study)
    assert entry.state == "17 distinct trials: 17 finished."


def test_a_protocol_that_all_stages_were_planned_by_last_is_that_of_the_page(tmp_path: Path) -> None:
    study = study_of(tmp_path, planned(), planned(protocol="dfloc-1"))
    assert study.record.protocols == ("dfloc-1", "declip-2025")
    report = read(Workspace(tmp_path / "workspace"), study.record)
    words = render.markdown("report", page=report)
    assert words.index("Protocol dfloc-1; 68") < words.index("Protocol declip-2025; 68")
    said = {cell.text for table in report.tables for row in table.rows for cell in row.cells}
    assert "not scored" not in said, "a number that a protocol does not have is none that lacks"


def test_a_trial_is_told_in_mlflow_by_the_protocol_of_the_page_or_its_own(tmp_path: Path) -> None:
    """The baselines have both, the rest of the study one; each run has numbers of one alone, forgetting among them."""
    more = [planned((stage,), seed=seed, protocol="dfloc-1") for stage, seed in (("baselines", 0), ("scratch", 5))]
    study = study_of(tmp_path, planned(), *more)
    ledger = Ledger(Workspace(tmp_path / "workspace"))
    by_stage = {trial.stage: trial for trial in study.record.trials if trial.axes["seed"] == 0}
    for stage in ("baselines", "finetune"):
        numbers = summary.summary(study.record, ledger, by_stage[stage])
        assert numbers[f"test/{MINI[0]}/iou"] == pytest.approx(0.3), "0.5 by the other one"
        assert {each.protocol for each in summary.evaluated(study.record, ledger, by_stage[stage])} == {"declip-2025"}
    [late, *_] = [trial for trial in study.record.trials if trial.axes["seed"] == 5]
    assert study.record.protocol_of(late) == "dfloc-1"
    assert summary.summary(study.record, ledger, late)["test/mean/iou"] == pytest.approx(0.3)


def test_what_a_replaced_parent_forgot_is_still_told(tmp_path: Path) -> None:
    """Only the bases are planned anew: the old children keep their root, which speaks no more."""
    study = study_of(tmp_path, planned(weights="ab" * 32), planned(("base",), weights="cd" * 32))
    ledger = Ledger(Workspace(tmp_path / "workspace"))
    child = next(trial for trial in study.record.trials if trial.stage == "finetune")
    assert f"forgetting/{MINI[1]}" in summary.summary(study.record, ledger, child)
    build(Workspace(tmp_path / "workspace"), study.record, with_panel=False)


def test_each_search_has_a_section_of_its_own(tmp_path: Path) -> None:
    starts = []
    for stage, epochs in (("coarse", 0), ("fine", 9)):
        maker = Maker(num_test=8)
        points = [maker.plan(stage, {MINI[0]: 53}, lr=0.1**k, point=k, epochs=epochs) for k in range(2)]
        names, axes = tuple((trial.fingerprint,) for trial in points), {"lr": SearchAxis(low=0.01, high=1)}
        found = SearchRecord(stage=stage, objective="valid", trials=2, axes=axes, points=names)
        starts.append(studies.record(maker, "mini").model_copy(update={"search": found}))
    study = study_of(tmp_path, *starts)
    sections = list(search.sections(study))
    titles = [(section.id, section.title) for section in sections]
    assert titles == [("search-study", "The search"), ("search-study-2", "The search (coarse)")]
    ids = [block.id for section in sections for block in section.blocks]
    assert ids == ["fig-search", "search", "fig-search-2", "search-2"]
    assert sections[1].blocks[0].numbers == "search-2"  # type: ignore[union-attr]
    found = [(one.key, one.text.partition(" validation")[0]) for one in search.findings(study)]
    assert found == [("best", "Of 2 finished of 2 points"), ("best-coarse", "Of 2 finished of 2 points of coarse")]
    build(Workspace(tmp_path / "workspace"), study.record, with_panel=False)
