"""Images that are trained on by their labels alone, beside those with masks: lists, keys, and what is refused."""

from pathlib import Path

import pytest

from dfloc.errors import ConfigError, DataError
from dfloc.planned import PlannedTrial
from dfloc.sweep import reals
from dfloc.sweep.plan import Resolved
from dfloc.sweep.sweep_file import SweepFile
from tests.report.planned import planned as planned_at
from tests.sweep.test_reals import planned

MIXED = """
name: mixed
title: Masks or labels
domains: [tiny/blur, tiny/noise]
trial:
  maps: [srm/stats]
  decoder: {name: conv, depth: 4, channels: [4], out_size: 32}
  loss: bce
  optimizer: {name: adam}
  schedule: constant
  epochs: 1
  batch: 4
stages:
  mixed:
    grid: {held_out: "${domains}", n: [0, 2, 6], m: [0, 3]}
    train: [{domains: held_out, count: n, valid: 2}, {domains: [held_out, real], count: m, targets: label}]
  plain:
    grid: {held_out: "${domains}", n: [2, 6]}
    train: {domains: held_out, count: n, valid: 2}
  weak:
    train: {domains: [noise, real], count: 3, valid: 2, valid_domains: noise}
    trial: {targets: label}
evaluate: {domains: "${domains}", protocol: dfloc-1}
presets: {own: {}}
"""
LABELS, NO_M = "stages.mixed.train.labels", "stages.mixed.grid.m=null"


def plan(folder: Path, *settings: str, limit: int | None = None) -> Resolved:
    return planned(folder, *settings, study=MIXED, limit=limit)


def cell(found: Resolved, stage: str, **axes: object) -> PlannedTrial:
    every = [one for one in found.record.trials if one.stage == stage]
    (trial,) = [one for one in every if all(one.axes[name] == value for name, value in axes.items())]
    return trial


def ids(found: Resolved, trial: PlannedTrial) -> tuple[set[str], set[str]]:
    """Return the images of a trial, and those of its labels that say less than masks."""
    spec = trial.spec
    weak = {ref.id for ref in found.lists[spec.labelled.digest]} if spec.labelled else set()
    return {ref.id for ref in found.lists[spec.train.digest]}, weak


def test_labels_are_of_other_images_than_masks_and_nest(tmp_path: Path) -> None:
    found = plan(tmp_path)
    mixed = [one for one in found.record.trials if one.stage == "mixed"]
    assert len(mixed) == 2 * (3 * 2 - 1), "no images at all is no trial"
    masks, _ = ids(found, cell(found, "mixed", held_out="tiny/noise", n=6, m=0))
    every, weak = ids(found, cell(found, "mixed", held_out="tiny/noise", n=6, m=3))
    assert len(masks) == 6
    assert masks < every
    assert not masks & weak
    assert {one for one in every - masks if "/real/" not in one} == weak
    assert (len(every), len(weak)) == (6 + 3 + 3, 3)
    fewer, _ = ids(found, cell(found, "mixed", held_out="tiny/noise", n=2, m=3))
    alone, _ = ids(found, cell(found, "mixed", held_out="tiny/noise", n=0, m=3))
    reals_of = [{one for one in each if "/real/" in one} for each in (every, fewer, alone)]
    assert reals_of[0] == reals_of[1] == reals_of[2], "the same real images whatever n is"
    ranked, _ = ids(found, cell(found, "plain", held_out="tiny/noise", n=6))
    assert {one for one in fewer if "/real/" not in one} <= ranked, "labels follow in the ranks: 2 + 3 of 6"


def test_a_trial_without_labels_is_the_plain_one_and_labels_alone_are_targets_label(tmp_path: Path) -> None:
    found = plan(tmp_path)
    for held_out in ("tiny/blur", "tiny/noise"):
        for n in (2, 6):
            mixed, plain = (
                cell(found, stage, held_out=held_out, n=n, **m) for stage, m in (("mixed", {"m": 0}), ("plain", {}))
            )
            assert mixed.fingerprint == plain.fingerprint
    alone, weak = cell(found, "mixed", held_out="tiny/noise", n=0, m=3), cell(found, "weak")
    assert (alone.spec.targets, alone.spec.labelled) == ("label", None)
    assert alone.spec.train.counts == weak.spec.train.counts
    assert weak.spec.key.keys() == alone.spec.key.keys()
    both = cell(found, "mixed", held_out="tiny/noise", n=6, m=3)
    assert both.spec.labelled is not None
    assert both.spec.key["labelled"] == both.spec.labelled.digest
    assert both.spec.masked == {"tiny/noise": 6, "tiny/real": 3}
    assert both.spec.taught == "own and label"


def test_labels_that_say_as_much_as_masks_are_none(tmp_path: Path) -> None:
    plain = plan(tmp_path, "stages.mixed=null", "stages.plain.train.domains=[held_out,whole,real]")
    masks = "{domains: held_out, count: n, valid: 2, valid_domains: [held_out, whole, real]}"
    parts = f"[{masks}, {{domains: [whole, real], count: n, targets: label}}]"
    labelled = plan(tmp_path, "stages.mixed=null", f"stages.plain.train={parts}")
    for n in (2, 6):
        first, second = (cell(found, "plain", held_out="tiny/blur", n=n) for found in (plain, labelled))
        assert second.spec.labelled is None
        assert first.spec.train.counts == second.spec.train.counts


@pytest.mark.parametrize("zero", ["real", "rest"])
def test_a_domain_of_which_no_labels_are_asked_is_as_one_that_is_not_named(tmp_path: Path, zero: str) -> None:
    other = {"real": "rest", "rest": "real"}[zero]
    masks = "stages.mixed.grid.n=[2,6]"
    asked = plan(tmp_path, masks, f"{LABELS}.count={{{zero}: 0, {other}: m}}")
    named = plan(tmp_path, masks, f"{LABELS}.domains=[{'held_out' if zero == 'real' else 'real'}]")
    found = [{one.fingerprint for one in each.record.trials if one.stage == "mixed"} for each in (asked, named)]
    assert found[0] == found[1]
    assert len(found[0]) > 4, "some have labels"


def test_a_limit_scales_labels_and_leaves_none_nothing(tmp_path: Path) -> None:
    found = plan(tmp_path, "stages.mixed.grid.m=[0,12]", limit=4)
    counts = {
        (one.axes["n"], one.axes["m"]): one.spec.train.counts for one in found.record.trials if one.stage == "mixed"
    }
    assert counts[0, 4] == {"tiny/noise": 4, "tiny/real": 4}
    assert counts[2, 4] == {"tiny/noise": 2 + 4, "tiny/real": 4}
    assert counts[2, 0] == {"tiny/noise": 2}


def test_the_balance_is_of_what_labels_tell(tmp_path: Path) -> None:
    found = plan(tmp_path, "stages.weak=null", "stages.mixed.grid.n=[20]")
    assert list(reals.lines(found.all)) == [
        "balance of mixed: 3 real : 3 fake to train on, 0 real : 2 fake to validate on"
    ]
    assert not [note for note in found.record.notes if "Warning" in note]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["trial.targets=label"], "train.labels stand beside trial.targets=label.*leave out trial.targets"),
        (["trial.targets=shuffled"], "trial.targets=shuffled.*train.labels.targets=shuffled"),
        (
            ["stages.mixed.trial.task=detect", "stages.mixed.trial.loss=ce"],
            "task detect learns from labels alone anyhow",
        ),
        ([f"{LABELS}.domains=held_out"], "makes every pixel of every image fake; add real"),
        ([f"{LABELS}.domains=[held_out,reel]"], 'unknown domain "reel"'),
        ([f"{LABELS}.domains=held_out", f"{LABELS}.targets=shuffled"], "shuffled moves no label"),
        ([f"{LABELS}.domains=real", f"{LABELS}.targets=shuffled"], "shuffled moves no label"),
        ([f"{LABELS}.count=-1", NO_M], "labels.count"),
        ([f"{LABELS}.count=all", NO_M], "labels.count"),
        ([f"{LABELS}.count={{blur: 2}}", NO_M], "names no number for tiny/real"),
        ([f"{LABELS}.size=3"], "unknown key.*size"),
        (["stages.mixed.train.replay=equal"], "leave out replay and mode"),
        (["stages.plain.train.count=0", "stages.plain.grid.n=null"], "count should be 1 or more"),
        (["stages.mixed.grid.n=[0]", "stages.mixed.grid.m=[0]"], "stage mixed trains on no image"),
        (["stages.mixed.train=[{domains: held_out, count: 2, valid: 2}]"], "a list under `train` has two parts"),
        (["stages.mixed.train=[{domains: held_out, count: 2, valid: 2}, {domains: real, count: 3}]"], "two parts"),
    ],
)
def test_what_is_wrong_with_labels_is_one_sentence(tmp_path: Path, settings: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        plan(tmp_path, *settings)
    assert "\n" not in str(raised.value)


def test_too_few_images_for_masks_and_labels_are_counted_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tiny/blur has 90 train images, but the study asks for 94"):
        plan(tmp_path, "stages.mixed.grid.n=[4]", "stages.mixed.grid.m=[90]")


def test_both_spellings_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MIXED)
    parts = "{domains: held_out, count: n, valid: 2, labels: {domains: [held_out, real], count: m, targets: label}}"
    text = MIXED.replace(
        "[{domains: held_out, count: n, valid: 2}, {domains: [held_out, real], count: m, targets: label}]", parts
    )
    (tmp_path / "b.yaml").write_text(text)
    one, other = (SweepFile(tmp_path / name).choose("own").values for name in ("a.yaml", "b.yaml"))
    assert one == other


@pytest.mark.parametrize(("preset", "most"), [("paper", 3000), ("mini", 48), ("smoke", 4)])
def test_masks_alone_are_the_trials_of_exposure(preset: str, most: int) -> None:
    scratch = {one.fingerprint for one in planned_at("exposure", preset).trials if one.stage == "scratch"}
    mixed = [one for one in planned_at("masks-or-labels", preset).trials if one.case == "clip"]
    shared = [one for one in mixed if one.fingerprint in scratch]
    assert {one.axes["n"] for one in shared} >= {most}
    assert {one.axes["m"] for one in shared} == {0}
    assert {one.axes["held_out"] for one in shared} == {one.axes["held_out"] for one in mixed}
