"""Detection and attribution on built-in data: what is learned, by thresholds that were fixed before (srm, seed 0)."""

import csv
import subprocess
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.command import DFLOC, SECONDS, Study, fresh

DOMAINS = ("mini/telea", "mini/reencode", "mini/renoise", "mini/checkerboard")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def given(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*finished.built_in, "--workspace", str(tmp_path_factory.mktemp("images") / "workspace")]


def rows(given: list[str], name: str, *options: str, checkpoint: str = "best") -> list[dict[str, Any]]:
    """Run some trials of a study's mini; return what some weights of theirs have, with the case or stage as `who`."""
    done = subprocess.run(
        [DFLOC, "sweep", name, "--preset", "mini", *given, *options],
        capture_output=True,
        text=True,
        env=fresh(),
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
