import pytest

from dfloc.config import Lineage
from dfloc.report import models
from dfloc.report.groups import Study
from dfloc.report.models import ALL, ONE, WITHOUT, every, known, unknown
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import DOLOS, MINI, Maker


def make(record, tmp_path, skip=None) -> Study:
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record, crossed.truth, skip, checkpoints=("best",))
    return Study(record, Results(workspace, record))


@pytest.fixture(scope="module")
def shift(tmp_path_factory) -> Study:
    return make(crossed.generator_shift(), tmp_path_factory.mktemp("shift"))


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory) -> Study:
    return make(crossed.segmenters(), tmp_path_factory.mktemp("segmenters"))


def test_two_stages_of_one_model_are_one_matrix(shift):
    (model,) = models.models(shift)
    assert model.name == "xception to block 2"
    assert [column.name for column in model.columns] == [
        *shift.record.domains,
        *(f"without-{domain}" for domain in shift.record.domains),
    ]
    assert [part.kind for part in model.parts] == [ONE, WITHOUT]


def test_id_and_ood_are_means_over_the_right_cells(shift):
    (model,) = models.models(shift)
    single, rest = model.parts
    trials = {trial.fingerprint: trial for trial in shift.record.trials}

    def cells(part, inside):
        pairs = [
            (trials[group.first.trial.fingerprint], domain) for group in part.groups for domain in shift.record.domains
        ]
        return [crossed.truth(trial, d) for trial, d in pairs if (d in trial.spec.train.counts) == inside]

    for part, sizes in ((single, (4, 12)), (rest, (12, 4))):
        for inside, which, size in ((True, known, sizes[0]), (False, unknown, sizes[1])):
            wanted = cells(part, inside)
            assert len(wanted) == size
            assert part.mean(shift, which).value == pytest.approx(sum(wanted) / size)


def test_a_mean_without_cells_is_absent(segmenters):
    (configurations,) = {part.kind: part for part in models.models(segmenters)[0].parts}.values()
    assert configurations.kind == ALL
    assert configurations.mean(segmenters, unknown) is None
    assert configurations.mean(segmenters, every).value == configurations.mean(segmenters, known).value


def test_a_mean_with_a_hole_is_a_hole(tmp_path):
    def skip(trial):
        return "failed" if trial.axes.get("domain") == DOLOS[0] and trial.spec.decoder.name == "xception" else ""

    study = make(crossed.generator_shift(), tmp_path, skip)
    single, rest = models.models(study)[0].parts
    assert (single.mean(study, known), single.valid, single.hole) == (None, None, "failed")
    assert rest.mean(study, known) is not None


def test_the_best_configuration_joins_its_stages(segmenters):
    found = {model.name: model for model in models.models(segmenters)}
    assert len(found) == 8
    best = found["unetplusplus, resnet50, jaccard"]
    assert len(best.columns) == 9
    assert all(len(model.columns) == 1 for name, model in found.items() if model is not best)
    (train_all,) = models.narrow(list(found.values())).items()
    assert (train_all[0], len(train_all[1])) == ("train_all_4", 8)


def test_other_counts_are_another_model(tmp_path):
    maker = Maker(valid=3)
    for count in (8, 16):
        for domain in MINI:
            maker.plan(f"of-{count}", {domain: count}, domain=domain)
    study = make(studies.record(maker, "mini", synthetic=True), tmp_path)
    assert [model.name for model in models.models(study)] == ["of-8, srm/stats, conv-4", "of-16, srm/stats, conv-4"]


def test_models_of_two_stages_that_are_called_alike_are_told_apart(tmp_path):
    study = make(crossed.losses(), tmp_path)
    names = [model.name for model in models.models(study)]
    assert len(names) == len(set(names)) == 8
    assert names[0] == "segmenter, no augment, dice"
    assert "frozen, blur, bce" in names


def test_a_kind_is_ranked_by_validation_not_by_test(tmp_path):
    def truth(trial, domain):
        deep = trial.spec.decoder.depth == 12
        if domain not in trial.spec.train.counts:
            return 0.9 if deep else 0.1
        return 0.3 if deep else 0.6

    record = crossed.decoder_depth()
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record, truth, checkpoints=("best",))
    study = Study(record, Results(workspace, record))
    (block,) = models.parts(study, models.models(study)).values()
    assert [part.valid for part in block] == sorted((part.valid for part in block), reverse=True)
    assert block[-1].mean(study, every).value > block[0].mean(study, every).value


def test_a_fine_tuning_study_has_no_matrix(mini_study):
    assert models.models(mini_study) == []


def test_only_what_was_not_trained_on_is_left_out_of_a_column(tmp_path):
    """The axis alone does not say it: from scratch the held-out domain is what a model is trained on."""
    maker = Maker(valid=3)
    crossed.leave_one_out(maker, "leave-one-out", 9)
    for domain in MINI:
        maker.plan("alone", {domain: 27}, held_out=domain)
    study = make(studies.record(maker, "mini", synthetic=True), tmp_path)
    found = {column.name: column.kind for model in models.models(study) for column in model.columns}
    assert found == dict.fromkeys(MINI, ONE) | {f"without-{domain}": WITHOUT for domain in MINI}


def test_where_nobody_knows_what_was_trained_on_no_cell_is_out_of_domain(tmp_path):
    """As MLflow has no mean there, and as evaluate says unknown."""
    maker = Maker(valid=3)
    maker.plan("imported", {MINI[0]: 9}, spec={"lineage": Lineage(root="ab" * 32)})
    study = make(studies.record(maker, "mini", synthetic=True), tmp_path)
    column = models.MatrixColumn("imported", ONE, study.groups[0], {})
    assert [known(column, domain) for domain in MINI] == [True, False, False, False]
    assert not any(unknown(column, domain) for domain in MINI)


def test_test_domains_are_those_that_are_tested(tmp_path):
    study = make(crossed.source_shift(), tmp_path)
    assert study.tested == ["celebahq/repaint-p2"]
    (model,) = models.models(study)
    assert [column.name for column in model.columns] == ["celebahq/repaint-p2", "ffhq/repaint-p2"]


def test_pooled_iou_is_of_all_pixels_of_a_set(shift):
    (single, _) = models.models(shift)[0].parts
    assert single.over(shift, known, lambda score: score.of_set["pooled_iou"]) == pytest.approx(100 / 140)
