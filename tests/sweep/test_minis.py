"""Minis in one workspace, on built-in data: what is learned, by thresholds that were fixed before (srm, seed 0)."""

import csv
import subprocess
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from dfloc.ledger import Ledger
from dfloc.metrics import routing
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from tests.command import DFLOC, SECONDS, Study, fresh

DOMAINS = ("mini/telea", "mini/reencode", "mini/renoise", "mini/checkerboard")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def given(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*finished.built_in, "--workspace", str(tmp_path_factory.mktemp("minis") / "workspace")]


def ran(given: list[str], name: str, *options: str) -> str:
    """Run some trials of a study's mini; return what the command says."""
    command = [DFLOC, "sweep", name, "--preset", "mini", *given, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=fresh(), timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(given: list[str], name: str, *options: str, checkpoint: str = "best") -> list[dict[str, Any]]:
    """Run some trials of a study's mini; return what some weights of theirs have, with the case or stage as `who`."""
    ran(given, name, *options)
    wanted = options[-1].partition("=")[2] if options[-1].startswith("name=") else name
    [file] = Path(given[-1], "reports").glob(f"{wanted}-mini*/evaluations.csv")
    with file.open(newline="") as found:
        return [
            {**row, "who": row["case"] or row["stage"]}
            for row in csv.DictReader(found)
            if row["checkpoint"] == checkpoint and row["state"] == "done"
        ]


def accuracies(found: list[dict[str, Any]], who: str) -> dict[tuple[str, str], float]:
    """Return (trained on, tested on) -> balanced accuracy of the fakes and the reals."""
    return {
        (row["domain"], row["test_domain"]): float(row["image_accuracy"])
        for row in found
        if row["who"] == who and row["test_domain"] in DOMAINS
    }


def test_a_detector_knows_its_generator_and_not_the_others(given: list[str]) -> None:
    found = rows(given, "detection", "--only", "single/srm-linear", "--only", "baselines")
    cells = accuracies(found, "srm-linear")
    assert set(cells) == {(train, test) for train in DOMAINS for test in DOMAINS}
    inside = [value for (train, test), value in cells.items() if train == test]
    outside = [value for (train, test), value in cells.items() if train != test]
    assert min(inside) >= 0.70
    assert mean(inside) >= 0.82
    assert mean(inside) - mean(outside) >= 0.15
    assert list(accuracies(found, "baselines").values()) == [0.5] * 4


def test_shuffled_labels_teach_nothing(given: list[str]) -> None:
    """Of the last weights: the best ones are chosen by true labels of validation images, which do teach something."""
    shuffled = ("--set", "trial.targets=shuffled", "--set", "name=detection-shuffled")
    found = rows(given, "detection", "--only", "single/srm-linear", *shuffled, checkpoint="last")
    cells = accuracies(found, "srm-linear")
    assert mean(cells.values()) == pytest.approx(0.5, abs=0.12)
    assert mean(cells[name, name] for name in DOMAINS) == pytest.approx(0.5, abs=0.12)


def test_a_classifier_knows_who_made_it(given: list[str]) -> None:
    found = rows(given, "attribution", "--only", "classify/srm-linear", "--only", "baselines")
    recalls = {row["test_domain"]: float(row["image_recall"]) for row in found if row["who"] == "srm-linear"}
    assert set(recalls) == {*DOMAINS, "mini/real"}
    assert min(recalls.values()) >= 0.35
    assert mean(recalls.values()) >= 0.60
    [file] = Path(given[-1], "reports").glob("attribution-mini*/neighbours.csv")
    [near] = [row for row in csv.DictReader(file.read_text().splitlines()) if row["Model"] == "srm-linear"]
    assert float(near["10-NN"]) >= 0.5


def test_two_steps(given: list[str]) -> None:
    """Seed 0: what the specification asks of the mini; `oracle` is a router that is always right."""
    ran(given, "two-step")
    root = Path(given[-1])
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
    assert "12 done, 0 to run" in ran(given, "two-step")


def test_labels_teach_where_and_shuffled_ones_nothing(given: list[str]) -> None:
    few = ("--set", "domains=[mini/renoise]", "--set", "stages.mixed.grid={n: [0, 4, 48], m: [0, 96]}")
    patches = (*few, "--set", "stages.mixed.cases.clip=null")
    shuffled_too = ("--set", "stages.mixed.train.labels.targets=shuffled", "--set", "name=labels-shuffled")
    own, shuffled = (
        {
            (int(row["n"]), int(row["m"])): row
            for row in rows(given, "masks-or-labels", *patches, *more)
            if (row["stage"], row["test_domain"]) == ("mixed", "mini/renoise")
        }
        for more in ((), shuffled_too)
    )
    all_fake = float(own[0, 96]["iou_all_fake"])
    assert float(own[0, 96]["iou"]) > all_fake, "labels alone localize"
    assert float(shuffled[0, 96]["iou"]) < float(own[0, 96]["iou"])
    assert float(shuffled[0, 96]["iou_low"]) <= all_fake, "shuffled ones are not shown to be above all fake"
    for n in (4, 48):
        assert own[n, 0] == shuffled[n, 0], "masks alone are the same trial"
        assert float(shuffled[n, 96]["iou"]) <= float(own[n, 0]["iou_high"]), "never above masks alone"
