"""What a task of images asks of a sweep file: each mistake is one message at the plan."""

from pathlib import Path

import pytest

from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.errors import ConfigError
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep import image_task
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


def read(folder: Path, *settings: str, file: str = FILE) -> SweepRecord:
    """Return the plan of a file with some settings."""
    (folder / "small.yaml").write_text(file)
    workspace = Workspace(folder / "workspace")
    request = SweepRequest(str(folder / "small.yaml"), str(workspace.root), preset="own", settings=settings)
    return prepare(request, workspace, data_of(request, workspace), Inventory(workspace, load=False)).plan.record


def planned(folder: Path, *settings: str) -> TrialSpec:
    """Return the spec of the first trial of the file with some settings."""
    crossed = not any("train.domains" in each and not each.endswith("=domain") for each in settings)
    return read(folder, *settings, file=FILE if crossed else FILE.replace(GRID, "")).trials[0].spec


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
        (["trial.targets=label"], r"--set trial.targets=label: trial.targets: label is what task detect learns anyhow"),
        (["evaluate.protocol=dolos-2024"], r"task detect gives no map, which protocol dolos-2024 measures"),
        (
            ["trial.loss=attention"],
            r"loss attention reads a map, but decoder linear .*or a decoder that gives both: small-attention or",
        ),
        (
            ["trial.decoder={name: conv, pool: null}", "trial.loss=attention"],
            r'decoder "conv" gives a map, but the task asks for an answer an image; use linear or',
        ),
        (
            [*LOCALIZE, "trial.decoder={name: small-attention, pool: null}", "trial.loss=attention"],
            r"loss attention reads one answer an image, but the task is to localize; .*or set task: detect",
        ),
        (
            ["trial.decoder={name: small-attention, pool: null}", "trial.loss=bce"],
            r"loss bce reads masks, but this task learns from labels of images; use loss: ce or attention",
        ),
        (
            [
                "trial.decoder={name: small-attention, pool: null}",
                "trial.loss={name: sum, terms: [{name: ce}, {name: bce}]}",
            ],
            r"loss sum adds losses of maps, or of classes, not both; loss: attention reads both",
        ),
        (
            ["trial.decoder={name: timm, model: resnet18, pool: null}", "trial.maps=[pixels299]"],
            r"resnet18 sees 256 pixels, not 299; use maps: \[pixels\]",
        ),
        (["trial.augment={ops: [{name: flip, sigma: [0, 1]}]}"], r"flip does not read sigma, only probability and at"),
        (["trial.loss=dice"], r"loss dice reads a map, but decoder linear gives one answer an image"),
        ([*LOCALIZE, "trial.select=ap"], r"trial.select: task localize does not measure ap; use iou, loss"),
        ([*LOCALIZE, "trial.loss=ce"], r"loss ce reads one answer an image, but the task is to localize"),
        (
            [*LOCALIZE, "trial.targets=label", "stages.single.train.domains=domain"],
            r"--set trial.targets=label: trial.targets: label makes every pixel of every image fake; add real",
        ),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(tmp_path, *settings)


def test_a_test_domain_that_is_no_class_is_told_once_a_training(tmp_path: Path) -> None:
    given = "stages.single.train.domains=[real, mini/telea, mini/renoise]"
    one = FILE.replace(GRID, "")
    notes = read(tmp_path, "trial.task=attribute", given, file=one).notes
    told = "mini/checkerboard, mini/reencode have no recall, only what they are called"
    assert [note for note in notes if "tells apart" in note] == [f"single tells apart real, renoise, telea: {told}"]
    for settings in (["trial.task=attribute", "stages.single.train.domains=[real, all]"], [given]):
        assert not [note for note in read(tmp_path, *settings, file=one).notes if "tells apart" in note]


def test_domains_of_one_family_are_one_class_and_told(tmp_path: Path) -> None:
    given = "stages.single.train.domains=[real, mini/telea, mini/renoise]"
    [trial] = read(tmp_path, "trial.task=attribute", given, file=FILE.replace(GRID, "")).trials
    one = {"mini/telea": "x", "mini/renoise": "x"}
    assert image_task.classes("attribute", trial.spec.train, ["mini/telea"], one) == ("real", "x")
    merged = trial.model_copy(update={"spec": trial.spec.model_copy(update={"classes": ("real", "x")})})
    assert next(image_task.notes([merged], one)) == (
        "single takes mini/renoise and mini/telea for one class, x: they are of one family"
    )
    for name in ("real", "fake"):
        with pytest.raises(ConfigError, match=f"no class of generators can be called {name}; give .* family="):
            image_task.classes("attribute", trial.spec.train, [], {"mini/telea": name})


CHILD = FILE.replace(
    "evaluate:", "  child:\n    from: single\n    train: {domains: [all, real], count: 8, valid: 4}\nevaluate:"
)


@pytest.mark.parametrize("place", ["trial.task=attribute", "stages.child.trial.task=attribute"])
def test_a_trial_starts_from_weights_of_the_same_classes_alone(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=r"stage child: .* tell apart real, .* but is to tell apart real, checkerb"):
        read(tmp_path, place, file=CHILD)
    assert {trial.stage for trial in read(tmp_path, file=CHILD).trials} == {"single", "child"}


def test_a_detector_with_a_map_needs_no_explanation_for_a_protocol_of_maps(tmp_path: Path) -> None:
    both = ("trial.decoder={name: small-attention, pool: null}", "trial.loss=attention")
    dolos = "evaluate.protocol=dolos-2024"
    spec = planned(tmp_path, *both, dolos)
    assert (spec.loss.name, spec.loss.weight_map, spec.decoder.widths) == ("attention", 1.0, (16, 16))
    with pytest.raises(ConfigError, match="task detect gives no map, which protocol dolos-2024 measures"):
        planned(tmp_path, dolos)
    other = planned(tmp_path, *both, dolos, "trial.loss.weight_map=0")
    assert other.fingerprint != spec.fingerprint


def test_weak_targets_are_planned_beside_photographs(tmp_path: Path) -> None:
    assert planned(tmp_path, *LOCALIZE, "trial.targets=label").targets == "label"


def evaluations(folder: Path, *settings: str, file: str = FILE) -> list[EvaluationSpec]:
    """Return the evaluations of the first trial of a file with some settings."""
    return list(read(folder, *settings, file=file).trials[0].evaluations)


def test_an_explanation_is_of_all_tests_or_of_a_stage_and_of_no_validation(tmp_path: Path) -> None:
    plain = evaluations(tmp_path)
    root = evaluations(tmp_path, "evaluate.explain=grad-cam")
    assert {(one.split, one.explain and one.explain.called) for one in root} == {
        ("test", "grad-cam maps"),
        ("valid", None),
    }
    assert {one.key for one in plain if one.split == "valid"} <= {one.key for one in root}
    assert not {one.key for one in plain if one.split == "test"} & {one.key for one in root}
    stage = evaluations(tmp_path, "stages.single.evaluate.explain={name: grad-cam, layer: maps}")
    assert [one.key for one in stage] == [one.key for one in root]
    off = evaluations(tmp_path, "evaluate.explain=grad-cam", "stages.single.evaluate.explain=none")
    assert [one.key for one in off] == [one.key for one in plain]
    dolos = evaluations(tmp_path, "evaluate.explain=grad-cam", "evaluate.protocol=dfloc-1")
    assert {(one.split, one.protocol) for one in dolos} == {("test", "dfloc-1")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluate.explain=gradcam"], r"evaluate.explain"),
        (
            ["evaluate.explain={name: grad-cam, layer: layer4}"],
            r"evaluate.explain.*unknown layer of a head on srm",
        ),
        (["evaluate.explain={name: grad-cam, layer: ''}"], r"layer"),
        (["stages.single.evaluate.protocol=dfloc-1"], r"protocol"),
        ([*LOCALIZE, "evaluate.explain=grad-cam"], r"task localize gives a map itself"),
        (["trial.decoder={name: prior, pool: null}", "evaluate.explain=grad-cam"], r"decoder prior looks at no image"),
        (["stages.single.grid.evaluate.explain.layer=[maps, maps2]", "evaluate.explain=grad-cam"], r"maps2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_explained_is_refused_at_the_plan(tmp_path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        evaluations(tmp_path, *settings)
    assert len(str(told.value)) < 600


def test_a_trial_is_explained_by_one_layer(tmp_path: Path) -> None:
    end_to_end = ("trial.maps=[pixels]", "trial.decoder={name: timm, model: resnet18, pool: null}")
    asked = (*end_to_end, "evaluate.explain=grad-cam", "stages.single.grid.evaluate.explain.layer=[layer3, layer4]")
    with pytest.raises(ConfigError, match="layer4 would explain a trial that layer3 explains already; name one"):
        evaluations(tmp_path, *asked)
    keys = [evaluations(tmp_path, *asked[:3], f"evaluate.explain.layer={name}")[0].key for name in ("layer3", "layer4")]
    assert len({*keys}) == 2
    default = evaluations(tmp_path, *asked[:3])[0]
    assert (default.key, default.explain and default.explain.layer) == (keys[1], "layer4")
