"""Which models the panel of images shows: by what a study varies, and never by the name of a stage or axis."""

import pytest

from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.report.shown import FEW, shown
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import MINI
from tests.report.test_names import others, renamed
from tests.report.test_search import searched


def told(study: Study) -> tuple[list[str], str, str, str]:
    found = shown(study)
    return list(found.models), found.domain, found.judge, found.words


def test_a_fine_tuning_has_base_three_ns_and_controls_of_its_first_held_out_domain(mini_study):
    names, domain, judge, words = told(mini_study)
    tuned = [f"fine-tuned, n = {n}" for n in (4, 16, 48)]
    assert names == ["base", *tuned, "with replay, n = 48", "from scratch, n = 48"]
    assert domain == MINI[0]
    assert judge == "fine-tuned, n = 48", "the base has other validation images"
    assert words == f"Held out: {MINI[0]}, the first of the study's held-out domains."
    found = shown(mini_study).models
    assert all(model.trial.axes["held_out"] == MINI[0] for model in found.values())
    assert [found[name].trial.axes["n"] for name in tuned] == [4, 16, 48]
    assert found["base"].trial.fingerprint == found[tuned[0]].trial.spec.lineage.root


def test_of_many_ns_the_smallest_the_middle_and_the_largest_are_shown(study_of):
    study = study_of(studies.paper(ns=(250, 500, 750, 1000, 3000), num_test=12))
    assert told(study)[0][1:4] == [f"fine-tuned, n = {n}" for n in ("250", "750", "3,000")]


def test_what_is_not_finished_has_no_column_and_another_domain_stands_in(study_of):
    def skip(trial):
        n, held_out = trial.axes.get("n"), trial.axes.get("held_out")
        unfinished = held_out == MINI[0] and n is not None
        return "new" if unfinished or (trial.stage, n) in {("replay", 48), ("finetune", 16)} else ""

    study = study_of(studies.mini(), skip=skip)
    names, domain, *_ = told(study)
    assert domain == MINI[1]
    tuned = ["fine-tuned, n = 4", "fine-tuned, n = 48"]
    assert names == ["base", *tuned, "with replay, n = 16", "from scratch, n = 48"]


def test_all_columns_are_of_one_seed(study_of):
    def skip(trial):
        return "new" if trial.axes["seed"] == 0 and trial.axes.get("n") == 48 else ""

    study = study_of(studies.mini(seeds=2), skip=skip)
    assert {model.trial.axes["seed"] for model in shown(study).models.values()} == {1}


def test_where_only_bases_are_finished_they_are_shown(study_of):
    study = study_of(studies.mini(), skip=lambda trial: "" if trial.stage == "base" else "new")
    assert told(study)[0] == ["model 1"]


def test_losses_have_a_column_each_of_the_model_that_validation_chooses(study_of):
    names, domain, judge, words = told(study_of(crossed.losses(), crossed.truth))
    assert names == ["dice", "dice, blur", "bce", "bce, blur"]
    assert domain == MINI[0]
    assert judge == "dice, blur"
    assert words == f"linear with other losses; held out: {MINI[0]}."


def test_losses_alone_are_named_by_the_loss(study_of):
    record = crossed.losses()
    plain = tuple(trial for trial in record.trials if trial.spec.augment is None)
    assert told(study_of(record.model_copy(update={"trials": plain}), crossed.truth))[0] == ["dice", "bce"]


@pytest.mark.parametrize("make", [crossed.decoder_depth, crossed.sam2_decoders, crossed.segmenters])
def test_others_have_the_best_models_by_validation(study_of, make):
    study = study_of(make(), crossed.truth)
    names, domain, judge, words = told(study)
    assert 1 < len(names) <= FEW
    assert judge == names[0]
    assert words.startswith("The best models by validation; trained on ")
    values = [model.valid for model in shown(study).models.values()]
    assert values == sorted(values, reverse=True)
    counts = {tuple(model.trial.spec.train.counts) for model in shown(study).models.values()}
    assert len(counts) == 1, "all are trained on the same"
    trained = next(iter(counts))
    assert domain not in trained or set(study.tested) <= set(trained)


def test_a_search_has_its_best_points(tmp_path):
    study = searched(Workspace(tmp_path))
    names, domain, judge, words = told(study)
    done = sorted((0, 1, 4), key=lambda number: -shown(study).models[f"point {number}"].valid)
    assert names == [f"point {number}" for number in done]
    assert (domain, judge) == (MINI[0], names[0])
    assert words == "The 3 best points of the search by validation."
    assert shown(study).notes[names[0]].startswith("lr = ")


def test_a_search_that_leaves_domains_out_shows_who_did_not_see_the_domain(tmp_path):
    study = searched(Workspace(tmp_path), left_out=MINI, objective="leave-one-training-domain-out")
    assert {model.trial.axes["left_out"] for model in shown(study).models.values()} == {MINI[0]}


@pytest.mark.parametrize("make", [studies.mini, crossed.losses, crossed.decoder_depth, crossed.segmenters])
def test_the_names_of_stages_and_axes_decide_nothing(study_of, make):
    record = make()
    study = study_of(record, crossed.truth)
    other = renamed(record, others(record))
    again = Study(other, Results(study.results._ledger.workspace, other))
    assert [one.trial.fingerprint for one in shown(again).models.values()] == [
        one.trial.fingerprint for one in shown(study).models.values()
    ]
    assert shown(again).domain == shown(study).domain


def test_nothing_scored_shows_nothing(study_of):
    assert shown(study_of(studies.mini(), skip=lambda _: "new")) is None
