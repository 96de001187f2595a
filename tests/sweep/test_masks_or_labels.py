"""Masks or labels, on built-in data: what labels alone teach, and that shuffled ones teach nothing."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import DFLOC, SECONDS, Study, fresh

pytestmark = [pytest.mark.slow, pytest.mark.ray]

FEW = (
    *("--set", "domains=[mini/renoise]", "--set", "stages.mixed.grid={n: [0, 48], m: [0, 96]}"),
    *("--set", "stages.mixed.cases.clip=null"),
)
SHUFFLED = ("--set", "stages.mixed.train.labels.targets=shuffled", "--set", "name=labels-shuffled")
Scores = dict[tuple[int, int], dict[str, str]]


@pytest.fixture(scope="module")
def scores(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Scores]:
    root = tmp_path_factory.mktemp("labels") / "workspace"
    given = [*finished.built_in, "--workspace", str(root)]

    def of(*more: str) -> Scores:
        command = [DFLOC, "sweep", "masks-or-labels", "--preset", "mini", *given, *FEW, *more]
        done = subprocess.run(command, capture_output=True, text=True, env=fresh(), timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        name = "labels-shuffled" if more else "masks-or-labels"
        [file] = Path(root).glob(f"reports/{name}-*/evaluations.csv")
        with file.open(newline="") as table:
            rows = [row for row in csv.DictReader(table) if row["stage"] == "mixed" and row["checkpoint"] == "best"]
        return {(int(row["n"]), int(row["m"])): row for row in rows if row["test_domain"] == "mini/renoise"}

    return of


def test_labels_teach_where_and_shuffled_ones_nothing(scores: Callable[..., Scores]) -> None:
    own, shuffled = scores(), scores(*SHUFFLED)
    all_fake = float(own[0, 96]["iou_all_fake"])
    assert float(own[0, 96]["iou"]) > all_fake, "labels alone localize"
    assert float(shuffled[0, 96]["iou"]) < float(own[0, 96]["iou"])
    assert float(shuffled[0, 96]["iou_low"]) <= all_fake, "shuffled ones are not shown to be above all fake"
    assert own[48, 0] == {**shuffled[48, 0]}, "masks alone are the same trial"
    assert float(shuffled[48, 96]["iou"]) <= float(own[48, 0]["iou_high"]), "never above masks alone"
