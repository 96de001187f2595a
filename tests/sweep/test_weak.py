"""Weak supervision: the trials that are planned, and what is learned on built-in data, by lines fixed before."""

import csv
import subprocess

import pytest

from dfloc.config import TrialSpec
from dfloc.ledger import Ledger
from dfloc.metrics import protocols
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from tests.command import DFLOC, SECONDS, Study, fresh
from tests.report.planned import planned

METHODS = ("patches", "gradcam", "attention")


@pytest.fixture(scope="module")
def paper() -> SweepRecord:
    return planned("weak")


def by_case(record: SweepRecord, stage: str = "setups") -> dict[str, TrialSpec]:
    return {trial.case: trial.spec for trial in record.trials if trial.stage == stage}


def test_thirty_three_trials_of_which_thirty_are_distinct(paper: SweepRecord) -> None:
    counts = {stage: sum(trial.stage == stage for trial in paper.trials) for stage in paper.stages}
    assert counts == {"setups": 9, "other-source": 10, "generators": 12, "baselines": 2}
    assert len({trial.fingerprint for trial in paper.trials}) == 30
    shared = {trial.fingerprint for trial in paper.trials if trial.stage == "generators"}
    setups = {trial.case: trial.fingerprint for trial in paper.trials if trial.stage == "setups"}
    assert {case for case, found in setups.items() if found in shared} == {f"{method}-B" for method in METHODS}


def test_a_study_of_p2_says_that_repaint_inpaints_with_its_network(paper: SweepRecord) -> None:
    [said] = [note for note in paper.notes if "network" in note]
    assert "celebahq/repaint-p2" in said
    assert "trained on celebahq/p2 or ffhq/p2" in said
    assert not [note for note in planned("source-shift").notes if "network" in note]


def test_patches_with_masks_are_the_trials_of_source_shift(paper: SweepRecord) -> None:
    others = {trial.fingerprint for trial in planned("source-shift").trials if trial.stage == "single"}
    ours = {trial.fingerprint for trial in paper.trials if trial.case == "patches-C"}
    assert ours == others


def test_the_setups_differ_in_what_teaches(paper: SweepRecord) -> None:
    specs = by_case(paper)
    for case, spec in specs.items():
        method, setup = case.rsplit("-", 1)
        assert (
            set(spec.train.counts)
            == {
                "A": {"celebahq/real", "celebahq/p2"},
                "B": {"celebahq/real", "celebahq/repaint-p2-9k"},
                "C": {"celebahq/repaint-p2"},
            }[setup]
        )
        weak = setup != "C"
        assert spec.targets == ("label" if weak and method == "patches" else "own")
        assert spec.task == ("detect" if weak and method != "patches" else "localize")
        assert spec.maps[0].map == ("pixels299" if weak and method != "attention" else "pixels")
        assert (spec.augment is not None) == (weak and method != "attention")
        assert spec.loss.name == (
            "attention" if weak and method == "attention" else "ce" if method == "gradcam" and weak else "bce"
        )
        assert (spec.select, spec.schedule.name, spec.epoch_steps) == ("loss", "constant", 500)
    assert specs["patches-A"].decoder.init == "patches"
    assert specs["patches-C"].decoder.init == "default"
    steps = {
        case: (spec.epochs, spec.batch, spec.optimizer.lr) for case, spec in specs.items() if not case.endswith("B")
    }
    assert steps == {
        "patches-A": (100, 64, 1e-3), "patches-C": (50, 16, 1e-3), "gradcam-A": (100, 32, 1e-3),
        "gradcam-C": (50, 16, 1e-3), "attention-A": (15, 16, 1e-4), "attention-C": (15, 16, 3e-4),
    }  # fmt: skip
    explained = {trial.case: trial.evaluations[0].explain for trial in paper.trials if trial.stage == "setups"}
    layers = {case: by.layer for case, by in explained.items() if by}
    assert layers == {"gradcam-A": "block11", "gradcam-B": "block11"}


@pytest.fixture(scope="module")
def mini(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Return IoU, PBCA and AP of each cell of the mini, of its best weights, by case; of the baselines by decoder."""
    root = tmp_path_factory.mktemp("weak") / "workspace"
    done = subprocess.run(
        [DFLOC, "sweep", "weak", "--preset", "mini", *finished.built_in, "--workspace", str(root)],
        capture_output=True, text=True, env=fresh(), timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    workspace = Workspace(root)
    [sweep] = (root / "sweeps").iterdir()
    record, ledger = SweepRecord.load(workspace.sweep(sweep.name)), Ledger(workspace)
    rule = protocols.find("dolos-2024")
    assert rule.of_pair is not None
    found = {}
    for trial in record.trials:
        rows = {one.domain: ledger.scored(one) for one in trial.evaluations if one.checkpoint == "best"}
        fakes, reals = rows["mini/renoise"], rows["mini/real"]
        means = {name: sum(fakes[name].to_pylist()) / len(fakes) for name in ("iou", "pbca")}
        found[trial.case or trial.spec.decoder.name] = means | rule.of_pair(fakes, reals, None)
    [file] = (root / "reports").glob("weak-mini*/evaluations.csv")
    with file.open(newline="") as table:
        told = {
            row["case"]: float(row["iou"])
            for row in csv.DictReader(table)
            if row["case"] and row["checkpoint"] == "best" and row["test_domain"] == "mini/renoise"
        }
    assert told == {case: pytest.approx(found[case]["iou"]) for case in told}
    assert len(told) == 9
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_where_images_are_wholly_generated_patches_learn_from_labels_and_else_they_do_not(
    mini: dict[str, dict[str, float]],
) -> None:
    assert mini["patches-A"]["iou"] >= 0.60
    assert mini["patches-A"]["iou"] >= mini["patches-B"]["iou"] + 0.15


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("method", ["gradcam", "attention"])
def test_models_of_whole_images_learn_more_from_local_fakes(method: str, mini: dict[str, dict[str, float]]) -> None:
    assert mini[f"{method}-B"]["iou"] > mini[f"{method}-A"]["iou"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("method", METHODS)
def test_masks_teach_the_most(method: str, mini: dict[str, dict[str, float]]) -> None:
    assert mini[f"{method}-C"]["iou"] > max(mini[f"{method}-{setup}"]["iou"] for setup in "AB")


@pytest.mark.slow
@pytest.mark.ray
def test_labels_teach_whether_an_image_is_fake_and_all_but_patches_b_where(mini: dict[str, dict[str, float]]) -> None:
    assert min(mini[f"{method}-{setup}"]["image_ap"] for method in METHODS for setup in "AB") >= 0.75
    floor = 2 * mini["all-fake"]["iou"]
    assert {case for case, one in mini.items() if "-" in case and case[-1] in "ABC" and one["iou"] <= floor} <= {
        "patches-B"
    }
