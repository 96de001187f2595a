"""The sweep `two-step`: its trainings are those of four other sweeps, and what it shows on built-in data."""

import csv
import subprocess
from pathlib import Path

import pytest

from dfloc.ledger import Ledger
from dfloc.metrics import routing
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from tests.command import DFLOC, SECONDS, Study, fresh

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


@pytest.mark.slow
@pytest.mark.ray
def test_two_steps_on_built_in_data(finished: Study, tmp_path: Path) -> None:
    """Seed 0: what the specification asks of the mini; `oracle` is a router that is always right."""
    root = tmp_path / "workspace"
    command = [DFLOC, "sweep", "two-step", "--preset", "mini", *finished.built_in, "--workspace", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, env=fresh(), timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = (root / "reports").glob("two-step-mini*/two-step.csv")
    with file.open(newline="") as found:
        rows = {row["Pipeline"]: row for row in csv.DictReader(found) if row["Test domain"] == "mean"}
    alone, two = rows["generalist"], rows["classifier+4-specialists-clip"]
    assert float(two["Right router"]) > float(alone["Fakes"]) + 0.08
    assert float(two["With reals"]) > float(alone["With reals"])
    assert float(rows["empty map"]["With reals"]) == 0.5
    workspace = Workspace(root, create=False)
    record = SweepRecord.load(workspace.sweep("two-step-mini-mini"))
    assert record is not None
    ledger = Ledger(workspace)
    for trial in (one for one in record.trials if one.spec.decoder.rule == "argmax"):
        best = {each.domain: ledger.scored(each) for each in trial.evaluations if each.checkpoint == "best"}
        reals = routing.with_reals(best[record.tested[0]], best["mini/real"], "iou")
        assert reals.empty >= reals.passed
    again = subprocess.run(command, capture_output=True, text=True, env=fresh(), timeout=SECONDS)
    assert "12 done, 0 to run" in again.stdout
