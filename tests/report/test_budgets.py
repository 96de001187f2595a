import pytest

from dfloc.report import budgets
from tests.report import studies
from tests.report.conftest import texts
from tests.report.studies import DOLOS, MINI, Maker


def test_a_mixture_answers_for_every_domain(mini_study):
    table = budgets.budgets(mini_study)
    row = texts(table, "24-first-12-rest")
    assert row[1:4] == ["24 + 12 + 12 + 12", "srm/stats", "52"]
    group = mini_study.stage("budgets", "24-first-12-rest")[0]
    assert row[6] == f"{studies.truth(group.first.trial, MINI[0]):.3f}"


def test_rows_are_ranked_by_validation_and_baselines_stand_last(study_of):
    def of(trial, domain):
        return {"train_all_4": 0.4, "24-first-12-rest": 0.6}.get(trial.case, 0.2)

    names = [row.cells[0].text for row in budgets.budgets(study_of(studies.mini(), of)).rows]
    assert names[:2] == ["24-first-12-rest", "train_all_4"]
    assert names[2:] == ["all fake", "mean training mask", "local-variance threshold"]


def test_per_model_rows_are_a_diagonal(paper_study):
    line = next(line for line in budgets.lines(paper_study) if line.name == "3000-each-per-model")
    assert list(line.models) == list(DOLOS)
    for domain, group in line.models.items():
        assert group.axes["domain"] == domain
        assert line.score([domain]).value == pytest.approx(studies.truth(group.first.trial, domain))
    row = texts(budgets.budgets(paper_study), "3000-each-per-model")
    assert row[1:4] == ["4 models x 3,000", "clip-vit-l14/layer20", "1,200"]
    assert row[-2] == f"{line.score(DOLOS).value:.3f}"


def test_a_line_without_one_of_its_models_has_a_hole(study_of):
    record = studies.paper(ns=(250,), num_test=6)
    kept = ("9000-each-per-model", "3000-each-train_all_4")
    trials = tuple(trial for trial in record.trials if trial.case in kept or trial.stage in ("base", "finetune"))
    record = record.model_copy(update={"trials": trials})
    study = study_of(record, skip=lambda trial: "failed" if trial.axes.get("domain") == DOLOS[1] else "")
    _, row, baseline = budgets.budgets(study).rows
    assert (baseline.cells[0].text, baseline.muted) == ("all fake", True)
    assert [cell.text for cell in row.cells][5:8:2] == ["-", "failed"]
    assert row.cells[-2].text == "failed"


def test_equal_totals_stand_beside_single_domains(mini_study, paper_study):
    def block(study):
        return [[cell.text for cell in row.cells[:2]] for row in budgets.equal_total(study).rows if not row.muted]

    assert sorted(block(mini_study)[:2]) == [["16 of one domain", "4 models x 16"], ["count = 4", "4 x 4"]]
    assert block(mini_study)[2:] == [["count = 13", "4 x 13"], ["52 of one domain", "-"]]
    missing = budgets.equal_total(mini_study).rows[3]
    assert missing.cells[0].small == "no model of one domain has this total"
    assert {cell.mark for cell in missing.cells} == {"hole"}
    singles = {"3000-each-per-model", "3000-each-per-model-same-backbone"}
    assert {name for name, _ in block(paper_study)[:3]} == {"count = 750", *singles}
    assert {name for name, _ in block(paper_study)[3:]} == {"count = 2250", "9000-each-per-model"}


def test_the_caption_of_equal_totals_says_what_else_differs(mini_study, paper_study):
    """By hand: 3,000 images are 94 steps at a batch of 32 and 47 at 64, 30 times; 9,000 are 282, on both sides."""
    caption = budgets.equal_total(mini_study).caption
    assert " Models of all domains and of one also differ in validation images 52 / 13." in caption
    caption = budgets.equal_total(paper_study).caption
    assert (
        "also differ in steps 2,820 / 1,410, validation images 1,200 / 300 … 900, features clip-vit-l14/layer20 + "
        in caption
    )
    assert "batch 32 / 64." in caption


def test_every_row_of_a_block_has_its_total(mini_study, paper_study):
    for study in (mini_study, paper_study):
        for line in [*budgets.lines(study), *budgets.counted(study)]:
            trained = {sum(group.first.trial.spec.train.counts.values()) for group in line.groups}
            assert line.totals == trained


def test_the_model_of_a_line_whose_maps_are_empty_is_marked(study_of):
    def of(trial, domain):
        return 0.0 if trial.case == "train_all_4" and domain == MINI[1] else 0.5

    row = next(row for row in budgets.budgets(study_of(studies.mini(), of)).rows if row.cells[0].text == "train_all_4")
    assert [cell.small for cell in row.cells[6:10]] == ["", "empty predictions; not above all fake", "", ""]
    assert row.cells[0].small == ""


def test_each_value_of_a_root_axis_has_its_own_baselines(study_of):
    maker = Maker()
    maker.curves([4], epochs=4)
    for loss, count in (("bce", 50), ("dice", 51)):
        maker.base_count = count
        maker.plan("budgets", dict.fromkeys(MINI, count), case="all", **{"trial.loss": loss})
        maker.plan("baselines", dict.fromkeys(MINI, count), decoder="all-fake", epochs=1, **{"trial.loss": loss})
    study = study_of(studies.record(maker, "mini"), lambda trial, _: trial.spec.train.counts.get(MINI[0], 99) / 100)
    rows = [[row.cells[0].text, row.cells[6].text] for row in budgets.budgets(study).rows]
    assert rows[2:] == [["all fake, bce", "0.500"], ["all fake, dice", "0.510"]]
    assert budgets.baselines(study).rows[2].cells[0].text == "all fake, dice"


def test_baselines_have_iou_and_ap(mini_study):
    rows = [[cell.text for cell in row.cells[:4]] for row in budgets.baselines(mini_study).rows]
    assert rows[0] == ["all fake", "IoU", "0.170", "0.170"]
    assert rows[1] == ["all fake", "AP", "-", "0.290"]
