"""A folder pair joins a study by one command."""

from pathlib import Path

import pytest
from upath import UPath

from dfloc.data.manifest import Manifest
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from tests.cases import names
from tests.cli.test_data import write_odd_pair
from tests.command import Study

OWN, ASKED = ("mine/sd=edited,fake=white,split=60/20/20,real=real",), "domains=[tiny/blur,tiny/noise]"


@pytest.fixture
def study(tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A tree, and a folder pair beside it. Every path is relative to the user's folder, in which no worker lives."""
    monkeypatch.chdir(tmp_path)
    write_odd_pair(tmp_path / "edited", 12)
    for number in range(12):
        names.photo(tmp_path / f"edited/real/photo {number}.png")
    return Study(Path("w"), tiny_tree.relative_to(tmp_path))


def test_a_folder_pair_is_planned_before_it_is_imported(study: Study) -> None:
    options = SweepRequest("exposure", str(study.root), str(study.data), OWN, "smoke", (ASKED,))
    workspace = Workspace(study.root)
    planned = prepare(options, workspace, data_of(options, workspace), Inventory(workspace, load=False))
    assert not planned.data.present
    assert sum(trial.stage == "base" for trial in planned.plan.record.trials) == 3


@pytest.mark.parametrize("name", ["detection", "attribution"])
def test_a_generator_of_ones_own_takes_part_in_the_studies_of_images(name: str, study: Study) -> None:
    options = SweepRequest(name, str(study.root), str(study.data), OWN, "smoke", (ASKED,))
    workspace = Workspace(study.root)
    plan = prepare(options, workspace, data_of(options, workspace), Inventory(workspace, load=False)).plan
    specs = {trial.stage: trial.spec for trial in plan.record.trials}
    assert {each.domain for trial in plan.record.trials for each in trial.evaluations} >= {"mine/sd", "mine/real"}
    if name == "detection":
        alone = [set(trial.spec.train.counts) for trial in plan.record.trials if trial.stage == "single"]
        assert {"mine/sd", "tiny/real", "mine/real"} in alone
        assert set(specs["detector"].train.counts) >= {"mine/sd", "tiny/blur", "tiny/noise"}
    else:
        assert specs["classifier"].classes == ("real", "blur", "noise", "sd")


@pytest.mark.slow
@pytest.mark.ray
def test_a_folder_pair_joins_a_study_by_one_command(study: Study, ray_local: None) -> None:
    result = study.sweep(ASKED, own=OWN, only=("base",))
    assert result.code == 0, result.out
    held = Manifest.load(UPath(study.root / "shards" / "tree")).domains
    counts = [{split: part.count for split, part in held[name].splits.items()} for name in ("mine/sd", "mine/real")]
    assert counts[0] == counts[1], "a real image and the fake of its photograph lie in one split"
    info = held["mine/sd"]
    assert (info.mask_kind, sum(part.count for part in info.splits.values())) == ("fake_is_white", 12)
    trained = {
        trial.axes["held_out"]: set(trial.spec.train.counts) for trial in study.record("exposure-smoke-tree").trials
    }
    assert trained == {
        "mine/sd": {"tiny/blur", "tiny/noise"},
        "tiny/blur": {"mine/sd", "tiny/noise"},
        "tiny/noise": {"mine/sd", "tiny/blur"},
    }
    again = study.sweep(ASKED, own=OWN, only=("base",))
    assert "3 trials, 3 done, 0 to run" in again.out
    assert "images imported" not in again.out
