import pytest

from dfloc.report import budgets
from tests.report import studies
from tests.report.conftest import texts
from tests.report.studies import DOLOS, MINI


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
    kept = tuple(trial for trial in record.trials if trial.case == "9000-each-per-model")
    record = record.model_copy(update={"trials": kept})
    study = study_of(record, skip=lambda trial: "failed" if trial.axes["domain"] == DOLOS[1] else "")
    (row,) = budgets.budgets(study).rows
    assert [cell.text for cell in row.cells][5:8:2] == ["-", "failed"]
    assert row.cells[-2].text == "failed"


def test_equal_totals_stand_beside_single_domains(mini_study, paper_study):
    names = [row.cells[0].text for row in budgets.equal_total(mini_study).rows]
    assert {"count = 13", "count = 40", "48 of one domain"} <= set(names)
    names = [row.cells[0].text for row in budgets.equal_total(paper_study).rows]
    assert {"count = 750", "count = 2250", "3000-each-per-model-same-backbone", "9000-each-per-model"} <= set(names)
    assert not any("of one domain" in name for name in names)


def test_baselines_have_iou_and_ap(mini_study):
    rows = [[cell.text for cell in row.cells[:4]] for row in budgets.baselines(mini_study).rows]
    assert rows[0] == ["all fake", "IoU", "0.170", "0.170"]
    assert rows[1] == ["all fake", "AP", "-", "0.290"]
