"""What a task of images asks of a sweep file: each mistake is one message at the plan."""

from pathlib import Path

import pytest

from dfloc.config import TrialSpec
from dfloc.errors import ConfigError
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of

FILE = """
name: small
title: Is it fake?
domains: data
device: cpu
trial:
  task: detect
  maps: [srm/stats]
  decoder: {name: linear, pool: mean}
  loss: ce
  optimizer: adam
  schedule: constant
  epochs: 2
  batch: 4
stages:
  single:
    grid: {domain: "${domains}"}
    train: {domains: [domain, real], count: 8, valid: 4}
evaluate: {domains: "${domains}", reals: [real], protocol: image-1}
presets: {own: {}}
"""
GRID = '    grid: {domain: "${domains}"}\n'
LOCALIZE = ("trial.task=localize", "trial.loss=bce", "trial.decoder.pool=null", "evaluate.protocol=declip-2025")


def planned(folder: Path, *settings: str) -> TrialSpec:
    """Return the spec of the first trial of the file with some settings."""
    crossed = not any("train.domains" in each and not each.endswith("=domain") for each in settings)
    (folder / "small.yaml").write_text(FILE if crossed else FILE.replace(GRID, ""))
    workspace = Workspace(folder / "workspace")
    request = SweepRequest(str(folder / "small.yaml"), str(workspace.root), preset="own", settings=settings)
    found = prepare(request, workspace, data_of(request, workspace), Inventory(workspace, load=False))
    return found.plan.resolved.record.trials[0].spec


def test_what_a_file_leaves_open_is_what_the_task_measures_first(tmp_path: Path) -> None:
    assert planned(tmp_path).select == "ap"
    assert planned(tmp_path, "trial.schedule=plateau").schedule.watch == "ap"
    assert planned(tmp_path, "trial.select=accuracy").select == "accuracy"
    local = planned(tmp_path, *LOCALIZE, "trial.schedule=plateau")
    assert (local.select, local.schedule.watch, local.classes) == ("iou", "iou", ())


def test_classes_are_real_and_the_families_of_what_is_trained_on_in_study_order(tmp_path: Path) -> None:
    spec = planned(tmp_path, "trial.task=attribute", "stages.single.train.domains=[real, all]")
    assert spec.classes == ("real", "checkerboard", "reencode", "renoise", "telea")
    assert spec.num_classes == 5
    assert planned(tmp_path).classes == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["stages.single.train.domains=domain"], r"task detect learns from photographs too: add some"),
        (["stages.single.train.domains=real"], r"task detect learns from fakes too: add some"),
        (["stages.single.train.valid_domains=domain"], r"the validation images have none of real; give train.valid"),
        (["trial.select=iou"], r"trial.select: task detect does not measure iou; use ap, loss, accuracy"),
        (["trial.schedule={name: plateau, watch: iou}"], r"trial.schedule.watch: task detect does not measure iou"),
        (["trial.targets=label"], r"trial.targets: label is what task detect learns anyhow"),
        (["evaluate.protocol=dolos-2024"], r"task detect gives no map, which protocol dolos-2024 measures"),
        (["trial.loss=dice"], r"loss dice reads a map, but decoder linear gives one answer an image"),
        ([*LOCALIZE, "trial.select=ap"], r"trial.select: task localize does not measure ap; use iou, loss"),
        ([*LOCALIZE, "trial.loss=ce"], r"loss ce reads one answer an image, but the task is to localize"),
        (
            [*LOCALIZE, "trial.targets=label", "stages.single.train.domains=domain"],
            r"trial.targets: label makes every pixel of every image fake; add real",
        ),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(tmp_path, *settings)


def test_weak_targets_are_planned_beside_photographs(tmp_path: Path) -> None:
    assert planned(tmp_path, *LOCALIZE, "trial.targets=label").targets == "label"
