"""The sweep `two-step`: its trainings are those of four other sweeps, with their evaluations."""

from pathlib import Path

import pytest

from dfloc.planned import PlannedTrial
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of

OTHERS = ("detection", "attribution", "single-domain", "cross-domain")


def trials(folder: Path, name: str, preset: str) -> dict[str, PlannedTrial]:
    options = SweepRequest(name, str(folder / "none"), preset=preset)
    workspace = Workspace(options.workspace, create=False)
    plan = prepare(options, workspace, data_of(options, workspace), Inventory(workspace, load=False)).plan
    return {trial.fingerprint: trial for trial in plan.record.trials}


@pytest.mark.parametrize("preset", ["paper", "mini", "smoke"])
def test_every_training_is_one_of_another_sweep(tmp_path: Path, preset: str) -> None:
    known = {name for other in OTHERS for name in trials(tmp_path, other, preset)}
    own = trials(tmp_path, "two-step", preset)
    lacking = [trial.name for name, trial in own.items() if name not in known and not trial.spec.parts]
    assert lacking == []
    assert sum(bool(trial.spec.parts) for trial in own.values()) == {"paper": 5, "mini": 3, "smoke": 3}[preset]


def test_evaluations_of_a_paper_are_shared_too(tmp_path: Path) -> None:
    """So that the rows that the other sweeps have scored are those that are joined."""
    every = [one for other in OTHERS for one in trials(tmp_path, other, "paper").values()]
    known = {each.key for one in every for each in one.evaluations}
    own = [one for one in trials(tmp_path, "two-step", "paper").values() if not one.spec.parts]
    assert [each for one in own for each in one.evaluations if each.key not in known] == []
