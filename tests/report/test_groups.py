import pytest

from dfloc.report import captions, reading
from dfloc.report.controls import main
from dfloc.report.groups import Study
from dfloc.report.resample import MeanOver, shared_runs
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.conftest import curve_of
from tests.report.studies import MINI, Maker


def test_a_curve_starts_at_its_base(mini_study):
    curve = curve_of(mini_study, "mini/telea")
    assert list(curve) == [0, 4, 16, 48]
    assert curve[0].stage == "base"
    assert curve[0].axes["held_out"] == "mini/telea"
    assert curve[16].score(["mini/telea"]).value == pytest.approx(studies.truth(curve[16].first.trial, "mini/telea"))
    assert list(curve_of(mini_study, "mini/telea", "from scratch")) == [4, 16, 48]


def test_seeds_and_draws_are_pooled(study_of):
    study = study_of(studies.mini(seeds=2), of=lambda trial, domain: 0.4 if trial.spec.seed else 0.6)
    group = curve_of(study, "mini/telea")[16]
    assert len(group.results) == 2
    found = group.score(["mini/telea"])
    assert (found.value, found.runs) == (pytest.approx(0.5), 2)


def test_a_missing_seed_is_counted_and_a_hole_is_named(study_of):
    record = studies.mini(seeds=2)

    def fate(trial):
        if trial.stage != "finetune" or trial.axes["held_out"] != "mini/telea":
            return ""
        if trial.axes["n"] == 4:
            return "failed"
        return "new" if trial.axes["n"] == 48 or trial.spec.seed else ""

    curve = curve_of(study_of(record, skip=fate), "mini/telea")
    assert curve[16].score(["mini/telea"]).runs == 1
    assert (curve[4].score(["mini/telea"]), curve[4].hole) == (None, "failed")
    assert (curve[48].score(["mini/telea"]), curve[48].hole) == (None, "not run")


@pytest.fixture
def whole_and_thirds(study_of) -> Study:
    """Three draws of two whole sets, which are one training each, and of a third of another; by 0.1 better each."""
    maker = Maker(num_test=12)
    whole = [maker.plan("single", {domain: 53}, domain=domain) for domain in MINI[:2]]
    for draw in (1, 2):
        maker.trials += [trial.model_copy(update={"axes": trial.axes | {"draw": draw}}) for trial in whole]
    for maker.draw in range(3):
        maker.plan("single", {MINI[2]: 20}, domain=MINI[2])
    return study_of(studies.record(maker, "mini"), of=lambda trial, domain: 0.3 + 0.1 * trial.axes["draw"])


def test_draws_of_a_whole_set_are_one_training(whole_and_thirds):
    study = whole_and_thirds
    whole, other, _ = study.groups
    assert [len(group.results) for group in study.groups] == [1, 1, 3]
    assert [group.score(MINI[:1]).runs for group in study.groups] == [1, 1, 3]
    assert study.mean_of([(whole, MINI[:1]), (other, MINI[:1])]).runs == 1
    assert shared_runs([MeanOver(((whole, MINI[0]), (other, MINI[1])))]) == [(0, 0)]
    assert " ".join(captions.provenance(study, [whole, other])).endswith(
        "Training seeds 0, sampling seeds 0. Intervals: 95 %, over source images: test sampling only."
    )
    words = dict(reading.lines(study, published=False))["Intervals"]
    assert "and over trainings, by the variance of the two-way layout" in words


def test_a_training_is_paired_with_each_draw_that_it_stands_for(whole_and_thirds):
    study = whole_and_thirds
    whole, _, thirds = study.groups
    mean = study.mean_of([(whole, MINI[:1]), (thirds, MINI[2:3])])
    assert (mean.value, mean.runs) == (pytest.approx((0.3 + 0.4) / 2), 3)
    less = study.less(thirds, whole, MINI[2:3])
    assert (less.value, less.runs) == (pytest.approx(0.1), 3)
    assert shared_runs([MeanOver(((whole, MINI[0]), (thirds, MINI[2])))]) == [(0, 0), (1, 0), (2, 0)]


def test_forgetting_is_the_root_less_ours(mini_study):
    group = curve_of(mini_study, "mini/telea")[48]
    found = mini_study.less(mini_study.base(group), group, ["mini/renoise"])
    base = studies.truth(mini_study.base(group).first.trial, "mini/renoise")
    assert found.value == pytest.approx(base - 0.3)
    assert found.low <= found.value <= found.high


def test_trials_of_other_test_lists_are_not_paired(mini_workspace):
    record = studies.mini()
    trial = record.trials[1]
    digests = [f"{number:064}" for number in range(len(trial.evaluations))]
    lists = [
        each.model_copy(update={"test": each.test.model_copy(update={"digest": digest})})
        for each, digest in zip(trial.evaluations, digests, strict=True)
    ]
    other = trial.model_copy(update={"evaluations": tuple(lists)})
    record = record.model_copy(update={"trials": (record.trials[0], other)})
    workspace = Workspace(mini_workspace.root.parent / "other-lists")
    studies.fill(workspace, record)
    study = Study(record, Results(workspace, record))
    base, tuned = study.groups
    assert study.less(base, tuned, [MINI[1]]) is None


def test_an_axis_that_a_user_turned_on_makes_facets(study_of):
    maker = Maker()
    base = maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])
    for mode, epochs in (("restart", 4), ("cumulative", 5)):
        maker.plan("finetune", {MINI[1]: 16}, parent=base, epochs=epochs, held_out=MINI[1], n=16, mode=mode)
    study = study_of(studies.record(maker, "mini"))
    assert main(study).facets == [(("mode", "restart"),), (("mode", "cumulative"),)]
    curve = curve_of(study, MINI[1], facet=(("mode", "cumulative"),))
    assert curve[16].first.trial.spec.epochs == 5
    assert curve[0].stage == "base"


def test_an_axis_with_one_value_makes_none(study_of):
    maker = Maker()
    base = maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])
    maker.plan("finetune", {MINI[1]: 16}, parent=base, epochs=4, held_out=MINI[1], n=16, mode="restart")
    assert main(study_of(studies.record(maker, "mini"))).facets == [()]


def test_two_starts_with_other_settings_are_not_taken_for_seeds(study_of):
    maker = Maker()
    base = maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])
    for epochs in (4, 9):
        maker.plan("finetune", {MINI[1]: 16}, parent=base, epochs=epochs, held_out=MINI[1], n=16)
    study = study_of(studies.record(maker, "mini"))
    assert main(study).facets == [(("epochs", 4),), (("epochs", 9),)]
    assert all(len(group.results) == 1 for group in study.groups)
