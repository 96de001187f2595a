"""What every trial of the shipped studies is, told without a name; of made-up ones, what a name would get wrong."""

import pytest

from dfloc.planned import PlannedTrial
from dfloc.report.controls import main
from dfloc.report.roles import ALONE, BASE, COMPOSED, MIXTURE, REPLAYED, SOLVED, TUNED, roles, told
from dfloc.sweep.sweep_file import shipped
from tests.report import studies
from tests.report.planned import planned
from tests.report.studies import MINI, Maker

KINDS = {  # by stage, in any study
    "base": [{BASE, MIXTURE}],
    "finetune": [{TUNED}],
    "finetune-equal-steps": [{TUNED}],
    "replay": [{REPLAYED}],
    "baselines": [{SOLVED}],
    "budgets": [{MIXTURE}, {ALONE}],
    "composed": [{COMPOSED}],
    **{
        stage: [{ALONE}]
        for stage in (
            *("scratch", "scratch-equal-steps", "single", "same-generator", "mixed", "specialists"),
            *("setups", "other-source", "generators", "others", "patches"),
        )
    },
    **{
        stage: [{MIXTURE}]
        for stage in (
            *("leave-one-out", "all", "equal-total", "configurations", "segmenter", "frozen"),
            *("detector", "classify", "classifier", "generalist", "others-leave-one-out"),
        )
    },
}


@pytest.mark.parametrize("name", shipped())
def test_the_shipped_studies_are_told_without_names(name: str) -> None:
    record = planned(name)
    found = roles(record.trials, record.families)
    assert found
    for trial, role in zip(record.trials, found, strict=True):
        assert role.kinds in KINDS[trial.stage]
        assert role.held_out == trial.axes.get("held_out", "")
        assert role.n == trial.axes.get("n", role.n)
        assert role.domain == trial.axes.get("domain", role.domain)
        assert role.count == trial.axes.get("count", role.count)
        assert role.decoder == trial.axes.get("decoder", role.decoder)
    said = {axis: fact for stage in told(record.trials, found).values() for axis, fact in stage.items()}
    assert said.items() <= {axis: axis for axis in ("n", "domain", "count", "decoder")}.items()
    assert said.keys() == {axis for trial in record.trials for axis in trial.axes} & {"n", "domain", "count", "decoder"}


def test_an_axis_that_is_called_like_a_fact_and_says_another_is_not_told() -> None:
    maker = Maker(MINI[:2])
    for depth in (4, 8):
        base = maker.plan("base", {MINI[1]: 53}, held_out=MINI[0], count=depth)
        for n in (2, 4):
            maker.plan("finetune", {MINI[0]: n}, parent=base, held_out=MINI[0], count=depth, n=n)
    assert told(maker.trials, roles(maker.trials, {})) == {"base": {}, "finetune": {"n": "n"}}


def test_with_two_domains_a_base_may_be_a_model_from_scratch() -> None:
    maker = Maker(MINI[:2])
    base = maker.plan("base", {MINI[1]: 4}, lists="same", held_out=MINI[0])
    maker.plan("finetune", {MINI[0]: 4}, parent=base, held_out=MINI[0], n=4)
    alone = maker.plan("scratch", {MINI[1]: 4}, lists="same", held_out=MINI[1], n=4)
    maker.trials[-1] = alone.model_copy(update={"fingerprint": base.fingerprint, "spec": base.spec})
    first, _, last = roles(maker.trials, {})
    assert first.kinds == last.kinds == {BASE, ALONE}
    assert [role.exposed for role in (first, last)] == [False, True]


def test_without_the_axis_the_one_new_domain_of_a_fine_tuned_model_is_held_out() -> None:
    maker = Maker()
    base = maker.plan("base", dict.fromkeys(MINI[:2], 53))
    maker.plan("one", {MINI[2]: 8}, parent=base)
    maker.plan("two", dict.fromkeys(MINI[2:], 8), parent=base)
    _, one, two = roles(maker.trials, {})
    assert (one.held_out, one.n, one.exposed) == (MINI[2], 8, True)
    assert (two.held_out, two.exposed) == ("", False)


def test_of_several_fine_tunings_the_main_one_takes_most_over_from_its_base(study_of) -> None:
    maker = Maker(epoch_steps=None)
    maker.curves([50, 130], epochs=10)
    bases = {trial.axes["held_out"]: trial for trial in maker.trials if trial.stage == "base"}
    long: list[PlannedTrial] = []
    for trial in [trial for trial in maker.trials if trial.stage == "finetune"]:
        cell = {"held_out": trial.axes["held_out"], "n": trial.axes["n"], "lists": "curves"}
        maker.epoch_steps = 3
        long.append(maker.plan("a", trial.spec.train.counts, parent=bases[cell["held_out"]], epochs=10, **cell))
    others = [trial for trial in maker.trials if trial not in long]
    maker.trials = [*others[:1], *long, *others[1:]]
    found = main(study_of(studies.record(maker, "mini")))
    assert {group.stage for group in found.groups} == {"finetune"}
