"""What is collapsed or not above all fake is told wherever its number stands, and is the best of nothing."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dfloc.config import EvaluationSpec, SampleList
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import budgets, captions, cells, exposure, figures, heatmaps, latex, models, overview, ranking
from dfloc.report.answer import answer
from dfloc.report.build import build
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.report.table import Table
from dfloc.storage import Workspace
from dfloc.sweep import scores
from tests.report import crossed as made
from tests.report import studies
from tests.report.studies import DOLOS, MINI, Maker

ALL_FAKE = 130 / 1040  # mean IoU of calling every pixel fake on the images of studies.rows
FULL = {"tp": 130, "fp": 910, "fn": 0, "tn": 0}

Maps = Callable[[PlannedTrial, str], Mapping[str, Any]]


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def study_of(workspace: Workspace, record: SweepRecord, truth: studies.Truth, maps: Maps) -> Study:
    """Return a study whose trials have that IoU, and on each domain rows with these columns changed."""
    studies.fill(workspace, record, truth, checkpoints=("best",))
    ledger = Ledger(workspace)
    for trial in record.trials:
        for each in trial.evaluations:
            new = maps(trial, each.domain) if each.checkpoint == "best" else {}
            if new:
                rows = ledger.rows(trial.fingerprint, each.key).to_pandas()
                kept = rows.assign(**{name: np.resize(values, len(rows)) for name, values in new.items()})
                ledger.put_rows(trial.fingerprint, each.key, studies.pa.Table.from_pandas(kept, preserve_index=False))
    record.save(workspace.sweep(record.sweep))
    return Study(record, Results(workspace, record))


def of_two(workspace: Workspace, first: float, maps: Maps = lambda *_: {}, **more: Any) -> Study:
    """Two models of a case each, trained on each of four domains: `first` has that IoU everywhere, the other 0.3."""
    maker = Maker(DOLOS, protocol="dfloc-1", **more)
    for case in ("first", "second"):
        made.single(maker, "single", 9, case=case, epochs=len(case))
    record = made.named(maker, "single-domain")
    truth: studies.Truth = lambda trial, domain: first if trial.case == "first" else 0.3  # noqa: E731
    return study_of(workspace, record, truth, maps)


def cell(table: Table, row: str, column: str) -> Any:
    place = table.heads.index(column)
    return next(each.cells[place] for each in table.rows if each.cells[0].text == row)


@pytest.mark.parametrize(
    ("maps", "kind"),
    [
        (FULL, "all fake"),
        ({"tp": 0, "fp": 0, "fn": 130, "tn": 910}, "empty"),
        ({"spread": 0.0}, "constant"),
        (FULL | {"spread": 0.0}, "all fake, constant"),
    ],
)
def test_a_trial_whose_maps_are_of_one_kind_has_collapsed(workspace: Workspace, maps, kind) -> None:
    study = of_two(workspace, 0.2, lambda trial, _: maps if trial.case == "first" else {})
    found = models.models(study)
    said = f"COLLAPSED ({kind})"
    assert ranking.name(found[0]).small == said
    assert ranking.name(found[1]).small == ""
    assert said in cell(ranking.crossed(study, found), "first", DOLOS[0]).small
    states = {row.cells[1].text: row.cells[3].small for row in overview.trials(study).rows}
    assert states == {"first": said, "second": ""}
    assert f"COLLAPSED (over 90 % of the predictions of one kind): 4 {kind}; they are marked." in overview.warnings(
        study
    )
    tile = heatmaps.crossed(study, found).panels[0].words
    assert "x" in tile


def test_ninety_per_cent_are_not_over_ninety(workspace: Workspace) -> None:
    """Nine of ten maps of each test list are all fake."""
    spread = np.array([0.0] * 9 + [0.5])
    study = of_two(workspace, 0.2, lambda *_: {"spread": spread}, num_test=40)
    assert not any(group.collapsed for group in study.groups)


def test_all_fake_maps_on_one_domain_are_told_there(workspace: Workspace) -> None:
    def maps(trial: PlannedTrial, domain: str) -> Mapping[str, Any]:
        return FULL if trial.case == "first" and domain == DOLOS[1] else {}

    group = of_two(workspace, 0.2, maps).groups[0]
    assert cells.notes(group, [DOLOS[1]]) == ["all fake predictions"]
    assert cells.notes(group, DOLOS) == ["all fake predictions on 1 of 4"]
    assert (cells.is_degenerate(group, [DOLOS[1]]), cells.is_degenerate(group, DOLOS)) == (True, False)


@pytest.mark.parametrize(("iou", "below"), [(ALL_FAKE - 0.01, True), (ALL_FAKE, True), (ALL_FAKE + 0.01, False)])
def test_a_model_is_not_above_all_fake_where_its_mean_is_no_more(workspace: Workspace, iou, below) -> None:
    study = of_two(workspace, iou)
    first, other = models.models(study)
    assert cells.is_not_above([(first.groups[0], DOLOS)]) is below
    assert not cells.is_not_above([(other.groups[0], DOLOS)])
    found = cell(ranking.crossed(study, [first, other]), "first", DOLOS[0])
    assert (found.small, found.mark) == (("not above all fake", "weak") if below else ("", "strong"))
    mean = cell(ranking.ranked(study, [first, other]), "first", "All")
    assert ("not above all fake" in mean.small) is below


def test_what_is_not_above_all_fake_is_the_best_of_nothing(workspace: Workspace) -> None:
    """Both models: one by IoU alone though it is first by validation."""
    study = of_two(workspace, 0.1)
    for result in study.results.all:
        object.__setattr__(result, "valid", 0.9 if result.trial.case == "first" else 0.2)
    found = models.models(study)
    table = ranking.ranked(study, found)
    valid = [(row.cells[0].text, row.cells[2].mark) for row in table.rows if not row.muted]
    assert valid == [("first", ""), ("second", "strong")]
    assert "oracle" not in cell(table, "first", "All").small
    assert r"\textbf{0.1" not in latex.latex(table)
    best = answer(study).sentences["best"]
    assert best == (
        "Trained on one domain, second, which validation chooses of 2, has IoU 0.30 in domain and 0.30 out of domain."
    )


def test_where_no_model_is_above_all_fake_none_is_the_best(workspace: Workspace) -> None:
    study = of_two(workspace, 0.1, lambda trial, _: {"iou": 0.05})
    found = models.models(study)
    table = ranking.ranked(study, found)
    assert {row.cells[2].mark for row in table.rows if not row.muted} == {""}
    for each in (table, ranking.crossed(study, found)):
        text = latex.latex(each)
        assert r"\textbf" not in text.split(r"\midrule", 1)[1]
        assert r"\underline" not in text
    best = answer(study).sentences["best"]
    assert "chooses" not in best
    assert best.endswith("not above all fake.")
    page = build(workspace, study.record, with_panel=False)
    assert "oracle |" not in (page / "report.md").read_text()


def test_another_measure_says_that_it_is_iou_which_is_not_above(workspace: Workspace) -> None:
    study = study_of(
        workspace, studies.mini(), lambda trial, _: 0.5 if trial.stage != "finetune" else 0.1, lambda *_: {}
    )
    row = next(row for row in exposure.best_last(study).rows if row.cells[1].text == "16")
    assert [each.small for each in row.cells[4:7:2]] == ["not above all fake", "IoU not above all fake"]
    oracle = exposure.selected(study).rows[0].cells[6]
    assert oracle.small.endswith("not above all fake")
    marks = figures.panels(study, []).panels[0].chart.series[0].marks
    assert any("not above all fake" in note for note in marks[2].notes)
    assert all(mark.shape != "x" for mark in marks), "a cross says that the maps say nothing"


@pytest.mark.parametrize("protocol", ["declip-2025", "dolos-2024", "dfloc-1"])
def test_all_fake_needs_no_trial_and_is_what_a_planned_one_says(workspace, tmp_path, protocol) -> None:
    """The planned baseline's rows are written as it would be scored; the tables say the same, with and without it."""
    maker = Maker(protocol=protocol)
    base = maker.plan("base", dict.fromkeys(MINI[1:], 53), held_out=MINI[0])
    maker.plan("finetune", {MINI[0]: 16}, parent=base, epochs=4, held_out=MINI[0], n=16)
    bare = studies.record(maker, "mini")
    maker.plan("baselines", dict.fromkeys(MINI, 53), decoder="all-fake", epochs=1)
    planned = studies.record(maker, "mini")
    iou = {"iou": (130 + 1e-8) / (1040 + 1e-8) if protocol == "declip-2025" else 0.125}
    own = FULL | iou | {"ap": 0.125, "pbca": 0.125, "f1": 260 / 1170, "auc": 0.5, "mcc": 0.0}

    def maps(trial: PlannedTrial, _: str) -> Mapping[str, Any]:
        if trial.stage != "baselines":
            return {}
        return {key: value for key, value in own.items() if key in FULL or key in study_keys}

    study_keys = protocols.find(protocol).per_image
    with_it = study_of(Workspace(tmp_path / "planned"), planned, studies.truth, maps)
    without = study_of(workspace, bare, studies.truth, lambda *_: {})
    assert with_it.all_fake is None
    (mine,), (theirs,) = (captions.baselines(each, "all-fake").values() for each in (without, with_it))
    assert mine.collapsed == theirs.collapsed == "", "it is what its name says"
    for metric in set(study_keys) - {"f1_fixed", "f1_best"}:
        for domains in ([MINI[0]], list(MINI)):
            found, other = mine.score(domains, metric), theirs.score(domains, metric)
            assert found is not None
            assert other is not None
            assert (found.value, found.low, found.high) == (other.value, other.low, other.high), metric
    of_set, other_set = (group.first.scores["best", MINI[0]].of_set for group in (mine, theirs))
    bare_of = [{k: v for k, v in each.items() if "f1_" not in k} for each in (of_set, other_set)]
    assert bare_of[0] == pytest.approx(bare_of[1])
    lines = [[each.text for each in exposure.curves(study).rows[-1].cells] for study in (without, with_it)]
    assert [line[0] for line in lines] == ["all fake"] * 2
    assert lines[0][5:] == lines[1][5:] == ["0.125"] * 5


def test_every_table_that_lists_baselines_has_all_fake(workspace: Workspace) -> None:
    study = of_two(workspace, 0.4)
    found = models.models(study)
    ranked = ranking.ranked(study, found)
    assert (ranked.rows[-1].cells[0].text, ranked.rows[-1].muted) == ("all fake", True)
    assert cell(ranked, "all fake", "All").text == "0.125"
    assert "all fake" in ranking.crossed(study, found).heads
    assert "all fake 0.125" in ranking.measured(study, found).notes[0]
    table = budgets.baselines(study)
    assert [[each.text for each in row.cells[:2]] for row in table.rows] == [["all fake", "IoU"], ["all fake", "AP"]]
    assert table.rows[1].cells[-1].text == "0.125", "prevalence"
    assert "Mean training mask" not in table.caption
    assert study.results.counts() == {"done": 8}, "it is no trial"


def test_rows_without_a_spread_say_nothing_of_constant_maps(workspace: Workspace) -> None:
    study = of_two(workspace, 0.4)
    assert {score.kinds.recorded for score in study.results.scores()} == {0}
    text = (build(workspace, study.record, with_panel=False) / "evaluations.csv").read_text().splitlines()
    head, line = text[0].split(","), text[1].split(",")
    told = dict(zip(head, line, strict=True))
    assert [told[name] for name in ("iou_all_fake", "empty", "all_fake", "constant", "collapsed")] == [
        "0.125",
        "0.0",
        "0.0",
        "",
        "False",
    ]


@pytest.mark.parametrize(("fake", "word"), [(0, ""), (30, "empty")])
def test_photographs_that_are_called_real_are_no_collapse(fake: int, word: str) -> None:
    """A domain of photographs alone, where a map without a fake pixel is right; and one whose fakes are missed."""
    test = SampleList(digest="d", counts={"mine/real": 12})
    one = EvaluationSpec(trial="t", checkpoint="best", domain="mine/real", test=test, protocol="declip-2025")
    counts = {"tp": 0, "fp": 0, "fn": fake, "tn": 900}
    rows = studies.rows(one, 0.5).to_pandas().assign(**counts)
    assert scores.of_rows(pa.Table.from_pandas(rows), "declip-2025", "mine/real").collapsed == word
