"""A folder pair joins a study by one command."""

from pathlib import Path

import pytest
from upath import UPath

from dfloc.data.manifest import Manifest
from dfloc.storage import Workspace
from dfloc.sweep.known import Known
from dfloc.sweep.prepare import Options, data_of, prepare
from tests.cli.test_data import write_odd_pair
from tests.command import Study

ASKED = "domains=[tiny/blur,tiny/noise]"


def pair(folder: Path) -> tuple[str, ...]:
    """Write a folder pair, and return it as `--own` names it."""
    write_odd_pair(folder, 12)
    return (f"mine/sd={folder},fake=white,split=60/20/20",)


def test_a_folder_pair_is_planned_before_it_is_imported(tiny_tree: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    options = Options("exposure", str(workspace.root), str(tiny_tree), pair(tmp_path / "edited"), "smoke", (ASKED,))
    planned = prepare(options, workspace, data_of(options, workspace), Known(workspace, load=False))
    assert not planned.data.present
    assert sum(trial.stage == "base" for trial in planned.plan.record.trials) == 3


@pytest.mark.slow
@pytest.mark.ray
def test_a_folder_pair_joins_a_study_by_one_command(tiny_tree: Path, tmp_path: Path, ray_local: None) -> None:
    own, study = pair(tmp_path / "edited"), Study(tmp_path / "w", tiny_tree)
    result = study.sweep(ASKED, own=own, only=("base",))
    assert result.code == 0, result.out
    info = Manifest.load(UPath(study.root / "shards" / "tree")).domains["mine/sd"]
    assert (info.mask_kind, sum(part.count for part in info.splits.values())) == ("fake_is_white", 12)
    trained = {
        trial.axes["held_out"]: set(trial.spec.train.counts) for trial in study.record("exposure-smoke-tree").trials
    }
    assert trained == {
        "mine/sd": {"tiny/blur", "tiny/noise"},
        "tiny/blur": {"mine/sd", "tiny/noise"},
        "tiny/noise": {"mine/sd", "tiny/blur"},
    }
    again = study.sweep(ASKED, own=own, only=("base",))
    assert "3 trials, 3 done, 0 to run" in again.out
    assert "images imported" not in again.out
