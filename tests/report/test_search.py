from collections.abc import Sequence
from typing import Any

import pytest

from dfloc.ledger import Ledger
from dfloc.outcome import EpochRecord, Stopped
from dfloc.planned import SearchAxis, SearchRecord
from dfloc.record import SweepRecord
from dfloc.report import search
from dfloc.report.build import build
from dfloc.report.chart import Figure
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.report.table import Table
from dfloc.storage import Workspace
from tests.report import studies

AXES = {"lr": SearchAxis(low=1e-4, high=1e-1, log=True), "layer": SearchAxis(choices=(["a/1", "b/2"], ["a/3"]))}
VALID = {0: 0.5, 1: 0.7, 4: 0.6}
TESTED = {0: 0.45, 1: 0.65, 4: 0.75}
LAYERS = (["a/1", "b/2"], ["a/3"])


def searched(workspace: Workspace, *, left_out: Sequence[str] = (), **more: Any) -> Study:
    """Five points: 0, 1 and 4 are finished, 2 was stopped after an epoch (of its first fold), 3 has failed."""
    maker = studies.Maker()
    names = []
    for number in range(5):
        axes = {"lr": 10.0 ** (-number - 1), "layer": LAYERS[number % 2], "point": number}
        counts = dict.fromkeys(studies.MINI, 53)
        folds = [{"left_out": one} for one in left_out] or [{}]
        made = [maker.plan("search", counts, **axes, **fold) for fold in folds]
        names.append(tuple(trial.fingerprint for trial in made))
    maker.baselines()
    about = {"stage": "search", "objective": "valid", "trials": 8, "axes": AXES, "rungs": (1,), "factor": 2}
    found = SearchRecord(**{**about, "points": tuple(names), **more})
    record = studies.record(maker, "mini", synthetic=True).model_copy(update={"search": found, "tables": ()})
    _fill(workspace, record)
    return Study(record, Results(workspace, record))


def _fill(workspace: Workspace, record: SweepRecord) -> None:
    ledger = Ledger(workspace)
    fates = {2: "new", 3: "failed"}
    studies.fill(
        workspace,
        record,
        of=lambda trial, domain: TESTED.get(trial.axes.get("point", -1), 0.2),
        skip=lambda trial: fates.get(trial.axes.get("point", -1), ""),
    )
    for trial in record.trials:
        number = trial.axes.get("point")
        if number == 2 and trial.axes.get("left_out", studies.MINI[0]) == studies.MINI[0]:
            attempt = ledger.begin(trial.spec)
            attempt.save_epoch(b"state", [_epoch(0.55)])
            ledger.stop(trial.fingerprint, record.sweep, Stopped(epoch=1, value=0.55, needed=0.6, time=0))


def _epoch(value: float) -> EpochRecord:
    return EpochRecord(epoch=1, steps=1, images=1, valid={"loss": 0, "iou": value}, seconds=1, time=0)


def blocks_of(study: Study) -> list[object]:
    return [block for section in search.sections(study) for block in section.blocks]


def table_of(study: Study) -> Table:
    [found] = [block for block in blocks_of(study) if isinstance(block, Table)]
    return found


def column(table: Table, name: str) -> list[str]:
    place = table.heads.index(name)
    return [row.cells[place].text for row in table.rows]


def test_points_are_ranked_by_validation_and_the_stopped_stand_below(tmp_path) -> None:
    table = table_of(searched(Workspace(tmp_path)))
    assert column(table, "Point") == ["4", "1", "0", "2", "3"], "by the objective that studies.fill writes: TESTED"
    assert column(table, "State") == ["finished"] * 3 + ["stopped early", "FAILED"]
    assert column(table, "Objective") == ["0.750", "0.650", "0.450", "0.550", "-"]
    assert column(table, "Test mean") == ["0.750", "0.650", "0.450", "-", "-"]
    assert column(table, "layer") == ["a/1 + b/2", "a/3", "a/1 + b/2", "a/1 + b/2", "a/3"]
    assert table.rows[0].cells[table.heads.index("Objective")].mark == "strong"
    assert "After epochs 1 a trial goes on" in table.caption
    assert "out-of-domain" not in table.caption
    assert table.notes[0] == "3 of 8 points were not suggested."
    assert "all fake 0.200" in table.notes[1]


def test_a_space_that_was_drawn_whole_says_so(tmp_path) -> None:
    table = table_of(searched(Workspace(tmp_path), exhausted=True))
    assert table.notes[0] == ("There are no more than these 5 different points, of 8 that were asked for.")


def test_importance_is_drawn_as_it_is_on_record(tmp_path) -> None:
    study = searched(Workspace(tmp_path), importance={"layer": 0.8, "lr": 0.2}, weighed=4)
    figures = {block.id: block for block in blocks_of(study) if isinstance(block, Figure)}
    [panel] = figures["fig-importance"].panels
    assert list(panel.chart.shares.items()) == [("layer", 0.8), ("lr", 0.2)]
    assert panel.words == "layer 80 %, lr 20 %"
    assert "over 4 points" in figures["fig-importance"].caption


def test_it_finds_the_finished_point_of_highest_validation(tmp_path) -> None:
    (found,) = search.findings(searched(Workspace(tmp_path), importance={"layer": 0.8, "lr": 0.2}, weighed=4))
    assert found.text == (
        "Of 3 finished of 5 points validation chooses lr = 1e-05, a/1 + b/2: validation IoU 0.75, test mean "
        "0.75; what mattered most is layer (80 %)"
    )
    assert found.numbers == pytest.approx({"valid": 0.75, "test": 0.75})


def test_a_study_without_a_search_has_no_such_finding(mini_study: Study) -> None:
    assert list(search.findings(mini_study)) == []


def test_no_importance_before_there_is_one(tmp_path) -> None:
    blocks = blocks_of(searched(Workspace(tmp_path)))
    assert [block.id for block in blocks] == ["fig-search", "search"]


def test_the_history_has_the_best_so_far_of_finished_points(tmp_path) -> None:
    [history] = [block for block in blocks_of(searched(Workspace(tmp_path))) if block.id == "fig-search"]
    done, stopped, best = history.panels[0].chart.series  # type: ignore[union-attr]
    assert [mark.x for mark in done.marks] == [0, 1, 4]
    assert [mark[:2] for mark in stopped.marks] == [(2, 0.55)]
    assert [mark.value for mark in best.marks] == pytest.approx([0.45, 0.65, 0.75])
    assert "before each trial had a value: 3." in history.caption  # type: ignore[union-attr]


def test_a_point_that_was_stopped_before_each_fold_had_a_value_has_none(tmp_path) -> None:
    study = searched(Workspace(tmp_path), left_out=studies.MINI[:2], objective="leave-one-training-domain-out")
    assert column(table_of(study), "State")[3] == "stopped early"
    assert column(table_of(study), "Objective")[3] == "-", "0.55 is that of the first fold alone"
    [history] = [block for block in blocks_of(study) if block.id == "fig-search"]
    assert not history.panels[0].chart.series[1].marks  # type: ignore[union-attr]
    assert "before each trial had a value: 2, 3." in history.caption  # type: ignore[union-attr]


def test_of_left_out_domains_the_model_that_was_trained_without_one_is_tested_on_it(tmp_path) -> None:
    study = searched(
        Workspace(tmp_path), left_out=studies.MINI[:2], objective="leave-one-training-domain-out", rungs=()
    )
    table = table_of(study)
    assert column(table, studies.MINI[0])[0] == "0.750"
    assert column(table, studies.MINI[2])[0] == "-", "no model was trained without it"
    assert "left out of training" in table.caption
    assert "whose epoch and point its validation images chose: this is not clean out-of-domain." in table.caption
    assert "No trial is stopped early." in table.caption


def test_a_study_without_a_search_has_no_such_section(mini_study: Study) -> None:
    assert not blocks_of(mini_study)


def test_the_page_has_the_search_and_no_matrix_of_its_points(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    folder = build(workspace, searched(workspace).record, with_panel=False)
    page = (folder / "report.md").read_text()
    assert "## The search" in page
    assert "Train x test" not in page
    assert (folder / "search.csv").read_text().startswith("Point,lr,layer,State,")
    assert "6 finished, 1 FAILED, 1 stopped early" in page, "three points and three baselines"
