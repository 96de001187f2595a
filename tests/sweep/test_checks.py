"""Checks of a sweep file: what cannot be looked up is refused before anything runs, and nothing is trained anew."""

import pytest

from dfloc.errors import ConfigError
from dfloc.report import published
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from tests.report.planned import planned

CHECK = "checks=[{{name: a, stage: {stage}, domain: celebahq/ldm, {number}, tolerance: 0.1, because: b}}]"


def record(tmp_path, stage: str = "all", number: str = "value: 0.5"):
    options = SweepRequest(
        "first-day", str(tmp_path), preset="smoke", settings=(CHECK.format(stage=stage, number=number),)
    )
    workspace = Workspace(tmp_path, create=False)
    return prepare(options, workspace, data_of(options, workspace), Inventory(workspace, load=False)).plan.record


def test_the_checks_of_a_file_are_on_record(tmp_path):
    [check] = record(tmp_path).checks
    assert (check.stage, check.value, check.tolerance, check.metric) == ("all", 0.5, 0.1, None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"stage": "al"}, 'unknown stage "al"'),
        ({"stage": "all/half"}, 'unknown case of stage all "half"'),
        ({"number": "value: 0.5, axes: {deep: 3}"}, 'unknown axis of all "deep"'),
        ({"number": "value: 0.5, metric: iuo"}, 'unknown metric of declip-2025 "iuo"; did you mean "iou"'),
        ({"stage": "baselines"}, "check a: baselines is 2 trainings; name one by"),
        ({"number": "published: [s000.budget, a, b]"}, 'unknown published table "s000.budget"'),
        ({"number": "published: [s000.cross_domain.vit_rn50, celebahq/ldm, all]"}, "has no number at"),
        ({"number": "value: 0.5, published: [s000.budgets, a, b]"}, "one of them"),
    ],
)
def test_a_check_that_cannot_be_looked_up_is_refused(tmp_path, asked, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        record(tmp_path, **asked)


def test_a_check_of_one_training_of_several_is_kept(tmp_path):
    number = "value: 0.5, axes: {decoder: all-fake}, metric: f1_fixed"
    [check] = record(tmp_path, "baselines", number).checks
    assert check.axes == {"decoder": "all-fake"}


def test_the_trials_of_the_first_day_are_those_of_other_studies():
    own = {trial.fingerprint: trial.stage for trial in planned("first-day").trials}
    crossed = {trial.fingerprint: trial for trial in planned("cross-domain").trials}
    shifted = {trial.fingerprint: trial for trial in planned("generator-shift").trials}
    assert {crossed[name].case for name, stage in own.items() if stage != "patches"} == {"", "vit-rn50-conv-12"}
    [patches] = [name for name, stage in own.items() if stage == "patches"]
    assert (shifted[patches].stage, shifted[patches].axes["domain"]) == ("single", "celebahq/pluralistic")


def test_each_check_is_of_a_stage_that_its_protocol_scores():
    found = planned("first-day")
    assert found.protocols == ("declip-2025", "dolos-2024")
    for check in found.checks:
        [protocol] = {name for trial in found.trials if trial.stage == check.stage for name in trial.protocols}
        named = published.load()[check.published[0]].protocol if check.published else "declip-2025"
        assert protocol == named, check.name
