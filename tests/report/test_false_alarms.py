"""Reals beside fakes: one column of their own, and not a digit of what is said of fakes is another for it."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from dfloc import summary
from dfloc.config import EvaluationSpec, SampleList
from dfloc.ledger import Ledger
from dfloc.metrics.metric import REALS_FLAGGED
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import budgets, build, evaluations, exposure, false_alarms, latex, place, published, ranking, render
from dfloc.report.chart import Figure
from dfloc.report.groups import Study
from dfloc.report.models import models
from dfloc.report.page import Report
from dfloc.report.results import Results
from dfloc.report.table import Table
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.conftest import small_paper
from tests.report.crossed import leave_one_out, single
from tests.report.studies import MINI, Maker
from tests.report.test_search import searched

REAL = "mini/real"
FLAGGED = [10] * 30 + [0] * 6 + [525] * 4  # of 1,000 pixels each: 4 of 40 over 1 %, and 6 % of all pixels
NONE = [0] * 40


def curves() -> SweepRecord:
    maker = Maker(MINI[:2])
    maker.curves([4, 16], epochs=4)
    maker.plan("budgets", dict.fromkeys(MINI[:2], 53), case="train_all_2")
    maker.plan("equal-total", dict.fromkeys(MINI[:2], 4), count=4)
    maker.baselines()
    return studies.record(maker, "mini", synthetic=True)


def crossed() -> SweepRecord:
    maker = Maker(MINI[:2])
    single(maker, "single", 53)
    leave_one_out(maker, "leave-one-out", 53)
    single(maker, "single", 53, case="fused", maps=("srm/stats", "srm/absolute"))
    maker.plan("all", dict.fromkeys(MINI[:2], 53), case="lone", spec={"epochs": 3, "batch": 8})
    maker.baselines()
    return studies.record(maker, "mini", synthetic=True)


def beside(trial: PlannedTrial) -> Iterator[EvaluationSpec]:
    protocol = trial.evaluations[0].protocol
    test = SampleList(digest="ee" * 32, counts={REAL: 40})
    for checkpoint in ("best", "last"):
        yield EvaluationSpec(trial=trial.fingerprint, checkpoint=checkpoint, domain=REAL, test=test, protocol=protocol)


def with_reals(record: SweepRecord) -> SweepRecord:
    trials = [
        one.model_copy(update={"evaluations": (*one.evaluations, *beside(one))}) if one.evaluations else one
        for one in record.trials
    ]
    return record.model_copy(update={"trials": tuple(trials)})


def score_reals(workspace: Workspace, record: SweepRecord, called: Sequence[int] = FLAGGED) -> None:
    ledger = Ledger(workspace)
    for trial in record.trials:
        if ledger.state(trial.fingerprint) != "done":
            continue
        for each in beside(trial):
            rows, none = studies.rows(each, 0.5), np.zeros(40, np.int64)
            counts = {"tp": none, "fp": np.array(called), "fn": none, "tn": 1000 - np.array(called)}
            for name, values in {**counts, "mask_area": none / 1.0, "iou": np.array(called) == 0}.items():
                rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
            ledger.put_rows(trial.fingerprint, each.key, rows)


@pytest.fixture(params=["curves", "crossed", "search"])
def both(request: pytest.FixtureRequest, tmp_path) -> tuple[Workspace, Study, Study]:
    """A study without reals, and the same with them."""
    workspace = Workspace(tmp_path)
    if request.param == "search":
        record = searched(workspace).record
    else:
        record = curves() if request.param == "curves" else crossed()
        studies.fill(workspace, record)
    score_reals(workspace, record)
    more = with_reals(record)
    return workspace, Study(record, Results(workspace, record)), Study(more, Results(workspace, more))


def report(workspace: Workspace, study: Study) -> Report:
    return build.read(workspace, study.record)


def lines_of(text: str, heads: Sequence[str] = ()) -> list[list[str]]:
    """Return the lines of a CSV; with heads of these columns, without the row of reals."""
    head, *lines = csv.reader(io.StringIO(text))
    kept = [head.index(name) for name in heads or head]
    return [[line[place] for place in kept] for line in (head, *lines) if false_alarms.HEAD not in line[1:2]]


def test_nothing_that_is_said_of_fakes_is_another_beside_reals(both) -> None:
    workspace, plain, more = both
    old, new = report(workspace, plain), report(workspace, more)
    assert [table.id for table in old.tables] == [table.id for table in new.tables]
    shown = set()
    for one, other in zip(old.tables, new.tables, strict=True):
        text = other.csv()
        shown |= {one.id} if false_alarms.HEAD in text else set()
        if one.id == "data":
            assert text.startswith(one.csv()), "the list of reals stands last"
            assert (REAL in text) > (REAL in one.csv())
        else:
            old_lines = lines_of(one.csv())
            assert lines_of(text, old_lines[0]) == old_lines
        assert [*one.source] == [line for line in other.source if not line.startswith(("Reals flagged:", "Reals:"))]
    wanted = {"exposure", "selected", "budgets", "equal-total", "train-test", "tested", "models", "search", "baselines"}
    assert shown == {table.id for table in old.tables} & wanted
    figures = [
        [replace(block, shared=frozenset()) for block in each.blocks if isinstance(block, Figure)]
        for each in (old, new)
    ]
    assert figures[0] == figures[1]
    assert figures[0]
    assert old.warnings == new.warnings
    assert [line for line in new.footer if REAL in line] == [
        f"Reals: mini/real, 40 images (list {next(iter(shown_digests(more)))}). Compared only within one list of them."
    ]
    assert not any("eals" in line for line in old.footer)


def shown_digests(study: Study) -> set[str]:
    return {false_alarms.lists(study).partition("(list ")[2].removesuffix(").")}


def cells_of(table: Table, head: str = false_alarms.HEAD) -> list[str]:
    place = table.heads.index(head)
    return [f"{row.cells[place].text} ({row.cells[place].small})" for row in table.rows]


def study_of(workspace: Workspace, record: SweepRecord, called: Sequence[int] = FLAGGED) -> Study:
    studies.fill(workspace, record)
    score_reals(workspace, record, called)
    more = with_reals(record)
    return Study(more, Results(workspace, more))


def test_the_share_is_that_of_reals_over_one_per_cent_and_the_area_stands_below(tmp_path) -> None:
    study = study_of(Workspace(tmp_path), curves())
    shown = cells_of(exposure.curves(study))
    assert shown[:6] == ["10.0 % (area 6.0 %)"] * 6
    [row] = [row for row in exposure.curves(study).rows if row.cells[0].text == MINI[1]][:1]
    cell = row.cells[-1]
    assert cell.exact[0] == pytest.approx(0.1)
    assert 0 <= cell.exact[1] < 0.1 < cell.exact[2], "its interval is over source images, as a fraction in the CSV"
    assert cell.span == tuple(f"{100 * end:.1f}" for end in cell.exact[1:])
    assert cell.metric == REALS_FLAGGED
    assert len(cells_of(budgets.budgets(study))) == len(budgets.budgets(study).rows)


def test_all_fake_flags_every_real_without_a_trial_of_it(tmp_path) -> None:
    record = crossed()
    record = record.model_copy(update={"trials": tuple(t for t in record.trials if t.spec.decoder.name != "all-fake")})
    study = study_of(Workspace(tmp_path), record)
    table = ranking.crossed(study, models(study))
    [row] = [row for row in table.rows if row.cells[1].text == false_alarms.HEAD][:1]
    assert row.cells[table.heads.index("all fake")].text == "100.0 %"
    assert row.cells[table.heads.index(MINI[0])].text == "10.0 %"
    assert cells_of(ranking.ranked(study, models(study)))[0] == "10.0 % (area 6.0 %)"


def test_of_several_trainings_the_one_that_flags_fewest_is_the_best(tmp_path) -> None:
    workspace, record = Workspace(tmp_path), crossed()
    study_of(workspace, record)
    few = record.model_copy(update={"trials": tuple(t for t in record.trials if t.case == "fused")})
    score_reals(workspace, few, NONE)
    more = with_reals(record)
    study = Study(more, Results(workspace, more))
    table = latex.with_best(ranking.ranked(study, models(study)))
    place = table.heads.index(false_alarms.HEAD)
    best = [(row.cells[0].text, row.cells[place].text) for row in table.rows if row.cells[place].best]
    assert best
    assert {text for _, text in best} == {"0.0 %"}


def test_a_training_that_lacks_reals_alone_is_a_hole_and_nothing_else_is(tmp_path) -> None:
    workspace, record = Workspace(tmp_path), curves()
    study = study_of(workspace, record)
    base = next(trial for trial in record.trials if trial.stage == "base")
    for each in beside(base):
        (Ledger(workspace).folder(base.fingerprint) / "rows" / f"{each.key}.parquet").unlink()
    lacking = Study(study.record, Results(workspace, study.record))
    assert cells_of(exposure.curves(lacking))[0] == "not scored ()"
    for one, other in zip(exposure.curves(study).rows, exposure.curves(lacking).rows, strict=True):
        assert [cell.text for cell in one.cells[:-1]] == [cell.text for cell in other.cells[:-1]]
    whole = summary.summary(record, Ledger(workspace), base)
    told = summary.summary(lacking.record, Ledger(workspace), lacking.record.trials[0])
    assert told == whole, "means of MLflow do not wait for reals"


def test_evaluations_have_a_row_for_each_real_list_and_no_number_of_fakes_in_it(both) -> None:
    workspace, plain, more = both
    del workspace
    old, new = evaluations.frame([plain]), evaluations.frame([more])
    reals = new[new.test_domain == REAL]
    scored = [one for one in more.results.all if one.scores]
    assert len(reals) == len(new) - len(old) == len({(one.trial.stage, one.trial.name) for one in scored}) * 2
    assert reals[["reals_flagged", "reals_area"]].drop_duplicates().to_numpy().tolist() == [[0.1, pytest.approx(0.06)]]
    gone = ["in_domain", *plain.protocol.per_image, "iou_low", "iou_high", "iou_all_fake"]
    assert reals[gone].isna().all(axis=None)
    assert new[new.test_domain != REAL][["reals_flagged", "reals_area"]].isna().all(axis=None)
    fakes = new[new.test_domain != REAL].drop(columns=["reals_flagged", "reals_area"]).reset_index(drop=True)
    assert fakes.drop(columns="in_domain").equals(old.drop(columns="in_domain"))


def test_mlflow_has_what_is_called_fake_of_reals_and_no_pixel_measure(tmp_path) -> None:
    workspace, record = Workspace(tmp_path), curves()
    study = study_of(workspace, record)
    trial = study.record.trials[0]
    plain = summary.summary(record, Ledger(workspace), record.trials[0])
    found = summary.summary(study.record, Ledger(workspace), trial)
    assert {key: value for key, value in found.items() if key not in plain} == {
        f"{head}/{REAL}/{key}": pytest.approx(value)
        for head in ("test", "test_last")
        for key, value in {"reals_flagged": 0.1, "reals_area": 0.06}.items()
    }
    assert {key: found[key] for key in plain} == plain


def test_published_numbers_stand_beside_ours_as_without_reals(tmp_path) -> None:
    workspace, record = Workspace(tmp_path), small_paper()
    more = study_of(workspace, record)
    tables = published.choose(published.load(unpublished=True), record.tables)
    found = [place.pairs(study, tables) for study in (Study(record, Results(workspace, record)), more)]
    told = [[repr((pair.gaps, pair.ours, pair.difference)) for pair in pairs] for pairs in found]  # NaN is not NaN
    assert told[0] == told[1]
    assert any(pair.difference for pair in found[0])


def test_markdown_and_latex_have_the_column(tmp_path) -> None:
    study = study_of(Workspace(tmp_path), curves())
    table = exposure.curves(study)
    assert "lower is better, and no other mean counts them. Reals: mini/real, 40 images (list " in table.whole()
    assert "10.0 %" in str(render.markdown("report", page=report(Workspace(tmp_path), study)))
    assert r"10.0 \%" in latex.latex(table, columns=["held-out", "n", "reals-flagged"])
